"""RMSprop."""

from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend import namespace_of
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import GradientArray
from xprnn.optim import options
from xprnn.optim.decay import Decayed, with_decay
from xprnn.optim.descent import Context, Descent
from xprnn.optim.protocol import Parameters
from xprnn.optim.schedules import Schedule
from xprnn.optim.walk import usable_epsilon, zeros_like


class RMSpropState(NamedTuple):
    """The state of RMSprop.

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
        Factor of the learning rate.
    """

    iteration: int
    v: dict[str, Array]
    m: dict[str, Array]
    velocity: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class RMSprop(Descent[RMSpropState]):
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
        Divide by the standard deviation of the gradient.  Where the gradient hardly varies the
        steps are long, and only ε bounds them.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        The parameters that decay: patterns of names, or ``decayed(name, array)``.  None: the
        parameters with two axes or more, so biases do not decay.
    lazy : bool
        What happens to rows (or columns) that a sparse gradient does not hold.  True: they and
        their part of the state stay unchanged.  False: the same as with the dense form.

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
    (2) and (3').  ε is added outside the root (Graves: inside), and η is not part of the momentum,
    both as in ``torch.optim.RMSprop``.
    """

    learning_rate: float | Schedule = options.rate(0.01)
    alpha: float = options.number(0.99, below=1.0)
    epsilon: float = options.number(1e-8, open_=True)
    momentum: float = options.number(0.0, below=1.0)
    centered: bool = options.flag(default=False)
    weight_decay: float = options.number(0.0)
    decayed: Decayed = options.decayed()
    lazy: bool = options.flag(default=True)

    memories = ("v", "m", "velocity")
    state_type = RMSpropState

    @property
    def kept(self) -> tuple[str, ...]:
        return ("v", *("m",) * self.centered, *("velocity",) * (self.momentum > 0))

    def first_state(self, parameters: Parameters) -> RMSpropState:
        return RMSpropState(
            0,
            zeros_like(parameters),
            zeros_like(parameters, when=self.centered),
            zeros_like(parameters, when=self.momentum > 0),
        )

    def formula(self, state: RMSpropState, context: Context) -> Rule:
        rate, alpha = self.rate(state), self.alpha

        def formula(
            g: GradientArray, p: Array, v: Array, m: Array | None, b: Array | None
        ) -> tuple[Array | None, ...]:
            g = with_decay(g, context.weight_decay, p)
            xp = namespace_of(g)
            v = spread = alpha * v + (1 - alpha) * (g * g)  # (1)
            if m is not None:
                m = alpha * m + (1 - alpha) * g  # (2)
                # A variance, which rounding could make negative.
                spread = xp.clip(v - m * m, min=0.0)
            step = g / (xp.sqrt(spread) + usable_epsilon(self.epsilon, g))  # (3), (3')
            if b is not None:
                step = b = self.momentum * b + step  # (4)
            return p - rate * step, v, m, b  # (5)

        return formula
