"""The time loop: lowered to the backend where it can be, plain array code where it can't.

Both give the same to rounding; `xprnn.engine.loop.plain` is the reference.
"""

from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.engine.loop.lowering import lowering_for
from xprnn.engine.loop.plain import Recurrent, Reversed, Trajectory
from xprnn.engine.loop.plain import run_backward as plain_backward
from xprnn.engine.loop.plain import run_forward as plain_forward
from xprnn.engine.loop.protocol import Loops, Work


def run_forward(
    backend: Backend, cell: Cell, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool
) -> Trajectory:
    """Carry the state from step 0 to step T-1: see `xprnn.engine.loop.plain.run_forward`."""
    loops = _loops("forward", backend, cell, recurrent, u.shape[:2])
    if loops is None:
        return plain_forward(backend.xp, cell, u, recurrent, state, save=save)
    U, units, _, mask, valid = recurrent
    return Trajectory(*loops.forward(u, U, units, state, mask=mask, valid=valid, save=save))


def run_backward(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> Reversed:
    """Carry the gradient from step T-1 to step 0: see `xprnn.engine.loop.plain.run_backward`."""
    states, saved, _ = trajectory
    steps, batch = states[0].shape[0] - 1, states[0].shape[1]
    loops = _loops("backward", backend, cell, recurrent, (steps, batch))
    if loops is None:
        return plain_backward(backend.xp, cell, recurrent, trajectory, dh, d_state)
    U, units, _, mask, valid = recurrent
    du, da, d_units, d_initial = loops.backward(
        U, units, states, saved, dh, d_state, mask=mask, valid=valid
    )
    return Reversed(du, da, d_units, None, d_initial)


def _loops(
    direction: str, backend: Backend, cell: Cell, recurrent: Recurrent, shape: tuple[int, int]
) -> Loops | None:
    """Return the lowering, if there is one for this layer."""
    if recurrent.gain is not None:  # normalising is no elementwise operation
        return None
    steps, batch = shape
    work = Work(direction, backend.dtype_name, steps, batch, recurrent.valid is not None)
    return lowering_for(backend, cell, work)
