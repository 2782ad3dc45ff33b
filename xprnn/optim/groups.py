"""Parameter groups: an optimizer for each, chosen by the parameters' names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from xprnn.backend.types import Array
from xprnn.optim.decay import matching
from xprnn.optim.protocol import (
    Gradients,
    InPlaceOptimizer,
    Optimizer,
    Parameters,
    Updated,
    scaled,
    updated,
)
from xprnn.optim.registry import get_optimizer


class ByNameState(NamedTuple):
    """What the groups' optimizers remember.

    Attributes
    ----------
    groups : tuple
        Their states in the order of the patterns; None for a frozen group.
    otherwise : object
        The state of the optimizer of all other parameters; None if they are frozen.
    """

    groups: tuple[Any, ...]
    otherwise: Any


@dataclass(frozen=True)
class ByName(InPlaceOptimizer):
    """Several optimizers, each for the parameters whose names match its pattern.

    Parameters
    ----------
    groups : mapping of str to Optimizer, str or None
        Patterns of parameter names (``*``, ``?`` and ``[...]`` as in file names) and the optimizer,
        or its name, of the parameters that they match.  None freezes them.  The first pattern that
        matches a name has it.
    otherwise : Optimizer, str or None
        Of all parameters that no pattern matches; None freezes them.

    Raises
    ------
    TypeError, ValueError
        If a pattern is no text, or an optimizer is none; by `init`, if a pattern matches no
        parameter, or only some that an earlier pattern has.

    Notes
    -----
    A frozen parameter keeps its array.  Its gradient is computed nevertheless, and counts where
    gradients are clipped by their common norm.

    Examples
    --------
    >>> import xprnn
    >>> net = xprnn.RNN(2, 3, 1, rng=0)
    >>> slow_readout = ByName({"readout.*": "sgd", "*_hh_*": None}, otherwise="adam")
    >>> slow_readout.init(net.parameters).groups
    (SGDState(iteration=0, velocity={}, scale=1.0), None)
    """

    groups: Mapping[str, Optimizer | str | None]
    otherwise: Optimizer | str | None

    def __post_init__(self) -> None:
        if not isinstance(self.groups, Mapping):
            raise TypeError(
                f"groups is {self.groups!r}: expected a dict of patterns of parameter names "
                "to optimizers"
            )
        for pattern in self.groups:
            if not isinstance(pattern, str):
                raise TypeError(
                    f"groups has the key {pattern!r}: expected a pattern of parameter names"
                )
        groups = {pattern: _known(optimizer) for pattern, optimizer in self.groups.items()}
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "otherwise", _known(self.otherwise))

    def init(self, parameters: Parameters) -> ByNameState:
        return _state(
            None if optimizer is None else optimizer.init(group)
            for optimizer, group in zip(self._optimizers(), self._divided(parameters), strict=True)
        )

    def update(
        self,
        gradients: Gradients,
        state: ByNameState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], ByNameState]:
        moved, states = dict(parameters), []
        groups = zip(
            self._optimizers(),
            (*state.groups, state.otherwise),
            self._divided(parameters),
            (None,) * (len(self.groups) + 1)
            if into is None
            else (*into[1].groups, into[1].otherwise),
            strict=True,
        )
        for optimizer, memory, group, given_up in groups:
            new = None
            if optimizer is not None:
                of_group = {k: gradients[k] for k in group}
                within = None if into is None else (into[0], given_up)
                changed, new = updated(optimizer, of_group, memory, group, within)
                moved.update(changed)
            states.append(new)
        return moved, _state(states)

    def scaled(self, state: ByNameState, factor: float) -> ByNameState:
        """Return the state, the learning rates of all groups multiplied by the factor.

        Raises
        ------
        TypeError
            If the optimizer of a group has none.
        """
        states = (*state.groups, state.otherwise)
        return _state(
            None if optimizer is None else scaled(optimizer, memory, factor)
            for optimizer, memory in zip(self._optimizers(), states, strict=True)
        )

    def _optimizers(self) -> tuple[Optimizer | None, ...]:
        return cast("tuple[Optimizer | None, ...]", (*self.groups.values(), self.otherwise))

    def _divided(self, parameters: Parameters) -> list[dict[str, Array]]:
        """Return the parameters of each group, and last those of none."""
        left, divided = dict(parameters), []
        for pattern in self.groups:
            matched = matching("groups", pattern, parameters)
            group = {k: left.pop(k) for k in matched if k in left}
            if not group:
                raise ValueError(
                    f"groups has the pattern {pattern!r}, but an earlier pattern has all that it "
                    f"matches: {', '.join(matched)}"
                )
            divided.append(group)
        return [*divided, left]


def _known(optimizer: Optimizer | str | None) -> Optimizer | None:
    return None if optimizer is None else get_optimizer(optimizer)


def _state(states: Iterable[Any]) -> ByNameState:
    *groups, otherwise = states
    return ByNameState(tuple(groups), otherwise)
