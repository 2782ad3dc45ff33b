"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import GradientArray, multiplied_out, plus_times
from xprnn.optim import options
from xprnn.optim.decay import Decayed
from xprnn.optim.descent import Context, Descent
from xprnn.optim.protocol import Parameters
from xprnn.optim.schedules import Schedule
from xprnn.optim.walk import zeros_like


class SGDState(NamedTuple):
    """The state of SGD.

    Attributes
    ----------
    iteration : int
        Updates done.
    velocity : dict of array
        v, of the parameters' names and shapes; empty without momentum.
    scale : float
        Factor of the learning rate.
    """

    iteration: int
    velocity: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class SGD(Descent[SGDState]):
    """Gradient descent with a decaying learning rate and momentum.

    ::

        η = learning_rate / (1 + decay·iteration)                     (1)
        v = momentum·v - η g                                          (2)
        θ = θ + v                                                     (3)
        θ = θ + momentum·v - η g                                      (3'), with Nesterov's momentum

    (1) is the schedule `xprnn.optim.schedules.inverse_time`.  With ``weight_decay`` λ, g is the
    gradient plus λθ.

    A sparse gradient gives the same update as its dense form.  Without momentum and weight decay,
    only the rows or columns that it holds are computed; the others are copied (or, with ``into``,
    not touched).

    Parameters
    ----------
    learning_rate : float or callable
        Above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    momentum : float
        In [0, 1).
    nesterov : bool
        Nesterov's momentum, (3'); needs a momentum above 0.
    decay : float
        The decay in (1), at zero or above; ``iteration`` counts updates, from 0.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        The parameters that decay: patterns of names, or ``decayed(name, array)``.  None: the
        parameters with two axes or more, so biases do not decay.
    lazy : bool
        True: rows (or columns) that a sparse gradient does not hold stay unchanged, and so does
        their velocity: they are neither moved by it nor decayed.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    Notes
    -----
    ``torch.optim.SGD`` multiplies the step by η instead of the gradient, θ ← θ - η v, which is the
    same as long as η does not change.

    References
    ----------
    B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964).
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013: (2), (3) and (3').  The last is written in the variables
    of Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks" (2012).
    """

    learning_rate: float | Schedule = options.rate(0.01)
    momentum: float = options.number(0.0, below=1.0)
    nesterov: bool = options.flag(default=False)
    decay: float = options.number(0.0)
    weight_decay: float = options.number(0.0)
    decayed: Decayed = options.decayed()
    lazy: bool = options.flag(default=False)

    memories = ("velocity",)
    state_type = SGDState

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True, but momentum is 0: expected a momentum above 0")

    @property
    def kept(self) -> tuple[str, ...]:
        return self.memories if self.momentum else ()

    def first_state(self, parameters: Parameters) -> SGDState:
        return SGDState(0, zeros_like(parameters, when=bool(self.kept)))

    @property
    def skips_absent(self) -> bool:
        # Without momentum and weight decay, a gradient of zero changes nothing anyway.
        return self.lazy or not (self.momentum or self.weight_decay)

    def formula(self, state: SGDState, context: Context) -> Rule:
        rate, momentum = self.rate(state), self.momentum  # (1)

        def formula(g: GradientArray, p: Array, v: Array | None) -> tuple[Array | None, ...]:
            def less_decay(a: Array) -> Array:
                # Followed by plus_times(..., g, -rate): -η (g + λθ), and a sparse g stays sparse.
                return a - rate * context.weight_decay * p if context.weight_decay else a

            if v is None:
                return plus_times(less_decay(p), g, -rate, overwrite=context.in_place), None
            if self.nesterov:
                g = multiplied_out(g)  # (2) and (3') both need it
            v = plus_times(less_decay(momentum * v), g, -rate)  # (2)
            if self.nesterov:
                return plus_times(less_decay(p + momentum * v), g, -rate), v  # (3')
            return p + v, v  # (3)

        return formula
