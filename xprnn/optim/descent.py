"""What the rules with a learning rate share, so that a rule's own file is its equations."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from xprnn.backend.entry import entry
from xprnn.backend.types import Array, Rule
from xprnn.optim.arguments import (
    check_gradients,
    check_mapping,
    check_memory,
    check_state_type,
)
from xprnn.optim.decay import Decayed, decaying_names
from xprnn.optim.options import Checked
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.schedules import Schedule, rate_at
from xprnn.optim.walk import places, update_each


class DescentState(Protocol):
    """A named tuple: how many updates were done, the rule's memories, the scale of the rate."""

    @property
    def iteration(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def _replace(self) -> Callable[..., Any]: ...


State = TypeVar("State", bound=DescentState)


class Context(NamedTuple):
    """The parameters that a formula is made for.

    Attributes
    ----------
    weight_decay : float
        Zero for parameters that do not decay.
    in_place : bool
        Whether the formula may write into their arrays.
    """

    weight_decay: float
    in_place: bool


class Descent(Checked, InPlaceOptimizer, Generic[State]):
    """A rule with a learning rate and weight decay, which updates each parameter by one formula.

    A rule is a frozen dataclass whose fields are its options (`xprnn.optim.options`), including
    those below.  It adds the names of its memories, its first state and its formula.

    Attributes
    ----------
    learning_rate : float or callable
    decay : float
        Decay of the learning rate; zero in rules without this option.
    weight_decay : float
    decayed : str, sequence of str, callable or None
    lazy : bool
    memories : tuple of str
        The names of the state's dicts: each has an array for every parameter, or is empty.
    state_type : type
        The class of the state.
    """

    learning_rate: float | Schedule
    decay: float = 0.0
    weight_decay: float
    decayed: Decayed
    lazy: bool
    memories: ClassVar[tuple[str, ...]]
    state_type: ClassVar[type]

    @abstractmethod
    def first_state(self, parameters: Parameters) -> State:
        """Return the state before the first update."""

    @abstractmethod
    def formula(self, state: State, context: Context) -> Rule:
        """Return the formula of the next update, as `xprnn.optim.walk.update_each` takes it."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the memories that are not empty with these options."""
        return self.memories

    @property
    def skips_absent(self) -> bool:
        """Whether rows (or columns) that a sparse gradient does not hold stay unchanged."""
        return self.lazy

    def rate(self, state: State) -> float:
        """Return the learning rate of the next update: (1) of `SGD`, times the state's scale."""
        rate = rate_at(self.learning_rate, state.iteration)
        return state.scale * rate / (1 + self.decay * state.iteration)

    def scaled(self, state: State, factor: float) -> State:
        """Return the state with the rate of all later updates multiplied by the factor."""
        new: State = state._replace(scale=state.scale * factor)
        return new

    @entry
    def init(self, parameters: Parameters) -> State:
        check_mapping("parameters", parameters)
        # Finds a pattern that matches no parameter before any work is done.
        decaying_names(self.decayed, parameters)
        return self.first_state(parameters)

    @entry
    def update(
        self,
        gradients: Gradients,
        state: State,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], State]:
        check_gradients(gradients, parameters)
        self.check_state(state, parameters)
        in_place = into is not None and into[0] is parameters
        moved, *memories = update_each(
            self._formulas(state, parameters, in_place=in_place),
            gradients,
            parameters,
            *(getattr(state, name) for name in self.memories),
            lazy=self.skips_absent,
            into=places(into, self.memories),
        )
        changed = dict(zip(self.memories, memories, strict=True))
        new: State = state._replace(iteration=state.iteration + 1, **changed)
        return moved, new

    def check_state(self, state: object, parameters: Parameters) -> None:
        check_state_type(self, state, self.state_type)
        kept = self.kept
        for name in self.memories:
            check_memory(self, name, getattr(state, name), parameters, name in kept)

    def _formulas(self, state: State, parameters: Parameters, *, in_place: bool) -> dict[str, Rule]:
        formulas = dict.fromkeys(parameters, self.formula(state, Context(0.0, in_place)))
        if self.weight_decay:
            formula = self.formula(state, Context(self.weight_decay, in_place))
            formulas |= dict.fromkeys(decaying_names(self.decayed, parameters), formula)
        return formulas
