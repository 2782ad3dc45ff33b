"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, multiplied_out, plus_times
from xprnn.optim.decay import Decayed, check_decayed, decay_of
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.schedules import Schedule, as_schedule, rate_at
from xprnn.optim.walk import places, update_each, zeros_like


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
class SGD(InPlaceOptimizer):
    """Gradient descent with a decaying learning rate and momentum.

    ::

        η = learning_rate / (1 + decay·iteration)                     (1)
        v = momentum·v - η g                                          (2)
        θ = θ + v                                                     (3)
        θ = θ + momentum·v - η g                                      (3'), with Nesterov's momentum

    With ``weight_decay`` λ, g is the gradient plus λθ.

    A sparse gradient gives the update that its dense form would give; without momentum and weight
    decay the new parameter is a copy of the old one (or with ``into`` that itself), changed only in
    the rows or columns that the gradient holds.

    Parameters
    ----------
    learning_rate : float or callable
        Above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum; needs one.
    decay : float
        Of the learning rate, at zero or above; ``iteration`` counts updates, from 0.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        What the weight decay is for: patterns of parameter names, or ``decayed(name, array)``.
        None: the parameters with two axes or more, so biases are left alone.
    lazy : bool
        True: the rows (or columns) that a sparse gradient does not hold stay as they are, with
        their velocity, neither moved by it nor decayed.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

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
    weight_decay: float = 0.0
    decayed: Decayed = None
    lazy: bool = False

    def __post_init__(self) -> None:
        as_schedule("learning_rate", self.learning_rate)
        checked = {
            "momentum": checks.number("momentum", self.momentum, below=1.0),
            "decay": checks.number("decay", self.decay),
            "weight_decay": checks.number("weight_decay", self.weight_decay),
            "decayed": check_decayed(self.decayed),
            "lazy": checks.boolean("lazy", self.lazy),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True, but momentum is 0: expected a momentum above 0")

    def rate(self, state: SGDState) -> float:
        """Return the learning rate of the next update."""
        initial = rate_at(self.learning_rate, state.iteration)
        return state.scale * initial / (1 + self.decay * state.iteration)  # (1)

    def scaled(self, state: SGDState, factor: float) -> SGDState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return state._replace(scale=state.scale * factor)

    def init(self, parameters: Parameters) -> SGDState:
        # Finds a pattern that matches nothing before any work is done.
        decay_of(self.weight_decay, self.decayed, parameters)
        return SGDState(0, zeros_like(parameters, when=self.momentum > 0))

    def update(
        self,
        gradients: Gradients,
        state: SGDState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], SGDState]:
        rate, momentum = self.rate(state), self.momentum
        in_place = into is not None and into[0] is parameters

        def rule(
            decay: float, g: GradientArray, p: Array, v: Array | None
        ) -> tuple[Array | None, ...]:
            def less_decay(a: Array) -> Array:
                # With plus_times(..., g, -rate), -η (g + λθ), and a sparse g need not be dense.
                return a - rate * decay * p if decay else a

            if v is None:
                return plus_times(less_decay(p), g, -rate, overwrite=in_place), None
            if self.nesterov:
                g = multiplied_out(g)  # it is needed twice
            v = plus_times(less_decay(momentum * v), g, -rate)  # (2)
            if self.nesterov:
                return plus_times(less_decay(p + momentum * v), g, -rate), v  # (3')
            return p + v, v  # (3)

        moved, velocity = update_each(
            rule,
            gradients,
            parameters,
            state.velocity,
            decay=decay_of(self.weight_decay, self.decayed, parameters),
            # Without momentum and decay the dense form leaves the others alone, too.
            lazy=self.lazy or not (momentum or self.weight_decay),
            into=places(into, "velocity"),
        )
        return moved, SGDState(state.iteration + 1, velocity, state.scale)
