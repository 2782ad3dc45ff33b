"""The one time loop, forward and reversed, as plain array API code.

Shapes: T steps, B sequences, H hidden units, G gates.  Every array is time-major.  The input's
projection and the weights' gradients need no recurrence and are not here (see
`xprnn.engine.layer.layer`): inside a step there is one product and the cell's elementwise formula,
nothing else.

::

    a(t) = U (m h(t-1))                                               (1)
    v(t) = a(t), or γ N(a(t))                                         (2)
    s(t) = cell(u(t), v(t), s(t-1)) within the sequence, else s(t-1)  (3)

with a dropout mask m, and a normalisation N, where there are any.
"""

from typing import NamedTuple

from xprnn.backend import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell
from xprnn.engine.normalization import Normalized, normalize, normalize_backward


class Recurrent(NamedTuple):
    """What a layer applies at every step.

    Attributes
    ----------
    U : array, (G·H, H)
    units : tuple of array, (H,) each
        The cell's per-unit parameters.
    gain : array, (G·H,), or None
        γ, of a layer that normalises.
    mask : array, (B, H), or None
        m, what h(t-1) is multiplied by on its way into U: the same at every step.
    valid : array of bool, (T, B, 1), or None
        Which steps are within their sequence.  Elsewhere the state is held.
    """

    U: Array
    units: Arrays = ()
    gain: Array | None = None
    mask: Array | None = None
    valid: Array | None = None


class Trajectory(NamedTuple):
    """What a forward pass leaves behind.

    Attributes
    ----------
    states : tuple of array
        Per state variable, (T+1, B, H): the initial state, then the state after every step.  So
        ``states[0][1:]`` is the output, and ``states[0][:-1]`` what U multiplied.
    saved : tuple of array
        Per quantity that the cell saved, (T, B, H).
    normalized : Normalized or None
        Of a(t) at all steps, if the layer normalises.
    """

    states: Arrays
    saved: Arrays
    normalized: Normalized | None = None


