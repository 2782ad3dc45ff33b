"""Adagrad."""

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


class AdagradState(NamedTuple):
    """The state of Adagrad.

    Attributes
    ----------
    iteration : int
        Updates done.
    total : dict of array
        G, the sum of the squares of all gradients.
    scale : float
        Factor of the learning rate.
    """

    iteration: int
    total: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class Adagrad(Descent[AdagradState]):
    """Steps by the gradient over the root of the sum of its squares so far.

    ::

        η = learning_rate / (1 + decay·iteration)                     (1)
        G = G + g²                                                    (2)
        θ = θ - η g / (√G + ε)                                        (3)

    A weight whose gradient is mostly zero keeps a large step, which suits sparse gradients.
    Without weight decay, a sparse gradient gives the update of its dense form whatever ``lazy``
    is.  With ``weight_decay`` λ, g is the gradient plus λθ.

    Parameters
    ----------
    learning_rate : float or callable
        Above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    decay : float
        The decay in (1), at zero or above; ``iteration`` counts updates, from 0.
    initial : float
        The first G, at zero or above.
    epsilon : float
        ε, above zero; raised to the smallest normal number of the dtype where that is larger.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        The parameters that decay: patterns of names, or ``decayed(name, array)``.  None: the
        parameters with two axes or more, so biases do not decay.
    lazy : bool
        Whether rows (or columns) that a sparse gradient does not hold are spared weight decay.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12 (2011): the diagonal form, without a constraint; (1) and the
    place of ε are those of ``torch.optim.Adagrad``.
    """

    learning_rate: float | Schedule = options.rate(0.01)
    decay: float = options.number(0.0)
    initial: float = options.number(0.0)
    epsilon: float = options.number(1e-10, open_=True)
    weight_decay: float = options.number(0.0)
    decayed: Decayed = options.decayed()
    lazy: bool = options.flag(default=True)

    memories = ("total",)
    state_type = AdagradState

    def first_state(self, parameters: Parameters) -> AdagradState:
        total = {k: zero + self.initial for k, zero in zeros_like(parameters).items()}
        return AdagradState(0, total)

    def formula(self, state: AdagradState, context: Context) -> Rule:
        rate = self.rate(state)  # (1)

        def formula(g: GradientArray, p: Array, total: Array) -> tuple[Array | None, ...]:
            g = with_decay(g, context.weight_decay, p)
            total = total + g * g  # (2)
            root = namespace_of(g).sqrt(total)
            return p - rate * (g / (root + usable_epsilon(self.epsilon, g))), total  # (3)

        return formula
