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


@dataclass(frozen=True)
class Patchwork:
    """What the other cells here, `Gated` and `LeakyUnit` try one by one, in a single formula.

    Compiling a formula takes a second and more, so the tests of compilers take this one.
    ``Holding`` and ``Deaf`` do to h what this cell does to k and z.

    ::

        e = u₁ + 2 v₁                                         (1)
        n = tanh(p) e + q c(t-1) + a(t-1) / 2                 (2)
        m = n if n > 0 and |n| < 2 else n / 4                 (3)
        g = u₂ + c(t-1) v₂                                    (4)
        f = clip(u₃ + v₃, -1, 1)                              (5)
        c(t) = f g + k(t-1)                                   (6)
        h(t) = m c(t) + h(t-1) / 2                            (7)
        a(t) = b(t-1)                                         (8)
        b(t) = a(t-1)                                         (9)
        k(t) = k(t-1)                                         (10)
        z(t) = 0.25                                           (11)
    """

    gates = 3
    state = ("h", "c", "a", "b", "k", "z")
    units = ("p", "q", "unused")

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c_previous, a, b, k, z = state
        v_1, v_2, v_3, p, q, _ = v
        e = u[0] + 2 * v_1  # (1)
        n = xp.tanh(p) * e + q * c_previous + a / 2  # (2)
        chosen = (n > 0) & (xp.abs(n) < 2)
        m = xp.where(chosen, n, n / 4)  # (3)
        g = u[1] + c_previous * v_2  # (4)
        w = u[2] + v_3
        f = xp.clip(w, -1, 1)  # (5)
        c = f * g + k  # (6)
        saved = (chosen, e, w, m, g, f, c, v_2, c_previous, u[0], w, xp.ones_like(h))
        return (m * c + h / 2, c, b, a, k, xp.full_like(z, 0.25)), saved  # (7) to (11)

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        chosen, e, w, m, g, f, c, v_2, c_previous, _, _, one, p, q, _ = saved
        dh, dc, da, db, dk, _ = d_state
        s = xp.tanh(p)
        dm, dc = dh * c, dc + dh * m  # from (7)
        df, dg = dc * g, dc * f  # from (6)
        dw = df * xp.astype((w >= -1) & (w <= 1), w.dtype)  # from (5)
        dn = xp.where(chosen, dm, dm / 4) * one  # from (3)
        de = dn * s  # from (2)
        du = (de, dg, dw)
        dv = (2 * de, dg * c_previous, dw, dn * e * (1 - s * s), dn * c_previous, 0 * dn)
        d_c = dn * q + dg * v_2  # from (2), (4)
        # From (7), from (2) and (9), from (8), from (6) and (10); z(t-1) is forgotten.
        return du, dv, (dh / 2, d_c, db + dn / 2, da, dk + dc, None)


ODD_CELLS = (Branching(), Swapping(), Holding(), Deaf(), PerUnit(), Patchwork())
