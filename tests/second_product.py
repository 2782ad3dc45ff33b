"""A cell of a user whose second product makes two blocks, and whose operand reads both states."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Gradients


@dataclass(frozen=True)
class SecondProduct:
    """::

        q(t) = tanh(u_1(t) + v_1(t)) h(t-1) + p c(t-1) u_2(t)                 (1)
        c(t) = c(t-1) tanh(u_2(t) + v_2(t)) + u_1(t) + v_1(t) + h(t-1) / 2    (2)
        h(t) = c(t) (u_3(t) + v_3(t)) + p h(t-1)                              (3)

    with v_1 = U_1 h(t-1), and v_2, v_3 = U_2 q(t), U_3 q(t).
    """

    gates: ClassVar[int] = 3
    state: ClassVar[tuple[str, ...]] = ("h", "c")
    units: ClassVar[tuple[str, ...]] = ("p",)
    second_product: ClassVar[int] = 2

    def operand(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> Array:
        (v_1, p), (h, c) = v, state
        return xp.tanh(u[0] + v_1) * h + p * c * u[1]  # (1)

    def operand_backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_operand: Array
    ) -> Gradients:
        del xp
        (a, _, _, _, u_2, p), (h, c), dq = saved, previous, d_operand
        d_1 = dq * h * (1 - a * a)
        return (d_1, dq * p * c, None), (d_1, dq * c * u_2), (dq * a, dq * p * u_2)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (v_1, v_2, v_3, p), (h, c) = v, state
        f = xp.tanh(u[1] + v_2)
        c = c * f + u[0] + v_1 + 0.5 * h  # (2)
        o = u[2] + v_3
        return (c * o + p * h, c), (xp.tanh(u[0] + v_1), f, o, c, u[1])  # (3)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> Gradients:
        del xp
        (_, f, o, c, _, p), (h, c_before), (dh, dc) = saved, previous, d_state
        dc = dc + dh * o  # from (3)
        d_2 = dc * c_before * (1 - f * f)  # from (2)
        d_3 = dh * c  # from (3)
        return (dc, d_2, d_3), (dc, d_2, d_3, dh * h), (dh * p + 0.5 * dc, dc * f)
