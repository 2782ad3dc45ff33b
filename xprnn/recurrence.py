"""The one time loop, forward and reversed, as plain array API code.

Shapes: T steps, B sequences, H hidden units, G gates.  Every array is time-major.  The input's
projection and the weights' gradients need no recurrence and are not here (see `xprnn.bptt`): inside
a step there is one product and the cell's elementwise formula, nothing else.
"""

from typing import NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell


class Trajectory(NamedTuple):
    """What a forward pass leaves behind.

    Attributes
    ----------
    states : tuple of array
        Per state variable, (T+1, B, H): the initial state, then the state after every step.  So
        ``states[0][1:]`` is the output, and ``states[0][:-1]`` what U multiplied.
    saved : tuple of array
        Per quantity that the cell saved, (T, B, H).
    """

    states: Arrays
    saved: Arrays


def run_forward(
    xp: Namespace, cell: Cell, u: Array, U: Array, state: Arrays, *, save: bool
) -> Trajectory:
    """Carry the state from step 0 to step T-1.

    Parameters
    ----------
    xp : namespace
    cell : Cell
    u : array, (T, B, G·H)
        The projected input, bias included.
    U : array, (G·H, H)
    state : tuple of array, (B, H) each
    save : bool
        False keeps nothing for `run_backward`; ``saved`` is then empty.

    Returns
    -------
    Trajectory
    """
    gates, hidden = cell.gates, U.shape[1]
    U_T = xp.matrix_transpose(U)
    steps, kept = [state], []
    for u_t in xp.unstack(u):
        v = state[0] @ U_T
        state, saved = cell.forward(
            xp, _blocks(u_t, gates, hidden), _blocks(v, gates, hidden), state
        )
        steps.append(state)
        if save:
            kept.append(saved)
    states = tuple(xp.stack(arrays) for arrays in zip(*steps, strict=True))
    if not save:
        return Trajectory(states, ())
    # A cell that saves a state variable as it is (Elman saves h) must not make the tape twice as
    # large: such a quantity is read from the states.
    twins = tuple(_index(part, steps[1]) for part in kept[0])
    return Trajectory(
        states,
        tuple(
            xp.stack([step[k] for step in kept]) if twin is None else states[twin][1:, ...]
            for k, twin in enumerate(twins)
        ),
    )


def run_backward(
    xp: Namespace,
    cell: Cell,
    U: Array,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> tuple[Array, Array, Arrays]:
    """Carry the gradient from step T-1 to step 0.

    Parameters
    ----------
    xp : namespace
    cell : Cell
    U : array, (G·H, H)
    trajectory : Trajectory
        Of `run_forward`, saved.
    dh : array, (T, B, H), or None
        The gradient that reaches each step's output from outside; None for zero.
    d_state : tuple of array, (B, H) each
        The gradient that reaches the final state from outside.

    Returns
    -------
    du, dv : array, (T, B, G·H)
        The gradients of both projections.  The same object if the cell says that they are equal.
    d_state : tuple of array, (B, H) each
        The gradient of the initial state.
    """
    steps = trajectory.states[0].shape[0] - 1
    # Cells that save nothing have an empty tuple for every step.
    saved = list(zip(*map(xp.unstack, trajectory.saved), strict=True)) or [()] * steps
    previous = list(zip(*map(xp.unstack, trajectory.states), strict=True))
    dh_steps = [None] * steps if dh is None else xp.unstack(dh)
    du_steps, dv_steps, same = [], [], True
    for t in reversed(range(steps)):
        if dh is not None:
            d_state = (d_state[0] + dh_steps[t], *d_state[1:])
        du_blocks, dv_blocks, d_previous = cell.backward(xp, saved[t], previous[t], d_state)
        dv = join(xp, dv_blocks)
        dv_steps.append(dv)
        if du_blocks is not dv_blocks:
            same = False
            du_steps.append(join(xp, du_blocks))
        d_state = through(xp, dv @ U, d_previous)
    dv = xp.stack(dv_steps[::-1])
    return (dv if same else xp.stack(du_steps[::-1])), dv, d_state


def _blocks(a: Array, gates: int, hidden: int) -> Arrays:
    """Split (B, G·H) into G blocks (B, H)."""
    if gates == 1:
        return (a,)
    return tuple(a[..., k * hidden : (k + 1) * hidden] for k in range(gates))


def join(xp: Namespace, blocks: Arrays) -> Array:
    """Join G blocks (B, H) to (B, G·H)."""
    return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=-1)


def through(xp: Namespace, through_U: Array, d_previous: tuple[Array | None, ...]) -> Arrays:
    """Add the product's path to the elementwise paths of the gradient of the previous state."""
    dh, *others = d_previous
    return (
        through_U if dh is None else through_U + dh,
        *(xp.zeros_like(through_U) if part is None else part for part in others),
    )


def _index(part: Array, arrays: Arrays) -> int | None:
    """Return which of the arrays ``part`` is, as an object; None if it is none of them."""
    return next((k for k, a in enumerate(arrays) if a is part), None)
