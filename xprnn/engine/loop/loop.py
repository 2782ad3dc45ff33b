"""The time loop of a layer: lowered to the backend where it can be, plain array code elsewhere.

Both give the same results to rounding; `xprnn.engine.loop.plain` is the reference.
"""

from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.engine.loop.lowering import (
    keeping_for,
    lowering_enabled,
    lowering_for,
    windowed_for,
)
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import (
    LoopGradient,
    Loops,
    Recurrent,
    Trajectory,
    Windowed,
    Work,
)
from xprnn.engine.loop.scan import ScanLoops
from xprnn.engine.loop.wide import WideLoops


def run_forward(
    backend: Backend, cell: Cell, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool
) -> Trajectory:
    """Carry the state from step 0 to step T-1: see `Loops.forward`."""
    loops = _loops("forward", backend, cell, recurrent, u)
    if isinstance(loops, PlainLoops):
        with backend.library.step_products(u.shape[1], recurrent.U):
            return loops.forward(u, recurrent, state, save=save)
    return loops.forward(u, recurrent, state, save=save)


def run_backward(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> LoopGradient:
    """Carry the gradient from step T-1 to step 0: see `Loops.backward`."""
    h = trajectory.states[0]
    loops = _loops("backward", backend, cell, recurrent, h)
    if isinstance(loops, PlainLoops):
        with backend.library.step_products(h.shape[1], recurrent.U):
            return loops.backward(recurrent, trajectory, dh, d_state)
    return loops.backward(recurrent, trajectory, dh, d_state)


def run_backward_keeping(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> tuple[LoopGradient, Array | None]:
    """Do the same, and return dh of every step: see `Keeping`; None if the loop can't keep it."""
    given = recurrent, trajectory, dh, d_state
    if backend.library.lowering is not None:
        work = _work("backward", backend, recurrent, trajectory.states[0])
        loops = keeping_for(backend, cell, work)
        if loops is not None:
            return loops.backward_keeping(*given)
    return run_backward(backend, cell, *given), None


def windowed_loops(backend: Backend, cell: Cell, recurrent: Recurrent, h: Array) -> Windowed | None:
    """Return what makes the sweeps of a windowed truncation; None: plain array code does.

    ``h`` is (T+1, B, H).
    """
    if backend.library.lowering is None or recurrent.gain is not None:
        return None
    return windowed_for(backend, cell, _work("window", backend, recurrent, h))


def _loops(direction: str, backend: Backend, cell: Cell, recurrent: Recurrent, a: Array) -> Loops:
    """Return the lowering that suits a layer, or else the plain loop.

    ``a`` is u, (T, B, G·H), or h, (T+1, B, H).
    """
    library = backend.library
    if library.compiles and library.traced(a) and lowering_enabled():
        return ScanLoops(library, cell)
    if library.lowering is not None:
        lowered = lowering_for(backend, cell, _work(direction, backend, recurrent, a))
        if lowered is not None:
            return lowered
    return plain_loops(backend, cell)


def plain_loops(backend: Backend, cell: Cell) -> PlainLoops:
    """Return the plain loop for the arrays of a backend."""
    # The dtype's name is kept behind a lock, which torch.compile can't follow.
    computes_in = backend.library.computes_in
    wide = computes_in and backend.dtype_name in computes_in
    return (WideLoops if wide else PlainLoops)(backend.xp, cell)


def _work(direction: str, backend: Backend, recurrent: Recurrent, a: Array) -> Work:
    steps, batch = a.shape[0] - (direction != "forward"), a.shape[1]
    limits = backend.library.limits(backend.device)
    lengths, hidden = recurrent.valid is not None, recurrent.U.shape[1]
    normalizes = recurrent.gain is not None
    return Work(direction, backend.dtype_name, steps, batch, lengths, hidden, limits, normalizes)