class Reversed(NamedTuple):
    """What a backward pass finds.

    Attributes
    ----------
    du, da : array, (T, B, G·H)
        The gradients of u and of a.  The same object if they are equal.
    units : tuple of array, (H,) each
    gain : array, (G·H,), or None
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    du: Array
    da: Array
    units: Arrays
    gain: Array | None
    state: Arrays


class StepGradient(NamedTuple):
    """The same of one step, (B, ...), or of all at once, (T, B, ...): nothing is summed yet."""

    du: Array
    da: Array
    units: Arrays
    gain: Array | None
    state: Arrays


def run_forward(
    xp: Namespace, cell: Cell, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool
) -> Trajectory:
    """Carry the state from step 0 to step T-1.

    Parameters
    ----------
    xp : namespace
    cell : Cell
    u : array, (T, B, G·H)
        The projected input, bias included.
    recurrent : Recurrent
    state : tuple of array, (B, H) each
    save : bool
        False keeps nothing for `run_backward`; ``saved`` is then empty.

    Returns
    -------
    Trajectory
    """
    U, units, gain, mask, valid = recurrent
    gates, hidden = cell.gates, U.shape[1]
    U_T = U.T
    steps, kept, norms = [state], [], []
    for t, u_t in enumerate(xp.unstack(u)):
        a = (state[0] if mask is None else state[0] * mask) @ U_T  # (1)
        if gain is not None:
            norms.append(normalize(xp, a))
            a = gain * norms[-1].n  # (2)
        v = (*_blocks(a, gates, hidden), *units)
        new, saved = cell.forward(xp, _blocks(u_t, gates, hidden), v, state)
        if valid is not None:
            new = _where(xp, valid[t, ...], new, state)
        state = new  # (3)
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
        Normalized(*map(xp.stack, zip(*norms, strict=True))) if norms else None,
    )


def run_backward(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> Reversed:
    """Carry the gradient from step T-1 to step 0.

    Parameters
    ----------
    xp : namespace
    cell : Cell
    recurrent : Recurrent
    trajectory : Trajectory
        Of `run_forward`, saved.
    dh : array, (T, B, H), or None
        The gradient that reaches each step's output from outside; None for zero.
    d_state : tuple of array, (B, H) each
        The gradient that reaches the final state from outside.

    Returns
    -------
    Reversed
    """
    valid = recurrent.valid
    steps = trajectory.states[0].shape[0] - 1
    # Cells that save nothing have an empty tuple for every step.
    saved = list(zip(*map(xp.unstack, trajectory.saved), strict=True)) or [()] * steps
    previous = list(zip(*map(xp.unstack, trajectory.states), strict=True))
    dh_steps = [None] * steps if dh is None else xp.unstack(dh)
    norms: list[Normalized | None] = [None] * steps
    if trajectory.normalized is not None:
        norms = [Normalized(*n) for n in zip(*map(xp.unstack, trajectory.normalized), strict=True)]
    gradients = []
    for t in reversed(range(steps)):
        if dh is not None:
            d_state = (d_state[0] + dh_steps[t], *d_state[1:])
        within = None if valid is None else valid[t, ...]
        step = step_back(xp, cell, recurrent, saved[t], previous[t], norms[t], within, d_state)
        d_state = step.state if within is None else _where(xp, within, step.state, d_state)  # (3)
        gradients.append(step)
    gradients.reverse()
    da = xp.stack([step.da for step in gradients])
    same = all(step.du is step.da for step in gradients)
    du = da if same else xp.stack([step.du for step in gradients])
    units = [_total(xp, parts) for parts in zip(*(step.units for step in gradients), strict=True)]
    gain = _total(xp, [s.gain for s in gradients]) if recurrent.gain is not None else None
    return Reversed(du, da, tuple(units), gain, d_state)


def step_back(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    saved: Arrays,
    previous: Arrays,
    normalized: Normalized | None,
    within: Array | None,
    d_state: Arrays,
) -> StepGradient:
    """Propagate a gradient through one step, or through all steps at once, each by itself.

    Parameters
    ----------
    saved, previous : tuple of array
        What the cell saved, and the state before.
    normalized : Normalized or None
    within : array of bool or None
        Which rows are within their sequence: the others put nothing on any parameter, nor on u.
        What they put on the state before is for the caller to say.
    d_state : tuple of array
        The gradient of the state after.
    """
    U, units, gain, mask, _ = recurrent
    du_blocks, dv_blocks, d_previous = cell.backward(xp, (*saved, *units), previous, d_state)
    dv_blocks, d_units = dv_blocks[: cell.gates], dv_blocks[cell.gates :]
    same = all(a is b for a, b in zip(du_blocks, dv_blocks, strict=True))
    da = _join(xp, dv_blocks)
    du = da if same else _join(xp, du_blocks)
    if within is not None:
        da = xp.where(within, da, xp.zeros_like(da))
        du = da if same else xp.where(within, du, xp.zeros_like(du))
        d_units = _where(xp, within, d_units, tuple(map(xp.zeros_like, d_units)))
    d_gain = None
    if gain is not None and normalized is not None:
        da, d_gain = normalize_backward(xp, normalized, gain, da)  # from (2)
    through_U = _product(xp, da, U)
    if mask is not None:
        through_U = through_U * mask  # from (1)
    return StepGradient(du, da, d_units, d_gain, _through(xp, through_U, d_previous))


def _blocks(a: Array, gates: int, hidden: int) -> Arrays:
    """Split (B, G·H) into G blocks (B, H)."""
    if gates == 1:
        return (a,)
    return tuple(a[..., k * hidden : (k + 1) * hidden] for k in range(gates))


def _join(xp: Namespace, blocks: Arrays) -> Array:
    """Join G blocks (..., H) to (..., G·H)."""
    return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=-1)


def _product(xp: Namespace, a: Array, U: Array) -> Array:
    """Return Uᵀ a for every row of (B, G·H) or (T, B, G·H), as one product."""
    if a.ndim == 2:
        return a @ U
    library = library_of(U)
    return xp.reshape(library.product(library.rows(a), U), (*a.shape[:-1], U.shape[1]))


def _through(xp: Namespace, through_U: Array, d_previous: tuple[Array | None, ...]) -> Arrays:
    """Add the product's path to the elementwise paths of the gradient of the previous state."""
    dh, *others = d_previous
    return (
        through_U if dh is None else through_U + dh,
        *(xp.zeros_like(through_U) if part is None else part for part in others),
    )


def _where(xp: Namespace, condition: Array, new: Arrays, old: Arrays) -> Arrays:
    return tuple(xp.where(condition, a, b) for a, b in zip(new, old, strict=True))


def _total(xp: Namespace, parts: list[Array] | tuple[Array, ...]) -> Array:
    """Sum (B, K) arrays to (K,)."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return xp.sum(total, axis=0)


def _index(part: Array, arrays: Arrays) -> int | None:
    """Return which of the arrays ``part`` is, as an object; None if it is none of them."""
    return next((k for k, a in enumerate(arrays) if a is part), None)
