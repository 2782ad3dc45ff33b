"""The minimal gated unit: one gate."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import logistic
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class MinimalGated:
    """A GRU whose one gate both forgets and resets.

    ::

        f(t) = σ(u_f(t) + v_f(t))                             (1)
        n(t) = tanh(u_n(t) + f(t) v_n(t))                     (2)
        h(t) = h(t-1) + f(t) (n(t) - h(t-1))                  (3)

    with u(t) = W x(t) + b and v(t) = U h(t-1), gates in the order f, n.

    Notes
    -----
    In the paper the gate is applied before the product, U_n (f h); here it is applied after the
    product, as in `GRU` and for the same reason.

    References
    ----------
    G.-B. Zhou, J. Wu, C.-L. Zhang and Z.-H. Zhou, "Minimal gated unit for recurrent neural
    networks", International Journal of Automation and Computing 13 (2016), 226-234.
    """

    gates: ClassVar[int] = 2
    state: ClassVar[tuple[str, ...]] = ("h",)
    retention: ClassVar[tuple[int, ...]] = (-1, 0)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (v_f, v_n) = state, v
        f = logistic(xp, u[0] + v_f)  # (1)
        n = xp.tanh(u[1] + f * v_n)  # (2)
        h = h + f * (n - h)  # (3)
        return (h,), (f, n, v_n)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        del xp
        (f, n, v_n), (h,), (dh,) = saved, previous, d_state
        da_n = dh * f * (1 - n * n)  # from (3), (2)
        df = dh * (n - h) + da_n * v_n  # from (3), (2)
        da_f = df * (f * (1 - f))  # from (1)
        return (da_f, da_n), (da_f, da_n * f), (dh - dh * f,)  # from (2), (3)
