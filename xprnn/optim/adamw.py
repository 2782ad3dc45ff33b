"""AdamW: Adam with decoupled weight decay."""

from dataclasses import dataclass

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense
from xprnn.optim import options
from xprnn.optim.adam import AdaptiveMoments
from xprnn.optim.decay import Decayed
from xprnn.optim.schedules import Schedule


@dataclass(frozen=True)
class AdamW(AdaptiveMoments):
    """Adam with decoupled weight decay: it shrinks the weights and is not part of the gradient.

    ::

        θ = θ - η λ θ                                                 (1)
        θ = Adam's step from there, with the gradient alone           (2)

    so that weights with large and with small gradients decay equally fast.  The decay follows the
    learning rate, its schedule and its scaling.

    Parameters
    ----------
    learning_rate, betas, epsilon, amsgrad
        As in `Adam`.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        The parameters that decay, as in `Adam`.  None: the parameters with two axes or more, so
        biases do not decay.
    lazy : bool
        As in `Adam`; rows (or columns) that a sparse gradient does not hold do not decay either.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2,
    with the decay ηλ of ``torch.optim.AdamW`` (the paper's ηλ with α = 1 taken into λ).
    """

    learning_rate: float | Schedule = options.rate(0.001)
    betas: tuple[float, float] = options.pair((0.9, 0.999), below=1.0)
    epsilon: float = options.number(1e-8, open_=True)
    weight_decay: float = options.number(0.01)
    decayed: Decayed = options.decayed()
    amsgrad: bool = options.flag(default=False)
    lazy: bool = options.flag(default=True)

    def decay_weights(
        self, rate: float, decay: float, g: GradientArray, p: Array
    ) -> tuple[Array, Array]:
        return dense(g), p * (1 - rate * decay) if decay else p  # (1)
