"""Cells that no one would train: each is a corner of what a formula may be."""

from dataclasses import dataclass

from xprnn.cells import Arrays


@dataclass(frozen=True)
class Branching:
    """Choices by value, truth values and constants that are saved, and a parameter per unit.

    ::

        a(t) = u₁ + v₁ + p c(t-1)                             (1)
        h(t) = a if a > 0 and |a| < 2 else a / 4              (2)
        c(t) = clip(u₂ + v₂, -1, 1) + h                       (3)
    """

    gates = 2
    state = ("h", "c")
    units = ("p",)

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        a = u[0] + v[0] + v[2] * state[1]  # (1)
        chosen = (a > 0) & (xp.abs(a) < 2)
        h = xp.where(chosen, a, a / 4)  # (2)
        b = u[1] + v[1]
        c = xp.clip(b, -1, 1) + h  # (3)
        return (h, c), (chosen, b, xp.ones_like(h), state[1], b, u[0])

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        chosen, b, one, c, _, _, p = saved
        dh, dc = d_state
        dh = dh + dc  # from (3)
        db = dc * xp.astype((b >= -1) & (b <= 1), b.dtype)  # from (3)
        da = xp.where(chosen, dh, dh / 4) * one  # from (2)
        return (da, db), (da, db, da * c), (None, da * p)  # from (1)


@dataclass(frozen=True)
class Swapping:
    """Three state variables that change places, and one that is forgotten.

    ::

        h(t) = u + 0.5 v + a(t-1) / 2                         (1)
        a(t) = b(t-1)                                         (2)
        b(t) = a(t-1)                                         (3)
        c(t) = 0                                              (4)
    """

    gates = 1
    state = ("h", "a", "b", "c")

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        _, a, b, c = state
        h = u[0] + 0.5 * v[0] + a / 2  # (1)
        return (h, b, a, xp.zeros_like(c)), ()

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        dh, da, db, _ = d_state
        return (dh,), (0.5 * dh,), (None, db + dh / 2, da, None)  # from (1), (2), (3)


@dataclass(frozen=True)
class Holding:
    """A state that passes through as it is: what U makes of it is only a bystander.

    ::

        h(t) = h(t-1)                                         (1)
        c(t) = c(t-1) + (u₁ + v₁)(u₂ + v₂)                    (2)
    """

    gates = 2
    state = ("h", "c")

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        a, b = u[0] + v[0], u[1] + v[1]
        return (h, c + a * b), (a, b, v[0])  # (1), (2)

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        (a, b, _), (dh, dc) = saved, d_state
        da = (dc * b, dc * a)  # from (2)
        return da, da, (dh, dc)  # from (1), (2)


@dataclass(frozen=True)
class Deaf:
    """A state that nothing reaches: not the input, nor the state before.

    ::

        h(t) = 0.25                                           (1)
    """

    gates = 1
    state = ("h",)

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        return (xp.full_like(u[0], 0.25),), ()

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        zero = xp.zeros_like(d_state[0])
        return (zero,), (zero,), (None,)


@dataclass(frozen=True)
class PerUnit:
    """Parameters per unit alone and in company, and their gradients in every form.

    ::

        s = tanh(p)                                           (1)
        h(t) = s (u + v) + q                                  (2)
    """

    gates = 1
    state = ("h",)
    units = ("p", "q", "unused")

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        a, s = u[0] + v[0], xp.tanh(v[1])  # (1)
        return (s * a + v[2],), (a,)  # (2)

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        a, p, _, _ = saved
        (dh,) = d_state
        s = xp.tanh(p)
        da = dh * s  # from (2)
        return (da,), (da, dh * a * (1 - s * s), dh, xp.zeros_like(dh)), (None,)  # from (1), (2)


ODD_CELLS = (Branching(), Swapping(), Holding(), Deaf(), PerUnit())
