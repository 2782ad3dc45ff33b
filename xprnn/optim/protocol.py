"""What a training asks of an optimizer, and what an optimizer can declare beyond that."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, multiplied_out

Parameters: TypeAlias = Mapping[str, Array]
Gradients: TypeAlias = Mapping[str, GradientArray]
Updated: TypeAlias = tuple[Parameters, Any]
"""New parameters and a new state."""


@runtime_checkable
class Optimizer(Protocol):
    """An update rule as two pure functions; its state is passed in and returned.

    These two methods are all that `xprnn.fit`, `ParameterGroups` and `Averaged` need.  A rule whose
    ``update`` can do more declares it by deriving from `InPlaceOptimizer`, as every rule of this
    package does.
    """

    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first update."""
        ...

    def update(
        self, gradients: Gradients, state: Any, parameters: Parameters
    ) -> tuple[dict[str, Array], Any]:
        """Return the new parameters and the new state; no argument is written to.

        A gradient is an array or a `xprnn.engine.gradients.SparseGradient`;
        `xprnn.engine.gradients.dense` makes an array of either.
        """
        ...


class InPlaceOptimizer(ABC):
    """An optimizer that declares that its ``update`` takes ``into`` and factored gradients.

    Deriving from this class is the whole declaration.  To any other optimizer, `xprnn.fit`,
    `ParameterGroups` and `Averaged` pass no ``into``, and in place of a factored gradient the dense
    matrix that it stands for.
    """

    @abstractmethod
    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first update."""

    @abstractmethod
    def update(
        self,
        gradients: Gradients,
        state: Any,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], Any]:
        """Return the new parameters and the new state.

        Parameters
        ----------
        gradients : mapping of str to array, SparseGradient or FactoredGradient
            `xprnn.engine.gradients.dense` makes an array of any of them.
        state : object
            What `init` or the previous ``update`` returned.
        parameters : mapping of str to array
        into : (parameters, state), optional
            Parameters and a state whose arrays the caller gives up: the new ones may be written
            into them.  None: no argument is written to.
        """

    def check_state(self, state: Any, parameters: Parameters) -> None:
        """Refuse a state that another rule made, or that is not of these parameters.

        Nothing is refused by default.  `ParameterGroups` and `Averaged` ask their inner optimizers
        before anything is changed, so that an update is made as a whole or not at all.
        """
        del state, parameters


@runtime_checkable
class Scalable(Optimizer, Protocol):
    """An optimizer with a learning rate, which can be scaled while it runs."""

    def scaled(self, state: Any, factor: float) -> Any:
        """Return the state with the rate of all later updates multiplied by the factor."""
        ...


def scaled(optimizer: Optimizer, state: Any, factor: float) -> Any:
    """Return the state of an inner optimizer, its learning rate scaled.

    Raises
    ------
    TypeError
        If the optimizer has no learning rate.
    """
    if not isinstance(optimizer, Scalable):
        raise TypeError(f"{optimizer} has no learning rate to scale")
    return optimizer.scaled(state, factor)


def check_inner_state(optimizer: Optimizer, state: Any, parameters: Parameters) -> None:
    """Refuse a state of an inner optimizer that does not fit, if the optimizer can tell."""
    if isinstance(optimizer, InPlaceOptimizer):
        optimizer.check_state(state, parameters)


def updated(
    optimizer: Optimizer,
    gradients: Gradients,
    state: Any,
    parameters: Parameters,
    into: Updated | None,
) -> tuple[dict[str, Array], Any]:
    """Return an inner optimizer's update, made with what that optimizer declares that it takes.

    Parameters
    ----------
    into : (parameters, state), or None
        Arrays that may be written to; only an `InPlaceOptimizer` gets them.
    """
    if isinstance(optimizer, InPlaceOptimizer):
        return optimizer.update(gradients, state, parameters, into=into)
    gradients = {k: multiplied_out(g) for k, g in gradients.items()}
    return optimizer.update(gradients, state, parameters)
