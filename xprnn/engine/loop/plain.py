"""The plain time loop: array API code that calls the cell at every step.

It is the reference that every lowering is held to, and it runs every cell, on every backend.
Numbers refer to the equations in `xprnn.engine.loop.protocol`.
"""

from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, second_product
from xprnn.engine.loop.protocol import (
    LoopGradient,
    Recurrent,
    StepGradient,
    Trajectory,
    Work,
)
from xprnn.engine.loop.second import first_rows, product, through_operand, two_products
from xprnn.engine.normalization import Normalized, normalize, normalize_backward


class PlainLoops:
    """The time loop of any cell.

    Parameters
    ----------
    xp : namespace
    cell : Cell
    """

    name: ClassVar[str] = "plain"
    normalizes: ClassVar[bool] = True

    def __init__(self, xp: Namespace, cell: Cell) -> None:
        self.xp, self.cell = xp, cell

    def suits(self, work: Work) -> bool:
        del work
        return True

    def describe(self) -> str:
        return "run as plain array code"

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        xp, cell, valid = self.xp, self.cell, recurrent.valid
        U_T = recurrent.U.T
        states, tape, norms = [state], [], []
        for t, u_t in enumerate(xp.unstack(u)):
            within = None if valid is None else valid[t, ...]
            state, saved, normalized = step_forward(xp, cell, recurrent, U_T, u_t, within, state)
            states.append(state)
            if normalized is not None:
                norms.append(normalized)
            if save:
                tape.append(saved)
        stacked = tuple(xp.stack(arrays) for arrays in zip(*states, strict=True))
        if not save:
            return Trajectory(stacked, ())
        # Where a cell saves one of its state variables (Elman saves h), the tape refers to the
        # states and does not hold it twice.
        twins = tuple(index_of(part, states[1]) for part in tape[0])
        return Trajectory(
            stacked,
            tuple(
                xp.stack([step[k] for step in tape]) if twin is None else stacked[twin][1:, ...]
                for k, twin in enumerate(twins)
            ),
            Normalized(*map(xp.stack, zip(*norms, strict=True))) if norms else None,
        )

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        xp, cell, valid = self.xp, self.cell, recurrent.valid
        steps = trajectory.states[0].shape[0] - 1
        # A cell that saves nothing has an empty tuple at every step.
        saved = list(zip(*map(xp.unstack, trajectory.saved), strict=True)) or [()] * steps
        previous = list(zip(*map(xp.unstack, trajectory.states), strict=True))
        r = [None] * steps if dh is None else xp.unstack(dh)
        norms: list[Normalized | None] = [None] * steps
        if trajectory.normalized is not None:
            parts = zip(*map(xp.unstack, trajectory.normalized), strict=True)
            norms = [Normalized(*part) for part in parts]
        gradients = []
        for t in reversed(range(steps)):
            if dh is not None:
                d_state = (d_state[0] + r[t], *d_state[1:])  # (5)
            within = None if valid is None else valid[t, ...]
            step = step_back(xp, cell, recurrent, saved[t], previous[t], norms[t], within, d_state)
            gradients.append(step)
            before = step.state
            if within is not None:
                before = held(xp, within, before, d_state)  # (10)
            d_state = before
        gradients.reverse()
        da = xp.stack([step.da for step in gradients])
        same = all(step.du is step.da for step in gradients)
        du = da if same else xp.stack([step.du for step in gradients])
        units = [
            _total(xp, parts)  # (11)
            for parts in zip(*(step.units for step in gradients), strict=True)
        ]
        gain = _total(xp, [s.gain for s in gradients]) if recurrent.gain is not None else None
        return LoopGradient(du, da, tuple(units), gain, d_state)


