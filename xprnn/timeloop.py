"""The time loop: lowered to the backend where it can be, plain array code where it can't.

Both give the same to rounding; `xprnn.recurrence` is the reference.
"""

from typing import Any

from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.formula import lowering_for
from xprnn.formula.lowering import Loops
from xprnn.recurrence import Recurrent, Reversed, Trajectory
from xprnn.recurrence import run_backward as plain_backward
from xprnn.recurrence import run_forward as plain_forward


def run_forward(
    backend: Backend, cell: Cell, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool
) -> Trajectory:
    """Carry the state from step 0 to step T-1: see `xprnn.recurrence.run_forward`."""
    loops = _loops(backend, cell, recurrent)
    if loops is None:
        return plain_forward(backend.xp, cell, u, recurrent, state, save=save)
    U, units = recurrent.U, recurrent.units
    return Trajectory(*loops.forward(u, U, units, state, save=save, **_options(recurrent)))


def run_backward(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> Reversed:
    """Carry the gradient from step T-1 to step 0: see `xprnn.recurrence.run_backward`."""
    loops = _loops(backend, cell, recurrent)
    if loops is None:
        return plain_backward(backend.xp, cell, recurrent, trajectory, dh, d_state)
    U, units, (states, saved, _) = recurrent.U, recurrent.units, trajectory
    du, da, d_units, d_initial = loops.backward(
        U, units, states, saved, dh, d_state, **_options(recurrent)
    )
    return Reversed(du, da, d_units, None, d_initial)


def _loops(backend: Backend, cell: Cell, recurrent: Recurrent) -> Loops | None:
    """Return the lowering, if there is one for this layer."""
    # Normalising is no elementwise operation.
    if recurrent.gain is not None:
        return None
    loops = lowering_for(backend, cell)
    suits = loops is not None and (recurrent.valid is None or loops.takes_lengths())
    return loops if suits else None


def _options(recurrent: Recurrent) -> dict[str, Any]:
    """Return the arguments that are there."""
    given = {"mask": recurrent.mask, "valid": recurrent.valid}
    return {name: array for name, array in given.items() if array is not None}
