"""AdamW: Adam with the weight decay kept apart."""

from dataclasses import dataclass, fields

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense
from xprnn.optim.adam import Adam, AdamState
from xprnn.optim.decay import Decayed
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.schedules import Schedule


@dataclass(frozen=True)
class AdamW(InPlaceOptimizer):
    """Adam, whose weight decay shrinks the weights directly and is not part of the gradient.

    ::

        θ = θ - η λ θ                                                 (1)
        θ = Adam's step from there, with the gradient alone           (2)

    so that a weight with large gradients decays as fast as one with small ones.  The decay follows
    the learning rate: its schedule, and its scaling.

    Parameters
    ----------
    learning_rate, betas, epsilon, amsgrad : as of `Adam`
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        What the weight decay is for, as of `Adam`.  None: the parameters with two axes or more, so
        biases are left alone.
    lazy : bool
        As of `Adam`; rows (or columns) that a sparse gradient does not hold do not decay either.

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

    learning_rate: float | Schedule = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    decayed: Decayed = None
    amsgrad: bool = False
    lazy: bool = True

    def __post_init__(self) -> None:
        adam = self._adam()
        for field in fields(adam):
            object.__setattr__(self, field.name, getattr(adam, field.name))

    def _adam(self) -> Adam:
        return Adam(**{field.name: getattr(self, field.name) for field in fields(self)})

    def rate(self, state: AdamState) -> float:
        """Return the learning rate of the next update."""
        return self._adam().rate(state)

    def scaled(self, state: AdamState, factor: float) -> AdamState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return self._adam().scaled(state, factor)

    def init(self, parameters: Parameters) -> AdamState:
        return self._adam().init(parameters)

    def update(
        self,
        gradients: Gradients,
        state: AdamState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], AdamState]:
        rate = self.rate(state)

        def decays(decay: float, g: GradientArray, p: Array) -> tuple[Array, Array]:
            return dense(g), p * (1 - rate * decay) if decay else p  # (1)

        return self._adam().update_decayed(gradients, state, parameters, decays, into)  # (2)
