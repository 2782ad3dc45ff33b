"""Adagrad."""

from dataclasses import dataclass
from typing import NamedTuple

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray
from xprnn.optim.decay import Decayed, check_decayed, decay_of, with_decay
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.schedules import Schedule, as_schedule, rate_at
from xprnn.optim.walk import above_zero, places, update_each, zeros_like


class AdagradState(NamedTuple):
    """What Adagrad remembers.

    Attributes
    ----------
    iteration : int
        Updates done.
    total : dict of array
        G, the sum of the squares of all gradients.
    scale : float
        What the learning rate is multiplied by.
    """

    iteration: int
    total: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class Adagrad(InPlaceOptimizer):
    """Steps by the gradient over the root of the sum of all its squares.

    ::

        η = learning_rate / (1 + decay·iteration)                     (1)
        G = G + g²                                                    (2)
        θ = θ - η g / (√G + ε)                                        (3)

    A weight that is seldom in use keeps a large step for when it is: made for sparse gradients,
    whose update is that of their dense form whatever ``lazy`` says, as long as nothing decays.
    With ``weight_decay`` λ, g is the gradient plus λθ.

    Parameters
    ----------
    learning_rate : float or callable
        Above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    decay : float
        Of the learning rate, at zero or above; ``iteration`` counts updates, from 0.
    initial : float
        G at first, at zero or above.
    epsilon : float
        ε, above zero; raised to the smallest normal number of the dtype where that is larger.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        What the weight decay is for: patterns of parameter names, or ``decayed(name, array)``.
        None: the parameters with two axes or more, so biases are left alone.
    lazy : bool
        Whether weight decay leaves the rows (or columns) alone that a sparse gradient does not
        hold.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12 (2011): the diagonal form, without a constraint; (1), ε and
    its place as in ``torch.optim.Adagrad``.
    """

    learning_rate: float | Schedule = 0.01
    decay: float = 0.0
    initial: float = 0.0
    epsilon: float = 1e-10
    weight_decay: float = 0.0
    decayed: Decayed = None
    lazy: bool = True

    def __post_init__(self) -> None:
        as_schedule("learning_rate", self.learning_rate)
        checked = {
            "decay": checks.number("decay", self.decay),
            "initial": checks.number("initial", self.initial),
            "epsilon": checks.number("epsilon", self.epsilon, open_=True),
            "weight_decay": checks.number("weight_decay", self.weight_decay),
            "decayed": check_decayed(self.decayed),
            "lazy": checks.boolean("lazy", self.lazy),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def rate(self, state: AdagradState) -> float:
        """Return the learning rate of the next update."""
        initial = rate_at(self.learning_rate, state.iteration)
        return state.scale * initial / (1 + self.decay * state.iteration)  # (1)

    def scaled(self, state: AdagradState, factor: float) -> AdagradState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return state._replace(scale=state.scale * factor)

    def init(self, parameters: Parameters) -> AdagradState:
        # Finds a pattern that matches nothing before any work is done.
        decay_of(self.weight_decay, self.decayed, parameters)
        total = {k: zero + self.initial for k, zero in zeros_like(parameters).items()}
        return AdagradState(0, total)

    def update(
        self,
        gradients: Gradients,
        state: AdagradState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], AdagradState]:
        rate = self.rate(state)

        def rule(
            decay: float, g: GradientArray, p: Array, total: Array
        ) -> tuple[Array | None, ...]:
            g = with_decay(g, decay, p)
            total = total + g * g  # (2)
            root = namespace_of(g).sqrt(total)
            return p - rate * (g / (root + above_zero(self.epsilon, g))), total  # (3)

        moved, total = update_each(
            rule,
            gradients,
            parameters,
            state.total,
            decay=decay_of(self.weight_decay, self.decayed, parameters),
            lazy=self.lazy,
            into=places(into, "total"),
        )
        return moved, AdagradState(state.iteration + 1, total, state.scale)
