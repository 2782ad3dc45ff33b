"""What the training loop asks of an optimizer."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from xprnn.backend.types import Array
from xprnn.engine.gradients import FactoredGradient, GradientArray, multiplied_out

Parameters: TypeAlias = Mapping[str, Array]
Gradients: TypeAlias = Mapping[str, GradientArray]
Updated: TypeAlias = tuple[Parameters, Any]
"""New parameters and a new state."""


@runtime_checkable
class Optimizer(Protocol):
    """An update rule as two pure functions; what it remembers is passed in and returned.

    The rules of this package also have ``update(..., into=(parameters, state))``: parameters and a
    state whose arrays the caller gives up, so that the new ones may take their place.  A rule
    without ``into`` is taken for one that knows of no `xprnn.engine.gradients.FactoredGradient`
    either: trainings, groups and averages hand it the dense one.
    """

    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first update."""
        ...

    def update(
        self, gradients: Gradients, state: Any, parameters: Parameters
    ) -> tuple[dict[str, Array], Any]:
        """Return the new parameters and the new state; the arguments stay as they are."""
        ...


@runtime_checkable
class Scalable(Optimizer, Protocol):
    """An optimizer with a learning rate, which can be scaled while it runs."""

    def scaled(self, state: Any, factor: float) -> Any:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        ...


def scaled(optimizer: Optimizer, state: Any, factor: float) -> Any:
    """Return the state of an optimizer within another one, its learning rate scaled.

    Raises
    ------
    TypeError
        If it has none.
    """
    if not isinstance(optimizer, Scalable):
        raise TypeError(f"{optimizer} has no learning rate to scale")
    return optimizer.scaled(state, factor)


def takes_into(optimizer: Optimizer) -> bool:
    """Whether an optimizer is of the form of this package's own: its update has ``into``."""
    return "into" in inspect.signature(optimizer.update).parameters


def updated(
    optimizer: Optimizer,
    gradients: Gradients,
    state: Any,
    parameters: Parameters,
    into: Updated | None,
) -> tuple[dict[str, Array], Any]:
    """Return what an optimizer within another one makes, in the place of arrays given up if it can.

    Parameters
    ----------
    into : (parameters, state), or None
    """
    factored = any(isinstance(g, FactoredGradient) for g in gradients.values())
    if not factored and into is None:
        return optimizer.update(gradients, state, parameters)
    if not takes_into(optimizer):
        gradients = {k: multiplied_out(g) for k, g in gradients.items()}
        return optimizer.update(gradients, state, parameters)
    reusing: Any = optimizer
    new: tuple[dict[str, Array], Any] = reusing.update(gradients, state, parameters, into=into)
    return new
