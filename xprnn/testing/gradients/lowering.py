"""A lowering's time loops against the plain loop, which calls the cell's own formulas."""

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Cell, recurrent_blocks, unit_names
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Loops, Recurrent, Work
from xprnn.testing.arrays import Index, index_at, largest
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.report import Finding

STEPS, BATCH, HIDDEN = 4, 3, 5
NEAR = 1e-12
"""In float64, relative to the largest entry: the same operations, perhaps in another order."""


def work(backend: Backend) -> tuple[Work, ...]:
    """Return what a lowering must suit to be compared."""
    limits = backend.library.limits(backend.device)
    rest = ("float64", STEPS, BATCH, False, HIDDEN, limits)
    return tuple(Work(direction, *rest) for direction in ("forward", "backward"))


def compare_lowering(
    cell: Cell, lowering: Loops, backend: Backend, rng: Generator, prefix: str = "lowered"
) -> list[Finding]:
    """Compare a lowering's results with those of the plain loop.

    The states, du, dv, and the gradients of per-unit parameters and of the initial state: once with
    a gradient of every output and no dropout mask, and once with a mask and no such gradient.
    """

    def draw(*shape: int) -> Array:
        return backend.asarray(rng.normal(size=shape))

    rows, one = cell.gates * HIDDEN, (BATCH, HIDDEN)
    u, U = draw(STEPS, BATCH, rows), draw(recurrent_blocks(cell) * HIDDEN, HIDDEN)
    units = tuple(draw(HIDDEN) for _ in unit_names(cell))
    state, d_state = (tuple(draw(*one) for _ in cell.state) for _ in range(2))
    names = [
        *cell.state,
        "du",
        *(["dv"] if U.shape[0] else []),
        *(f"d_{name}" for name in unit_names(cell)),
        *(f"d_{name}(0)" for name in cell.state),
    ]

    def run(loops: Loops, dh: Array | None, mask: Array | None) -> tuple[Array, ...]:
        recurrent = Recurrent(U, units, mask=mask)
        trajectory = loops.forward(u, recurrent, state, save=True)
        back = loops.backward(recurrent, trajectory, dh, d_state)
        da = (back.da,) if U.shape[0] else ()
        return (*trajectory.states, back.du, *da, *back.units, *back.state)

    plain, findings = PlainLoops(backend.xp, cell), []
    for words, dh, mask in (("", draw(STEPS, *one), None), (" masked", None, draw(*one))):
        pairs = zip(names, run(lowering, dh, mask), run(plain, dh, mask), strict=True)
        findings += [
            _finding(f"{prefix}{words} {name}", backend.to_numpy(got), backend.to_numpy(want))
            for name, got, want in pairs
        ]
    return findings


def _finding(name: str, got: HostArray, want: HostArray) -> Finding:
    shape: Index = tuple(want.shape)
    if got.shape != shape:
        raise ContractError(f"{name} has shape {got.shape}: expected {shape}")
    off = np.abs(got - want)
    off = np.where(np.isfinite(off), off, np.inf)
    index = index_at(off, int(np.argmax(off)))
    error = float(off[index]) / (largest([want]) or 1.0)
    verdict = "right" if error <= NEAR else "wrong"
    return Finding(
        name, shape, got.size, 0, index, float(got[index]), float(want[index]), error, verdict
    )
