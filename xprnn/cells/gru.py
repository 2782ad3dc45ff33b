"""The gated recurrent unit."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import logistic
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class GRU:
    """A state that moves towards a candidate, as far as the update gate lets it.

    ::

        r(t) = σ(u_r(t) + v_r(t))                             (1)
        z(t) = σ(u_z(t) + v_z(t))                             (2)
        m(t) = v_n(t) + b_hn                                  (3)
        n(t) = tanh(u_n(t) + r(t) m(t))                       (4)
        h(t) = n(t) + z(t) (h(t-1) - n(t))                    (5)

    with u(t) = W x(t) + b and v(t) = U h(t-1), gates in the order r, z, n; b_hn, one number per
    unit, is zero in a network without biases.

    Notes
    -----
    The reset gate r is applied *after* the product with U, as in ``torch.nn.GRU`` and in cuDNN.  In
    the paper it is applied before, n = tanh(u_n + U_n (r h)), which is `GRUResetBefore`: a second
    product within the step, which depends on the first.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014: the gates, with z as in its equation (7).
    J. Appleyard, T. Kocisky and P. Blunsom, "Optimizing performance of recurrent neural networks on
    GPUs" (2016), arXiv:1604.01946: the variant with the reset after the product.
    """

    gates: ClassVar[int] = 3
    state: ClassVar[tuple[str, ...]] = ("h",)
    units: ClassVar[tuple[str, ...]] = ("bias_hn",)
    retention: ClassVar[tuple[int, ...]] = (0, 1, 0)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (v_r, v_z, v_n, b_hn) = state, v
        r = logistic(xp, u[0] + v_r)  # (1)
        z = logistic(xp, u[1] + v_z)  # (2)
        m = v_n + b_hn  # (3)
        n = xp.tanh(u[2] + r * m)  # (4)
        h = n + z * (h - n)  # (5)
        return (h,), (r, z, n, m)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        del xp
        (r, z, n, m, _), (h,), (dh,) = saved, previous, d_state
        dh_previous = dh * z  # from (5)
        dz = dh * (h - n)  # from (5)
        da_n = (dh - dh_previous) * (1 - n * n)  # from (5), (4)
        dm = da_n * r  # from (4)
        da_r = da_n * m * (r * (1 - r))  # from (4), (1)
        da_z = dz * (z * (1 - z))  # from (2)
        return (da_r, da_z, da_n), (da_r, da_z, dm, dm), (dh_previous,)  # from (3)