def step_forward(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    U_T: Array,
    u: Array,
    within: Array | None,
    state: Arrays,
) -> tuple[Arrays, Arrays, Normalized | None]:
    """Carry the state through one step: equations (1) to (4).

    Parameters
    ----------
    U_T : array, (H, G·H)
        Uᵀ.
    u : array, (B, G·H)
        Of the step.
    within : array of bool, (B, 1), or None
        The padding mask of the step.
    state : tuple of array, (B, H) each
        Before the step.

    Returns
    -------
    state, saved : tuple of array
    normalized : Normalized or None
        Of a(t), if the layer normalises.
    """
    U, units, gain, mask, _ = recurrent
    (rows, hidden), gates, normalized = U.shape, cell.gates, None
    u_blocks, operand, v = _blocks(u, gates, hidden), None, units
    if rows:
        g = state[0] if mask is None else state[0] * mask  # (1)
        if second_product(cell):
            a, operand = two_products(xp, cell, recurrent, U_T, u_blocks, g, state)  # (2a) to (2c)
        else:
            a = g @ U_T  # (2)
        if gain is not None:
            normalized = normalize(xp, a)
            a = gain * normalized.n  # (3)
        v = (*_blocks(a, gates, hidden), *units)
    new, saved = cell.forward(xp, u_blocks, v, state)
    if operand is not None:
        saved = (*saved, operand)
    if within is not None:
        new = held(xp, within, new, state)  # (4)
    return new, saved, normalized


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
    """Propagate a gradient through one step, or through each of all steps on its own.

    Equations (6) to (9).  Arrays are those of one step, (B, ...), or of all, (T, B, ...).

    Parameters
    ----------
    saved, previous : tuple of array
        What the cell saved, and the state before the step.
    normalized : Normalized or None
        Of a(t), if the layer normalises.
    within : array of bool or None
        The padding mask.  Past the end nothing reaches u or a parameter; the gradient of the
        previous state is not corrected there, which is up to the caller.
    d_state : tuple of array
        The gradient of the state after the step.
    """
    U, units, gain, mask, _ = recurrent
    second, gates = second_product(cell), cell.gates if U.shape[0] else 0
    if second:
        saved = saved[:-1]
    gradients = cell.backward(xp, (*saved, *units), previous, d_state)
    if second:
        gradients = through_operand(xp, cell, recurrent, saved, previous, gradients)
    du_blocks, dv_blocks, d_previous = gradients
    dv_blocks, d_units = dv_blocks[:gates], dv_blocks[gates:]
    same = gates > 0 and all(a is b for a, b in zip(du_blocks, dv_blocks, strict=True))
    da = _join(xp, dv_blocks) if gates else du_blocks[0][..., :0]
    du = da if same else _join(xp, du_blocks)
    if within is not None:  # (6)
        da = xp.where(within, da, xp.zeros_like(da))
        du = da if same else xp.where(within, du, xp.zeros_like(du))
        d_units = held(xp, within, d_units, tuple(map(xp.zeros_like, d_units)))
    if not gates:
        zeros = xp.zeros_like(previous[0])
        return StepGradient(du, da, d_units, None, _or_zeros(zeros, d_previous))
    d_gain = None
    if gain is not None and normalized is not None:
        da, d_gain = normalize_backward(xp, normalized, gain, da)  # (7)
    if second:
        rows = first_rows(cell, U)
        dg = product(xp, da[..., :rows], U[:rows, :])  # (8c)
    else:
        dg = product(xp, da, U)  # (8)
    if mask is not None:
        dg = dg * mask  # (9)
    return StepGradient(du, da, d_units, d_gain, _plus_direct(xp, dg, d_previous))


def _blocks(a: Array, gates: int, hidden: int) -> Arrays:
    """Split (B, G·H) into G blocks (B, H)."""
    if gates == 1:
        return (a,)
    return tuple(a[..., k * hidden : (k + 1) * hidden] for k in range(gates))


def _join(xp: Namespace, blocks: Arrays) -> Array:
    """Join G blocks (..., H) to (..., G·H)."""
    return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=-1)


def _plus_direct(xp: Namespace, dg: Array, d_previous: tuple[Array | None, ...]) -> Arrays:
    """Add what comes through U to the direct gradient of the previous state."""
    dh, *others = d_previous
    return (
        dg if dh is None else dg + dh,  # (9)
        *(xp.zeros_like(dg) if part is None else part for part in others),
    )


def _or_zeros(zeros: Array, d_previous: tuple[Array | None, ...]) -> Arrays:
    """Return the direct gradient of the previous state, which is all of it without U."""
    return tuple([zeros if part is None else part for part in d_previous])  # (9)


def held(xp: Namespace, condition: Array, new: Arrays, old: Arrays) -> Arrays:
    """Return the new arrays where the condition holds, else the old ones."""
    return tuple(xp.where(condition, a, b) for a, b in zip(new, old, strict=True))


def _total(xp: Namespace, parts: list[Array] | tuple[Array, ...]) -> Array:
    """Sum (B, K) arrays to (K,)."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return xp.sum(total, axis=0)


def index_of(part: Array, arrays: Arrays) -> int | None:
    """Return which of the arrays is the same object as ``part``, if any."""
    return next((k for k, a in enumerate(arrays) if a is part), None)
