"""Resilient backpropagation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense
from xprnn.optim import options
from xprnn.optim.arguments import (
    check_gradients,
    check_mapping,
    check_memory,
    check_state_type,
)
from xprnn.optim.options import Checked
from xprnn.optim.protocol import Gradients, InPlaceOptimizer, Parameters, Updated
from xprnn.optim.walk import places, update_each


class RpropState(NamedTuple):
    """The state of Rprop: dicts with the parameters' names and shapes.

    Attributes
    ----------
    step : dict of array
        Δ, the size of every entry's next step.
    sign : dict of array
        The sign of the gradient at the previous update; 0 at first, and after a change of sign.
    """

    step: dict[str, Array]
    sign: dict[str, Array]


@dataclass(frozen=True)
class Rprop(Checked, InPlaceOptimizer):
    """Steps by the gradient's sign, with a step size for every entry.

    ::

        c = sign(g) · sign(previous g)                                (1)
        Δ = min(grow·Δ, largest)      where c > 0                     (2)
        Δ = max(shrink·Δ, smallest)   where c < 0                     (3)
        θ = θ - sign(g) Δ             where c ≥ 0, else θ             (4)

    After c < 0 the remembered sign is 0, so that the next update takes its step whatever the sign.
    The gradient's size plays no part.  Use it with full batches: the noise of small ones changes
    signs at random.

    Parameters
    ----------
    initial : float
        The first Δ.
    grow, shrink : float
        ``grow`` above 1, ``shrink`` between 0 and 1.
    smallest, largest : float
        The bounds of Δ.

    Raises
    ------
    TypeError, ValueError
        If an option is not a number, or is out of range.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", IEEE ICNN 1993; this is the variant iRprop⁻ of C. Igel and M. Hüsken,
    "Improving the Rprop learning algorithm" (2000), which ``torch.optim.Rprop`` implements too.
    """

    initial: float = options.number(0.01, open_=True)
    grow: float = options.number(1.2, least=1.0, open_=True)
    shrink: float = options.number(0.5, below=1.0, open_=True)
    smallest: float = options.number(1e-6, open_=True)
    largest: float = options.number(50.0, open_=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("largest", self.largest, least=self.smallest, open_=True)

    @entry
    def init(self, parameters: Parameters) -> RpropState:
        check_mapping("parameters", parameters)
        zeros = {k: 0 * p for k, p in parameters.items()}
        return RpropState({k: zero + self.initial for k, zero in zeros.items()}, zeros)

    @entry
    def update(
        self,
        gradients: Gradients,
        state: RpropState,
        parameters: Parameters,
        *,
        into: Updated | None = None,
    ) -> tuple[dict[str, Array], RpropState]:
        check_gradients(gradients, parameters)
        self.check_state(state, parameters)
        moved, step, sign = update_each(
            dict.fromkeys(parameters, self._formula),
            gradients,
            parameters,
            state.step,
            state.sign,
            lazy=False,
            into=places(into, ("step", "sign")),
        )
        return moved, RpropState(step, sign)

    def check_state(self, state: Any, parameters: Parameters) -> None:
        check_state_type(self, state, RpropState)
        for name in ("step", "sign"):
            check_memory(self, name, getattr(state, name), parameters, kept=True)

    def _formula(
        self, g: GradientArray, p: Array, step: Array, before: Array
    ) -> tuple[Array, Array, Array]:
        xp = namespace_of(p)
        sign = xp.sign(dense(g))
        change = sign * before  # (1)
        step = xp.where(change > 0, xp.clip(step * self.grow, max=self.largest), step)  # (2)
        step = xp.where(change < 0, xp.clip(step * self.shrink, min=self.smallest), step)  # (3)
        sign = xp.where(change < 0, xp.zeros_like(sign), sign)
        return p - sign * step, step, sign  # (4)
