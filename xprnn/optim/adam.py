"""Adam: adaptive moment estimation."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend import namespace_of
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import GradientArray
from xprnn.optim import options
from xprnn.optim.counting import one_minus_power, root
from xprnn.optim.decay import Decayed, with_decay
from xprnn.optim.descent import Context, Descent
from xprnn.optim.protocol import Parameters
from xprnn.optim.schedules import Schedule
from xprnn.optim.walk import usable_epsilon, zeros_like


class AdamState(NamedTuple):
    """The state of Adam and AdamW.

    Attributes
    ----------
    iteration : int
        Updates done.
    m, v : dict of array
        The running means of the gradient and of its square, before (3) and (4).
    largest : dict of array
        The largest v so far; empty without ``amsgrad``.
    scale : float
        Factor of the learning rate.
    """

    iteration: int
    m: dict[str, Array]
    v: dict[str, Array]
    largest: dict[str, Array]
    scale: float = 1.0


class AdaptiveMoments(Descent[AdamState]):
    """What Adam and AdamW share; they differ in how the weight decay enters.

    Numbers in brackets are the equations of `Adam`.
    """

    betas: tuple[float, float]
    epsilon: float
    amsgrad: bool

    memories = ("m", "v", "largest")
    state_type = AdamState

    @abstractmethod
    def decay_weights(
        self, rate: float, decay: float, g: GradientArray, p: Array
    ) -> tuple[Array, Array]:
        """Return the g, dense, and the θ that (1) to (5) start from."""

    @property
    def kept(self) -> tuple[str, ...]:
        return self.memories if self.amsgrad else self.memories[:2]

    def first_state(self, parameters: Parameters) -> AdamState:
        return AdamState(
            0,
            zeros_like(parameters),
            zeros_like(parameters),
            zeros_like(parameters, when=self.amsgrad),
        )

    def formula(self, state: AdamState, context: Context) -> Rule:
        t, (beta_1, beta_2), rate = state.iteration + 1, self.betas, self.rate(state)
        # η m̂ / (√v̂ + ε) is η' m / (√v + ε'), which saves two passes over the parameters.
        correction = root(one_minus_power(beta_2, t))
        step_size = rate * correction / one_minus_power(beta_1, t)
        epsilon = self.epsilon * correction

        def formula(
            g: GradientArray, p: Array, m: Array, v: Array, largest: Array | None
        ) -> tuple[Array | None, ...]:
            g, p = self.decay_weights(rate, context.weight_decay, g, p)
            xp = namespace_of(g)
            m = beta_1 * m + (1 - beta_1) * g  # (1)
            v = beta_2 * v + (1 - beta_2) * (g * g)  # (2)
            if largest is not None:
                largest = xp.maximum(largest, v)
            root = xp.sqrt(v if largest is None else largest)
            step = m / (root + usable_epsilon(epsilon, g)) * step_size  # (3), (4)
            return p - step, m, v, largest  # (5)

        return formula


@dataclass(frozen=True)
class Adam(AdaptiveMoments):
    """Steps by the running mean of the gradient over the root of the running mean of its square.

    ::

        m = β₁ m + (1 - β₁) g                                         (1)
        v = β₂ v + (1 - β₂) g²                                        (2)
        m̂ = m / (1 - β₁ᵗ)                                             (3)
        v̂ = v / (1 - β₂ᵗ)                                             (4)
        θ = θ - η m̂ / (√v̂ + ε)                                        (5)

    with t = 1, 2, ... the number of the update; (3) and (4) correct for m and v starting at zero.
    With ``amsgrad``, (4) takes the largest v so far.  With ``weight_decay`` λ, g is the gradient
    plus λθ, so that m and v include the decay (in `AdamW` they do not).

    Parameters
    ----------
    learning_rate : float or callable
        η, above zero, or a schedule of `xprnn.optim.schedules`, ``iteration -> rate``.
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    epsilon : float
        ε, above zero; raised to the smallest normal number of the dtype where that is larger.
    weight_decay : float
        λ, at zero or above.
    decayed : str, sequence of str, or callable, optional
        The parameters that decay: patterns of names, or ``decayed(name, array)``.  None: the
        parameters with two axes or more, so biases do not decay.
    amsgrad : bool
        Divide by the largest v so far.
    lazy : bool
        What happens to rows (or columns) that a sparse gradient does not hold.  True: they and
        their moments stay unchanged.  False: the same as with the dense form.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, for
    ``amsgrad``; the paper has no (3) and (4) with it, here it is as in ``torch.optim.Adam``.

    Examples
    --------
    >>> import numpy as np
    >>> adam, p = Adam(0.1), {"w": np.array([1.0, 1.0])}
    >>> p, state = adam.update({"w": np.array([1e-3, -1e3])}, adam.init(p), p)
    >>> p["w"].round(3)
    array([0.9, 1.1])
    """

    learning_rate: float | Schedule = options.rate(0.001)
    betas: tuple[float, float] = options.pair((0.9, 0.999), below=1.0)
    epsilon: float = options.number(1e-8, open_=True)
    weight_decay: float = options.number(0.0)
    decayed: Decayed = options.decayed()
    amsgrad: bool = options.flag(default=False)
    lazy: bool = options.flag(default=True)

    def decay_weights(
        self, rate: float, decay: float, g: GradientArray, p: Array
    ) -> tuple[Array, Array]:
        del rate
        return with_decay(g, decay, p), p
