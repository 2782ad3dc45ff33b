"""A cell with a parameter per unit that is no bias, and with normalised projections."""

from dataclasses import dataclass

from xprnn.cells import Arrays


@dataclass(frozen=True)
class LeakyUnit:
    """A state that moves towards a candidate, each unit at a pace of its own.

    ::

        n(t) = tanh(u + 2 v)                                  (1)
        h(t) = h(t-1) + leak (n(t) - h(t-1))                  (2)
    """

    gates = 1
    state = ("h",)
    units = ("leak",)
    layer_norm = True

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (v_n, leak) = state, v
        n = xp.tanh(u[0] + 2 * v_n)  # (1)
        return (h + leak * (n - h),), (n,)  # (2)

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        del xp
        (n, leak), (h,), (dh,) = saved, previous, d_state
        du = dh * leak * (1 - n * n)  # from (2), (1)
        return (du,), (2 * du, dh * (n - h)), (dh - dh * leak,)  # from (1), (2)
