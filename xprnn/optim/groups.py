"""Parameter groups: each has an optimizer, and names decide which group a parameter is in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from xprnn.backend.types import Array
from xprnn.optim.arguments import check_gradients, check_mapping, check_state_type
from xprnn.optim.decay import matching, translated
from xprnn.optim.protocol import (
    Gradients,
    InPlaceOptimizer,
    Optimizer,
    Parameters,
    Updated,
    check_inner_state,
    scaled,
    updated,
)
from xprnn.optim.registry import get_optimizer


class ParameterGroupsState(NamedTuple):
    """The states of the groups' optimizers.

    Attributes
    ----------
    groups : tuple
        One state for each pattern, in their order; None for a frozen group.
    otherwise : object
        The state of the optimizer of all other parameters; None if they are frozen.
    """

    groups: tuple[Any, ...]
    otherwise: Any


@dataclass(frozen=True)
class ParameterGroups(InPlaceOptimizer):
    """Several optimizers, each for the parameters whose names match its pattern.

    Parameters
    ----------
    groups : mapping of str to Optimizer, str or None
        Patterns of parameter names (``*``, ``?`` and ``[...]`` as in file names), each with the
        optimizer of the parameters that it matches, or the optimizer's name.  None freezes the
        parameters.  Where several patterns match, the first one counts.
    otherwise : Optimizer, str or None
        For all parameters that no pattern matches; None freezes them.

    Raises
    ------
    TypeError, ValueError
        If a pattern is not a string, or an optimizer is neither a name nor an optimizer; by `init`,
        if a pattern matches no parameter, or only parameters that an earlier pattern matches.

    Notes
    -----
    A frozen parameter keeps its array.  Its gradient is computed nevertheless, and is part of the
    norm that gradients are clipped by.

    Examples
    --------
    >>> import xprnn
    >>> net = xprnn.RNN(2, 3, 1, rng=0)
    >>> slow_readout = ParameterGroups({"readout.*": "sgd", "*_hh_*": None}, otherwise="adam")
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
            translated(pattern)
        groups = {pattern: _known(optimizer) for pattern, optimizer in self.groups.items()}
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "otherwise", _known(self.otherwise))

    def init(self, parameters: Parameters) -> ParameterGroupsState:
        check_mapping("parameters", parameters)
        return _state(
            None if optimizer is None else optimizer.init(group)
            for optimizer, group in zip(self._optimizers(), self._divided(parameters), strict=True)
        )

    def update(
        self,
        gradients: Gradients,
        state: ParameterGroupsState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], ParameterGroupsState]:
        check_gradients(gradients, parameters)
        self.check_state(state, parameters)
        moved, states = dict(parameters), []
        optimizers, groups = self._optimizers(), self._divided(parameters)
        given_up = [None] * len(groups) if into is None else _states(into[1])
        for optimizer, inner, group, reused in zip(
            optimizers, _states(state), groups, given_up, strict=True
        ):
            new = None
            if optimizer is not None:
                own = {k: gradients[k] for k in group}
                within = None if into is None else (into[0], reused)
                changed, new = updated(optimizer, own, inner, group, within)
                moved.update(changed)
            states.append(new)
        return moved, _state(states)

    def check_state(self, state: Any, parameters: Parameters) -> None:
        check_state_type(self, state, ParameterGroupsState)
        optimizers, groups = self._optimizers(), self._divided(parameters)
        if len(state.groups) != len(self.groups):
            raise ValueError(
                f"state has {len(state.groups)} groups: expected {len(self.groups)}, "
                f"{', '.join(map(repr, self.groups))}"
            )
        for optimizer, inner, group in zip(optimizers, _states(state), groups, strict=True):
            if optimizer is not None:
                check_inner_state(optimizer, inner, group)

    def scaled(self, state: ParameterGroupsState, factor: float) -> ParameterGroupsState:
        """Return the state, the learning rates of all groups multiplied by the factor.

        Raises
        ------
        TypeError
            If the optimizer of a group has no learning rate.
        """
        return _state(
            None if optimizer is None else scaled(optimizer, inner, factor)
            for optimizer, inner in zip(self._optimizers(), _states(state), strict=True)
        )

    def _optimizers(self) -> tuple[Optimizer | None, ...]:
        return cast("tuple[Optimizer | None, ...]", (*self.groups.values(), self.otherwise))

    def _divided(self, parameters: Parameters) -> list[dict[str, Array]]:
        """Return the parameters of each group, and last those that no pattern matches."""
        left, divided = dict(parameters), []
        for pattern in self.groups:
            matched = matching("groups", pattern, parameters)
            group = {k: left.pop(k) for k in matched if k in left}
            if not group:
                raise ValueError(
                    f"groups has the pattern {pattern!r}, but earlier patterns match all that it "
                    f"matches: {', '.join(matched)}"
                )
            divided.append(group)
        return [*divided, left]


def _known(optimizer: Optimizer | str | None) -> Optimizer | None:
    return None if optimizer is None else get_optimizer(optimizer)


def _states(state: ParameterGroupsState) -> list[Any]:
    return [*state.groups, state.otherwise]


def _state(states: Iterable[Any]) -> ParameterGroupsState:
    *groups, otherwise = states
    return ParameterGroupsState(tuple(groups), otherwise)
