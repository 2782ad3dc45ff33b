"""A cell's lowering, that is time loops made from its formulas, against the formulas themselves."""

from typing import Protocol

from xprnn.backend import Backend
from xprnn.backend.host import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell, unit_names
from xprnn.testing.findings import Finding

STEPS, BATCH, HIDDEN = 4, 3, 5
NEAR = 1e-12
"""In float64, relative to the largest entry: the same operations, in another order perhaps."""


class Lowering(Protocol):
    """A cell's time loops.

    Shapes: T steps, B sequences, H hidden units, G gates.
    """

    def forward(self, u: Array, U: Array, units: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the states (T+1, B, H), initial ones first, and what was saved, (T, B, H) each.

        u is (T, B, G·H), U (G·H, H), the units (H,) each, and the state (B, H) each.
        """
        ...

    def backward(
        self, U: Array, units: Arrays, states: Arrays, saved: Arrays, dh: Array, d_state: Arrays
    ) -> tuple[Array, Array, Arrays, Arrays]:
        """Return du and dv (T, B, G·H), those of the units (H,), and of the initial state (B, H).

        dh is (T, B, H), what reaches each output; d_state what reaches the final state.
        """
        ...


def compare_lowering(
    cell: Cell, lowering: Lowering, backend: Backend, rng: Generator
) -> list[Finding]:
    """Return how a lowering agrees with the cell, called step by step."""

    def draw(*shape: int) -> Array:
        return backend.asarray(rng.normal(size=shape))

    rows, one = cell.gates * HIDDEN, (BATCH, HIDDEN)
    u, U = draw(STEPS, BATCH, rows), draw(rows, HIDDEN)
    units = tuple(draw(HIDDEN) for _ in unit_names(cell))
    state, d_state = (tuple(draw(*one) for _ in cell.state) for _ in range(2))
    dh = draw(STEPS, *one)

    states, kept = lowering.forward(u, U, units, state)
    du, dv, d_units, d_first = lowering.backward(U, units, states, kept, dh, d_state)
    found = {f"lowered {name}": a for name, a in zip(cell.state, states, strict=True)}
    found |= {"lowered du": du, "lowered dv": dv}
    found |= {f"lowered {name}": a for name, a in zip(unit_names(cell), d_units, strict=True)}
    found |= {f"lowered d_{name}": a for name, a in zip(cell.state, d_first, strict=True)}
    wanted = _plain(cell, backend, u, U, units, state, dh, d_state)
    return [
        _finding(name, backend.to_numpy(a), backend.to_numpy(b))
        for (name, a), b in zip(found.items(), wanted, strict=True)
    ]


def _plain(
    cell: Cell,
    backend: Backend,
    u: Array,
    U: Array,
    units: Arrays,
    state: Arrays,
    dh: Array,
    d_state: Arrays,
) -> list[Array]:
    """Return states, du, dv, and the gradients of units and initial state."""
    # A loop of its own, because that of the engine may be the lowering itself.
    xp, gates = backend.xp, cell.gates

    def blocks(a: Array) -> Arrays:
        return tuple(a[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(gates))

    states, kept = [state], []
    for t in range(STEPS):
        v = blocks(states[t][0] @ xp.matrix_transpose(U))
        after, saved = cell.forward(xp, blocks(u[t, ...]), (*v, *units), states[t])
        states.append(after)
        kept.append(saved)
    du, dv = [], []
    for t in reversed(range(STEPS)):
        d_state = (d_state[0] + dh[t, ...], *d_state[1:])
        du_t, dv_t, d_before = cell.backward(xp, (*kept[t], *units), states[t], d_state)
        du.append(xp.concat(du_t, axis=-1))
        dv.append(dv_t)
        d_state = tuple(xp.zeros_like(dh[t, ...]) if d is None else d for d in d_before)
        through = xp.concat(dv_t[:gates], axis=-1) @ U
        d_state = (d_state[0] + through, *d_state[1:])
    du, dv = du[::-1], dv[::-1]
    return [
        *(xp.stack(parts) for parts in zip(*states, strict=True)),
        xp.stack(du),
        xp.stack([xp.concat(blocks_t[:gates], axis=-1) for blocks_t in dv]),
        *(xp.sum(xp.stack([b[k] for b in dv]), axis=(0, 1)) for k in range(gates, len(dv[0]))),
        *d_state,
    ]


def _finding(name: str, got: HostArray, want: HostArray) -> Finding:
    if got.shape != want.shape:
        raise AssertionError(f"{name} has shape {got.shape}: expected {want.shape}")
    off = np.abs(got - want)
    off = np.where(np.isfinite(off), off, np.inf)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
    largest = float(np.max(np.abs(want)))
    error = float(off[index]) / largest if largest else float(off[index])
    verdict = "right" if error <= NEAR else "wrong"
    a, b = float(got[index]), float(want[index])
    return Finding(name, got.shape, got.size, 0, index, a, b, error, verdict)
