"""The sLSTM: a long short-term memory with exponential gates."""

import math
from dataclasses import dataclass
from typing import ClassVar

from xprnn import checks
from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import log_logistic, logistic
from xprnn.cells.protocol import Arrays

FORGET = ("logistic", "exp")


@dataclass(frozen=True)
class SLSTM:
    """A memory c and its normaliser n behind exponential gates, which m keeps from overflowing.

    ::

        z(t) = tanh(a_z(t))                                   (1)
        o(t) = σ(a_o(t))                                      (2)
        l(t) = m(t-1) + ln σ(a_f(t)), or m(t-1) + a_f(t)      (3)
        m(t) = max(l(t), a_i(t))                              (4)
        i(t) = exp(a_i(t) - m(t))                             (5)
        f(t) = exp(l(t) - m(t))                               (6)
        c(t) = f(t) c(t-1) + i(t) z(t)                        (7)
        n(t) = f(t) n(t-1) + i(t)                             (8)
        h(t) = o(t) c(t) / n(t)                               (9)

    with a(t) = u(t) + v(t), u(t) = W x(t) + b and v(t) = U h(t-1), gates in the order i, f, z, o.
    Where n(t-1) = 0, nothing is remembered yet, and l(t) is a_i(t).

    Parameters
    ----------
    forget : {"logistic", "exp"}
        The forget gate before the stabiliser, σ(a_f) or exp(a_f), which are the two forms of (3).
    forget_bias : float
        Added to the initial bias of the forget gate when a network is made.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type, is unknown or is not finite.

    Notes
    -----
    What is remembered is c exp(m) and n exp(m), and h depends on their ratio alone, so it is the
    same for any m.  Therefore treating m as a constant, as implementations do, gives the exact
    gradient of a loss of the outputs.  `backward` has the terms of m, too, which cancel then,
    because a loss may read the final c, n and m themselves.

    References
    ----------
    M. Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024, arXiv:2405.04517,
    equations (8) to (17).  Where nothing is remembered yet, m is a_i, as in the authors' code
    (github.com/NX-AI/xlstm).
    """

    forget: str = "logistic"
    forget_bias: float = 0.0

    gates: ClassVar[int] = 4
    state: ClassVar[tuple[str, ...]] = ("h", "c", "n", "m")
    retention: ClassVar[tuple[int, ...]] = (-1, 1, 0, 0)

    def __post_init__(self) -> None:
        checks.choice("forget", self.forget, FORGET)
        bias = checks.number("forget_bias", self.forget_bias, least=-math.inf)
        object.__setattr__(self, "forget_bias", bias)

    @property
    def initial_bias(self) -> tuple[float, ...]:
        """What is added to each gate's initial bias."""
        return (0.0, self.forget_bias, 0.0, 0.0)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (_, c, n, m), (u_i, u_f, u_z, u_o), (v_i, v_f, v_z, v_o) = state, u, v
        a_i, a_f = u_i + v_i, u_f + v_f
        z = xp.tanh(u_z + v_z)  # (1)
        o = logistic(xp, u_o + v_o)  # (2)
        # dl/da_f is 1 - σ(a_f), or 1.
        rest, log_f = logistic(xp, -a_f), log_logistic(xp, a_f)
        if self.forget == "exp":
            rest, log_f = xp.ones_like(a_f), a_f
        l = xp.where(n == 0, a_i, m + log_f)  # (3)  # noqa: E741
        m = xp.where(l >= a_i, l, a_i)  # (4)
        i = xp.exp(a_i - m)  # (5)
        f = xp.exp(l - m)  # (6)
        c = f * c + i * z  # (7)
        n = f * n + i  # (8)
        # Saved, because n may be zero where a sequence has ended, and nothing may divide by it.
        per_n = 1 / n
        ratio = c * per_n
        h = o * ratio  # (9)
        return (h, c, n, m), (z, o, rest, i, f, ratio, per_n)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        (z, o, rest, i, f, ratio, per_n), (_, c, n, _) = saved, previous
        dh, dc, dn, dm = d_state
        da_o = dh * ratio * (o * (1 - o))  # from (9), (2)
        d_c = dh * o * per_n  # from (9), as in the next two
        dc, dn = dc + d_c, dn - d_c * ratio
        da_z = dc * i * (1 - z * z)  # from (7), (1)
        from_i = (dc * z + dn) * i  # from (7), (8), (5)
        from_f = (dc * c + dn * n) * f  # from (7), (8), (6)
        dm = dm - from_i - from_f  # from (5), (6)
        zero = xp.zeros_like(dm)
        by_l = f >= i  # which of the two m is, in (4): its exponential is 1
        dl = from_f + xp.where(by_l, dm, zero)  # from (6), (4)
        da_i = from_i + xp.where(by_l, zero, dm)  # from (5), (4)
        empty = n == 0
        da_i = da_i + xp.where(empty, dl, zero)  # from (3)
        dl = xp.where(empty, zero, dl)
        da = (da_i, dl * rest, da_z, da_o)  # from (3)
        return da, da, (None, dc * f, dn * f, dl)  # from (7), (8), (3)
