"""A cell's lowering, that is time loops made from its formulas, against the formulas themselves."""

from typing import Protocol

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell, unit_names
from xprnn.engine.loop.plain import Recurrent, run_backward, run_forward
from xprnn.engine.loop.protocol import Work
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.report import Finding, Index

STEPS, BATCH, HIDDEN = 4, 3, 5
WORK = tuple(Work(way, "float64", STEPS, BATCH, lengths=False) for way in ("forward", "backward"))
"""What a lowering is asked to do here."""
NEAR = 1e-12
"""In float64, relative to the largest entry: the same operations, in another order perhaps."""


class Lowering(Protocol):
    """A cell's time loops, as `xprnn.engine.loop.plain` has them for every cell.

    Shapes: T steps, B sequences, H hidden units, G gates.
    """

    def forward(
        self, u: Array, U: Array, units: Arrays, state: Arrays, *, mask: Array | None = None
    ) -> tuple[Arrays, Arrays]:
        """Return the states (T+1, B, H), initial ones first, and what was saved, (T, B, H) each.

        u is (T, B, G·H), U (G·H, H), the units (H,) each, the state (B, H) each, and the mask,
        which h(t-1) is multiplied by on its way to U, (B, H).
        """
        ...

    def backward(
        self,
        U: Array,
        units: Arrays,
        states: Arrays,
        saved: Arrays,
        dh: Array | None,
        d_state: Arrays,
        *,
        mask: Array | None = None,
    ) -> tuple[Array, Array, Arrays, Arrays]:
        """Return du and dv (T, B, G·H), those of the units (H,), and of the initial state (B, H).

        dh, (T, B, H), is what reaches each output, d_state what reaches the final state.
        """
        ...


def compare_lowering(
    cell: Cell, lowering: Lowering, backend: Backend, rng: Generator, prefix: str = "lowered"
) -> list[Finding]:
    """Return how a lowering agrees with plain array code that calls the cell step by step.

    Compared are the states, du, dv, and the gradients of units and initial state; once with
    gradients of all outputs and without a mask, and once the other way about.
    """

    def draw(*shape: int) -> Array:
        return backend.asarray(rng.normal(size=shape))

    rows, one = cell.gates * HIDDEN, (BATCH, HIDDEN)
    u, U = draw(STEPS, BATCH, rows), draw(rows, HIDDEN)
    units = tuple(draw(HIDDEN) for _ in unit_names(cell))
    state, d_state = (tuple(draw(*one) for _ in cell.state) for _ in range(2))
    names = [
        *cell.state,
        "du",
        "dv",
        *(f"d_{name}" for name in unit_names(cell)),
        *(f"d_{name}(0)" for name in cell.state),
    ]
    findings = []
    for words, dh, mask in (("", draw(STEPS, *one), None), (" masked", None, draw(*one))):
        states, saved = lowering.forward(u, U, units, state, mask=mask)
        du, dv, d_units, d_first = lowering.backward(
            U, units, states, saved, dh, d_state, mask=mask
        )
        plain = Recurrent(U, units, mask=mask)
        trajectory = run_forward(backend.xp, cell, u, plain, state, save=True)
        back = run_backward(backend.xp, cell, plain, trajectory, dh, d_state)
        got = (*states, du, dv, *d_units, *d_first)
        want = (*trajectory.states, back.du, back.da, *back.units, *back.state)
        findings += [
            _finding(f"{prefix}{words} {name}", backend.to_numpy(a), backend.to_numpy(b))
            for name, a, b in zip(names, got, want, strict=True)
        ]
    return findings


def _finding(name: str, got: HostArray, want: HostArray) -> Finding:
    shape: Index = tuple(want.shape)
    if got.shape != shape:
        raise ContractError(f"{name} has shape {got.shape}: expected {shape}")
    off = np.abs(got - want)
    off = np.where(np.isfinite(off), off, np.inf)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), shape))
    largest = float(np.max(np.abs(want)))
    error = float(off[index]) / largest if largest else float(off[index])
    verdict = "right" if error <= NEAR else "wrong"
    return Finding(
        name, shape, got.size, 0, index, float(got[index]), float(want[index]), error, verdict
    )
