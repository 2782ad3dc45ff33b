"""RMSprop."""

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


class RMSpropState(NamedTuple):
    """What RMSprop remembers.

    Attributes
    ----------
    iteration : int
        Updates done.
    v : dict of array
        The running mean of the gradient's square.
    m : dict of array
        The running mean of the gradient; empty unless ``centered``.
    velocity : dict of array
        b; empty without momentum.
    scale : float
        What the learning rate is multiplied by.
    """

    iteration: int
    v: dict[str, Array]
    m: dict[str, Array]
    velocity: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class RMSprop(InPlaceOptimizer):
    """Steps by the gradient over the root of the running mean of its square.

    ::

        v = α v + (1 - α) g²                                          (1)
        m = α m + (1 - α) g                                           (2)
        s = √v + ε                                                    (3)
        s = √(v - m²) + ε                                             (3'), if centered
        b = momentum·b + g / s                                        (4)
        θ = θ - η b                                                   (5)

    With ``weight_decay`` λ, g is the gradient plus λθ.

    Parameters
    ----------
    learning_rate : float or callable
        η, above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    alpha : float
        α, in [0, 1).
    epsilon : float
        ε, above zero; raised to the smallest normal number of the dtype where that is larger.
    momentum : float
        In [0, 1).
    centered : bool
        Divide by the standard deviation of the gradient.  One that hardly varies makes long steps:
        ε is all that bounds them.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        What the weight decay is for: patterns of parameter names, or ``decayed(name, array)``.
        None: the parameters with two axes or more, so biases are left alone.
    lazy : bool
        What a sparse gradient does to the rows (or columns) that it does not hold: True, nothing,
        they and what is remembered of them stay as they are; False, what its dense form would do.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", Coursera, Neural networks for machine
    learning (2012).
    A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850 (2013), for
    (2) and (3').  ε stands outside of the root, where Graves has it inside, and the momentum is
    without η, both as in ``torch.optim.RMSprop``.
    """

    learning_rate: float | Schedule = 0.01
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0
    decayed: Decayed = None
    lazy: bool = True

    def __post_init__(self) -> None:
        as_schedule("learning_rate", self.learning_rate)
        checked = {
            "alpha": checks.number("alpha", self.alpha, below=1.0),
            "epsilon": checks.number("epsilon", self.epsilon, open_=True),
            "momentum": checks.number("momentum", self.momentum, below=1.0),
            "centered": checks.boolean("centered", self.centered),
            "weight_decay": checks.number("weight_decay", self.weight_decay),
            "decayed": check_decayed(self.decayed),
            "lazy": checks.boolean("lazy", self.lazy),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def rate(self, state: RMSpropState) -> float:
        """Return the learning rate of the next update."""
        return state.scale * rate_at(self.learning_rate, state.iteration)

    def scaled(self, state: RMSpropState, factor: float) -> RMSpropState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return state._replace(scale=state.scale * factor)

    def init(self, parameters: Parameters) -> RMSpropState:
        # Finds a pattern that matches nothing before any work is done.
        decay_of(self.weight_decay, self.decayed, parameters)
        return RMSpropState(
            0,
            zeros_like(parameters),
            zeros_like(parameters, when=self.centered),
            zeros_like(parameters, when=self.momentum > 0),
        )

    def update(
        self,
        gradients: Gradients,
        state: RMSpropState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], RMSpropState]:
        rate, alpha = self.rate(state), self.alpha

        def rule(
            decay: float, g: GradientArray, p: Array, v: Array, m: Array | None, b: Array | None
        ) -> tuple[Array | None, ...]:
            g = with_decay(g, decay, p)
            xp = namespace_of(g)
            v = spread = alpha * v + (1 - alpha) * (g * g)  # (1)
            if m is not None:
                m = alpha * m + (1 - alpha) * g  # (2)
                # A variance; rounding could make it negative.
                spread = xp.clip(v - m * m, min=0.0)
            step = g / (xp.sqrt(spread) + above_zero(self.epsilon, g))  # (3), (3')
            if b is not None:
                step = b = self.momentum * b + step  # (4)
            return p - rate * step, v, m, b  # (5)

        moved, v, m, velocity = update_each(
            rule,
            gradients,
            parameters,
            state.v,
            state.m,
            state.velocity,
            decay=decay_of(self.weight_decay, self.decayed, parameters),
            lazy=self.lazy,
            into=places(into, "v", "m", "velocity"),
        )
        return moved, RMSpropState(state.iteration + 1, v, m, velocity, state.scale)
