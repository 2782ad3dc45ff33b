"""A cell that is not part of the library, as a user would write one."""

from dataclasses import dataclass

from xprnn.cells import Arrays


@dataclass(frozen=True)
class Gated:
    """Two gates, two state variables, and gradients of u and v that differ.

    ::

        c(t) = tanh(u₁ + c(t-1) v₁)                           (1)
        h(t) = c(t) (u₂ + v₂) + leak h(t-1)                   (2)
    """

    leak: float = 0.5

    gates = 2
    state = ("h", "c")

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        h_previous, c_previous = state
        c = xp.tanh(u[0] + c_previous * v[0])  # (1)
        factor = u[1] + v[1]
        h = c * factor + self.leak * h_previous  # (2)
        return (h, c), (c, factor, v[0])

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        del xp
        (c, factor, v_1), (_, c_previous), (dh, dc) = saved, previous, d_state
        dc = dc + dh * factor  # from (2)
        dz = dc * (1 - c * c)  # from (1)
        du = (dz, dh * c)
        dv = (dz * c_previous, dh * c)
        return du, dv, (self.leak * dh, dz * v_1)
