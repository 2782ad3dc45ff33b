"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.types import Array
from xprnn.optim.protocol import Gradients, Parameters
from xprnn.optim.schedules import Schedule, as_schedule
from xprnn.sparse import plus_times


class SGDState(NamedTuple):
    """What SGD remembers.

    Attributes
    ----------
    iteration : int
        Updates done.
    velocity : dict of array
        v, of the parameters' names and shapes; empty without momentum.
    scale : float
        What the learning rate is multiplied by.
    """

    iteration: int
    velocity: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class SGD:
    """Gradient descent with a decaying learning rate and momentum.

    ::

        η = learning_rate / (1 + decay·iteration)                     (1)
        v = momentum·v - η g                                          (2)
        θ = θ + v                                                     (3)
        θ = θ + momentum·v - η g                                      (3'), with Nesterov's momentum

    A sparse gradient gives the update that its dense form would give; without momentum the new
    parameter is a copy of the old one, changed only in the rows or columns that the gradient holds.

    Parameters
    ----------
    learning_rate : float or callable
        Above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum; needs one.
    decay : float
        At zero or above; ``iteration`` counts updates, from 0.

    Raises
    ------
    TypeError, ValueError
        If an option is no number, or out of range.

    Notes
    -----
    ``torch.optim.SGD`` multiplies η into the step instead of into the velocity, θ ← θ - η v, which
    is the same as long as η does not change.

    References
    ----------
    B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964).
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013: (2), (3) and (3').  The last is written in the variables
    of Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks" (2012).
    """

    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0

    def __post_init__(self) -> None:
        as_schedule("learning_rate", self.learning_rate)
        object.__setattr__(self, "momentum", checks.number("momentum", self.momentum, below=1.0))
        object.__setattr__(self, "decay", checks.number("decay", self.decay))
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True, but momentum is 0: expected a momentum above 0")

    def rate(self, state: SGDState) -> float:
        """Return the learning rate of the next update."""
        # float, because a NumPy number would give the parameters a dtype of its own.
        initial = float(as_schedule("learning_rate", self.learning_rate)(state.iteration))
        return state.scale * initial / (1 + self.decay * state.iteration)  # (1)

    def scaled(self, state: SGDState, factor: float) -> SGDState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return state._replace(scale=state.scale * factor)

    def init(self, parameters: Parameters) -> SGDState:
        return SGDState(0, {k: 0 * p for k, p in parameters.items()} if self.momentum else {})

    def update(
        self, gradients: Gradients, state: SGDState, parameters: Parameters
    ) -> tuple[dict[str, Array], SGDState]:
        rate, momentum = self.rate(state), self.momentum
        if not momentum:
            moved = {k: plus_times(p, gradients[k], -rate) for k, p in parameters.items()}
            return moved, state._replace(iteration=state.iteration + 1)
        velocity = {
            k: plus_times(momentum * v, gradients[k], -rate) for k, v in state.velocity.items()
        }  # (2)
        if self.nesterov:
            moved = {
                k: plus_times(p + momentum * velocity[k], gradients[k], -rate)
                for k, p in parameters.items()
            }  # (3')
        else:
            moved = {k: p + velocity[k] for k, p in parameters.items()}  # (3)
        return moved, SGDState(state.iteration + 1, velocity, state.scale)
