"""The gated recurrent unit as it was published: the reset gate before the product."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import logistic
from xprnn.cells.protocol import Arrays, Gradients


@dataclass(frozen=True)
class GRUResetBefore:
    """A GRU whose reset gate is applied to the state, before the product with U_n.

    ::

        r(t) = σ(u_r(t) + v_r(t))                             (1)
        z(t) = σ(u_z(t) + v_z(t))                             (2)
        q(t) = r(t) h(t-1)                                    (3)
        n(t) = tanh(u_n(t) + v_n(t))                          (4)
        h(t) = n(t) + z(t) (h(t-1) - n(t))                    (5)

    with u(t) = W x(t) + b and gates in the order r, z, n.  A step has two products: v_r and v_z are
    U_r h(t-1) and U_z h(t-1), and v_n is U_n q(t).

    Notes
    -----
    Weights of `GRU` compute another function here.  The second product makes a step slower, and the
    loop is lowered to NumPy calls alone, not by Numba, and not on CuPy.  Use this cell for weights
    that were trained in this form, and `GRU` for a new network.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014, equations (5) to (8); the biases are added here.
    The operator GRU of ONNX with ``linear_before_reset=0``, and Keras's with ``reset_after=False``,
    are the same.
    """

    gates: ClassVar[int] = 3
    state: ClassVar[tuple[str, ...]] = ("h",)
    second_product: ClassVar[int] = 1
    retention: ClassVar[tuple[int, ...]] = (0, 1, 0)

    def operand(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> Array:
        return logistic(xp, u[0] + v[0]) * state[0]  # (1), (3)

    def operand_backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_operand: Array
    ) -> Gradients:
        del xp
        (r, _, _), (h,), dq = saved, previous, d_operand
        da_r = dq * h * (r * (1 - r))  # from (3), (1)
        return (da_r, None, None), (da_r, None), (dq * r,)  # from (3)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (v_r, v_z, v_n) = state, v
        r = logistic(xp, u[0] + v_r)  # (1)
        z = logistic(xp, u[1] + v_z)  # (2)
        n = xp.tanh(u[2] + v_n)  # (4)
        h = n + z * (h - n)  # (5)
        return (h,), (r, z, n)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> Gradients:
        del xp
        (_, z, n), (h,), (dh,) = saved, previous, d_state
        dh_previous = dh * z  # from (5)
        da_n = (dh - dh_previous) * (1 - n * n)  # from (5), (4)
        da_z = dh * (h - n) * (z * (1 - z))  # from (5), (2)
        da = (None, da_z, da_n)  # r reaches h(t) through q(t) alone
        return da, da, (dh_previous,)
