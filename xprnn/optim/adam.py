"""Adam: adaptive moment estimation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray
from xprnn.optim.decay import Decayed, check_decayed, decay_of, with_decay
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.schedules import Schedule, as_schedule, rate_at
from xprnn.optim.walk import above_zero, places, update_each, zeros_like

Decays: TypeAlias = Callable[[float, GradientArray, Array], tuple[Array, Array]]


class AdamState(NamedTuple):
    """What Adam and AdamW remember.

    Attributes
    ----------
    iteration : int
        Updates done.
    m, v : dict of array
        The running means of the gradient and of its square, not corrected.
    largest : dict of array
        The largest v so far; empty without ``amsgrad``.
    scale : float
        What the learning rate is multiplied by.
    """

    iteration: int
    m: dict[str, Array]
    v: dict[str, Array]
    largest: dict[str, Array]
    scale: float = 1.0


@dataclass(frozen=True)
class Adam(InPlaceOptimizer):
    """Steps by the running mean of the gradient over the root of the running mean of its square.

    ::

        m = β₁ m + (1 - β₁) g                                         (1)
        v = β₂ v + (1 - β₂) g²                                        (2)
        m̂ = m / (1 - β₁ᵗ)                                             (3)
        v̂ = v / (1 - β₂ᵗ)                                             (4)
        θ = θ - η m̂ / (√v̂ + ε)                                        (5)

    with t = 1, 2, ... the number of the update; (3) and (4) make up for m and v starting at zero.
    With ``amsgrad``, (4) takes the largest v so far; with ``weight_decay`` λ, g is the gradient
    plus λθ, which m and v then see too (`AdamW` keeps the two apart).

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
        What the weight decay is for: patterns of parameter names, or ``decayed(name, array)``.
        None: the parameters with two axes or more, so biases are left alone.
    amsgrad : bool
    lazy : bool
        What a sparse gradient does to the rows (or columns) that it does not hold: True, nothing,
        they and their moments stay as they are; False, what its dense form would do.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of range; by `init`, if a pattern matches no
        parameter.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, for
    ``amsgrad``, which there has no (3) and (4); here it is as in ``torch.optim.Adam``.

    Examples
    --------
    >>> import numpy as np
    >>> adam, p = Adam(0.1), {"w": np.array([1.0, 1.0])}
    >>> p, state = adam.update({"w": np.array([1e-3, -1e3])}, adam.init(p), p)
    >>> p["w"].round(3)
    array([0.9, 1.1])
    """

    learning_rate: float | Schedule = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decayed: Decayed = None
    amsgrad: bool = False
    lazy: bool = True

    def __post_init__(self) -> None:
        as_schedule("learning_rate", self.learning_rate)
        checked = {
            "betas": _check_betas(self.betas),
            "epsilon": checks.number("epsilon", self.epsilon, open_=True),
            "weight_decay": checks.number("weight_decay", self.weight_decay),
            "decayed": check_decayed(self.decayed),
            "amsgrad": checks.boolean("amsgrad", self.amsgrad),
            "lazy": checks.boolean("lazy", self.lazy),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def rate(self, state: AdamState) -> float:
        """Return the learning rate of the next update."""
        return state.scale * rate_at(self.learning_rate, state.iteration)

    def scaled(self, state: AdamState, factor: float) -> AdamState:
        """Return the state, the learning rate of all further updates multiplied by the factor."""
        return state._replace(scale=state.scale * factor)

    def init(self, parameters: Parameters) -> AdamState:
        # Finds a pattern that matches nothing before any work is done.
        decay_of(self.weight_decay, self.decayed, parameters)
        return AdamState(
            0,
            zeros_like(parameters),
            zeros_like(parameters),
            zeros_like(parameters, when=self.amsgrad),
        )

    def update(
        self,
        gradients: Gradients,
        state: AdamState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], AdamState]:
        def decays(decay: float, g: GradientArray, p: Array) -> tuple[Array, Array]:
            return with_decay(g, decay, p), p

        return self.update_decayed(gradients, state, parameters, decays, into)

    def update_decayed(
        self,
        gradients: Gradients,
        state: AdamState,
        parameters: Parameters,
        decays: Decays,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], AdamState]:
        """Update with a weight decay of another kind.

        ``decays(λ, g, θ)`` returns the g, dense, and the θ that the equations start from.
        """
        t, (beta_1, beta_2) = state.iteration + 1, self.betas
        # η m̂ / (√v̂ + ε) is η' m / (√v + ε'), which saves two passes over the parameters.
        root = math.sqrt(1 - beta_2**t)
        rate, epsilon = self.rate(state) * root / (1 - beta_1**t), self.epsilon * root

        def rule(
            decay: float, g: GradientArray, p: Array, m: Array, v: Array, largest: Array | None
        ) -> tuple[Array | None, ...]:
            g, p = decays(decay, g, p)
            xp = namespace_of(g)
            m = beta_1 * m + (1 - beta_1) * g  # (1)
            v = beta_2 * v + (1 - beta_2) * (g * g)  # (2)
            if largest is not None:
                largest = xp.maximum(largest, v)
            root = xp.sqrt(v if largest is None else largest)
            return p - m / (root + above_zero(epsilon, g)) * rate, m, v, largest  # (3) to (5)

        moved, m, v, largest = update_each(
            rule,
            gradients,
            parameters,
            state.m,
            state.v,
            state.largest,
            decay=decay_of(self.weight_decay, self.decayed, parameters),
            lazy=self.lazy,
            into=places(into, "m", "v", "largest"),
        )
        return moved, AdamState(t, m, v, largest, state.scale)


def _check_betas(betas: object) -> tuple[float, float]:
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise TypeError(f"betas is {betas!r}: expected two numbers")
    first, second = (checks.number(f"betas[{i}]", b, below=1.0) for i, b in enumerate(betas))
    return first, second
