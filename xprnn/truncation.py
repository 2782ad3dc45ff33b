"""Windowed truncation of backpropagation through time, for all steps at once.

With g(s) the gradient that the losses put on state s directly, and J(s) the Jacobian of step s, the
losses of the steps s ... s+m put on state s::

    G₀(s) = g(s)
    G_m(s) = g(s) + J(s+1)ᵀ G_{m-1}(s+1)                              (1)

because what step s+1 receives from the m-1 steps after it has one step further to go.  So k sweeps
over all steps at once are exact; no loop over steps times window is needed.  The weights' gradients
are then taken from G_k once: every loss reaches the k steps before its own, and none beyond.
"""

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell
from xprnn.recurrence import Trajectory, join, through


def run_backward_windowed(
    xp: Namespace,
    cell: Cell,
    U: Array,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
    window: int,
) -> tuple[Array, Array, Arrays]:
    """Propagate every step's gradient back through exactly ``window`` steps before it.

    Parameters and returns are those of `xprnn.recurrence.run_backward`; the gradient of the final
    state counts as one of the last step's, and the initial state has a gradient from those losses
    whose window includes the first step.
    """
    saved = trajectory.saved
    previous = tuple(part[:-1, ...] for part in trajectory.states)
    direct = _direct(xp, previous[0].shape, dh, d_state)
    G = direct
    for _ in range(window):
        _, _, reaching = _step_back(xp, cell, U, saved, previous, G)
        G = tuple(
            xp.concat((part[:-1, ...] + reach[1:, ...], part[-1:, ...]), axis=0)
            for part, reach in zip(direct, reaching, strict=True)
        )  # (1)
    du, dv, reaching = _step_back(xp, cell, U, saved, previous, G)
    return du, dv, tuple(part[0, ...] for part in reaching)


def _direct(xp: Namespace, shape: tuple[int, ...], dh: Array | None, d_state: Arrays) -> Arrays:
    """Return g per state variable, (T, B, H): that of h from outside, and the final state's."""
    zeros = xp.zeros_like(d_state[0])
    before = xp.broadcast_to(zeros[None, ...], (shape[0] - 1, *shape[1:]))
    final = tuple(xp.concat((before, part[None, ...]), axis=0) for part in d_state)
    return final if dh is None else (final[0] + dh, *final[1:])


def _step_back(
    xp: Namespace, cell: Cell, U: Array, saved: Arrays, previous: Arrays, d_state: Arrays
) -> tuple[Array, Array, Arrays]:
    """Return du and dv (T, B, G·H) of all steps, and what each puts on the state before it."""
    du_blocks, dv_blocks, d_previous = cell.backward(xp, saved, previous, d_state)
    dv = join(xp, dv_blocks)
    du = dv if du_blocks is dv_blocks else join(xp, du_blocks)
    steps, batch, rows = dv.shape
    product = xp.reshape(dv, (steps * batch, rows)) @ U
    through_U = xp.reshape(product, (steps, batch, U.shape[1]))
    return du, dv, through(xp, through_U, d_previous)
