"""The gradient that reaches every state of a layer: what a backward loop carries, kept.

The loop compiled by Numba keeps it (see `xprnn.engine.loop.protocol.Keeping`).  The others return
da(t), and of the gradient of the state that they carry only the last.  The rest follows from da,
for all steps at once but for a cell's direct paths::

    g(t) = r(t), plus the final state's gradient at the last step     (1)
    dh(t) = g(t) + m Uᵀ da(t+1) + Σ_k D_hk(t+1) ds_k(t+1)             (2)
    dc(t) = g_c(t) + Σ_k D_ck(t+1) ds_k(t+1)                          (3)

with the state variables s = (h, c, ...), and D_jk(t), the derivative of s_k(t) with respect to
s_j(t-1) along the paths that don't go through U.  A cell is elementwise, so D_jk(t) is a number for
each unit: what the cell's `backward` returns for a gradient of s_k that is one.  Where no path of h
avoids U, as in the Elman cell and the LSTM, the sum in (2) is empty, and there is no loop.  In a
cell with a second product, what passes through its operand is added to (2) and (3); it follows from
da, too.

Padding has no state of its own: the gradient of the final state enters at each sequence's last
step, and dh is zero beyond it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, second_product
from xprnn.engine.layer.segments import SegmentTape
from xprnn.engine.layer.window import direct_gradient, ends
from xprnn.engine.loop.evaluate import evaluate
from xprnn.engine.loop.gaps import find_gaps
from xprnn.engine.loop.plain import held, step_back
from xprnn.engine.loop.protocol import Recurrent
from xprnn.engine.loop.second import (
    first_rows,
    operand_backward,
    operand_gradient,
    product,
)
from xprnn.engine.loop.traced import formulas_of
from xprnn.engine.normalization import Normalized


class Reached(NamedTuple):
    """The steps of a layer in one direction, and the gradient that reaches their states.

    Attributes
    ----------
    steps : slice
        A segment, or all steps, in the order in which the direction reads them.
    dh : array, (L, B, H)
        The whole gradient of h(t); zero in the padding.
    recurrent : Recurrent
        Its mask is that of these steps.
    saved : SegmentTape
    """

    steps: slice
    dh: Array
    recurrent: Recurrent
    saved: SegmentTape


Watch: TypeAlias = Callable[[Reached], None]
"""Called with the segments of a layer, the last one first."""


def state_gradients(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    saved: SegmentTape,
    r: Array | None,
    d_state: Arrays,
    da: Array,
) -> Array:
    """Return dh, (T, B, H): see the equations above.

    Parameters
    ----------
    r : array, (T, B, H), or None
        The gradient that reaches each h(t) from outside the loop.
    d_state : tuple of array, (B, H) each
        Of the final state.
    da : array, (T, B, G·H)
        What the backward loop returned.
    """
    xp, library, valid = backend.xp, backend.library, recurrent.valid
    if find_gaps(backend, valid) is not None:
        return _through_gaps(backend, cell, recurrent, saved, r, d_state)
    steps, *rest = saved.trajectory.states[0][1:, ...].shape
    if valid is None and r is not None:
        own, at_last = r, r[-1:, ...] + d_state[0]  # (1)
    else:
        last = None if valid is None else ends(xp, valid)[1]
        own = direct_gradient(xp, (steps, *rest), r, d_state, last)[0]  # (1)
        at_last = own[-1:, ...]
    if steps == 1:
        dh = at_last
    else:
        later, rows = own[:-1, ...], first_rows(cell, recurrent.U)
        through: tuple[Array | None, ...] = (None,) * len(d_state)
        if rows:
            through_U = library.product(library.rows(da[1:, :, :rows]), recurrent.U[:rows, :])
            through_U = xp.reshape(through_U, (steps - 1, *rest))
            if recurrent.mask is not None:
                through_U *= recurrent.mask
            through_U += later
            later = through_U
        if second_product(cell):
            through = _through_operand(xp, cell, recurrent, saved, da[1:, :, rows:])
            later = later if through[0] is None else later + through[0]
        dh = xp.concat((later, at_last), axis=0)
        paths = _direct_paths(xp, cell, recurrent, saved)
        if paths is not None:
            others: Arrays = ()
            if len(d_state) > 1:
                last = None if valid is None else ends(xp, valid)[1]
                others = direct_gradient(xp, (steps, *rest), None, d_state, last)[1:]
                others = tuple(
                    [
                        g if part is None else xp.concat((g[:-1, ...] + part, g[-1:, ...]), axis=0)
                        for g, part in zip(others, through[1:], strict=True)
                    ]
                )
            dh = _carried(backend, paths, (dh, *others))  # (2), (3)
    return dh if valid is None else library.zero_unless(valid, dh)


def _through_gaps(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    saved: SegmentTape,
    r: Array | None,
    d_state: Arrays,
) -> Array:
    """Return dh, (T, B, H), of sequences with gaps: step by step, as the backward loop has it."""
    xp, trajectory, valid = backend.xp, saved.trajectory, recurrent.valid
    assert valid is not None
    found = []
    for t in reversed(range(valid.shape[0])):
        if r is not None:
            d_state = (d_state[0] + r[t, ...], *d_state[1:])
        found.append(d_state[0])
        norms = trajectory.normalized
        step = step_back(
            xp,
            cell,
            recurrent,
            tuple([part[t, ...] for part in trajectory.saved]),
            tuple([part[t, ...] for part in trajectory.states]),
            None if norms is None else Normalized(*[part[t, ...] for part in norms]),
            valid[t, ...],
            d_state,
        )
        d_state = held(xp, valid[t, ...], step.state, d_state)
    found.reverse()
    return backend.library.zero_unless(valid, xp.stack(found))


def recurrent_projection(
    backend: Backend, cell: Cell, recurrent: Recurrent, saved: SegmentTape
) -> Array:
    """Return v of all steps, (L, B, G·H), of which a tape holds the states alone.

    (L, B, 0) for a cell that does not read v.
    """
    if recurrent.gain is not None and saved.trajectory.normalized is not None:
        return recurrent.gain * saved.trajectory.normalized.n
    h, library, U = saved.trajectory.states[0][:-1, ...], backend.library, recurrent.U
    xp = backend.xp
    if not U.shape[0]:
        return h[..., :0]
    if recurrent.mask is not None:
        h = h * recurrent.mask
    if second_product(cell):
        rows, operand = first_rows(cell, U), saved.trajectory.saved[-1]
        parts = (product(xp, h, U[:rows, :].T), product(xp, operand, U[rows:, :].T))
        return xp.concat(parts, axis=-1)
    return backend.xp.reshape(library.product(library.rows(h), U.T), (*h.shape[:2], U.shape[0]))


def _through_operand(
    xp: Namespace, cell: Cell, recurrent: Recurrent, saved: SegmentTape, da_2: Array
) -> tuple[Array | None, ...]:
    """Return what reaches the states through the operand of a second product, (T-1, B, H) each."""
    *own, _ = [part[1:, ...] for part in saved.trajectory.saved]
    previous = tuple([part[1:-1, ...] for part in saved.trajectory.states])
    do = operand_gradient(xp, cell, recurrent, da_2)
    return operand_backward(xp, cell, recurrent, tuple(own), previous, do)[2]


Paths: TypeAlias = tuple[tuple[Array | None, ...], ...]


def _direct_paths(
    xp: Namespace, cell: Cell, recurrent: Recurrent, saved: SegmentTape
) -> Paths | None:
    """Return D, ``D[j][k]`` (T-1, B, H) each, of every step but the first; None if h has none."""
    columns: list[tuple[Array | None, ...]]
    states, formulas = saved.trajectory.states, formulas_of(cell)
    count = len(states)
    previous = [part[1:-1, ...] for part in states]
    if formulas is not None:
        program = formulas.backward
        nodes = program.outputs["previous"]
        if nodes[0] is None:
            return None
        inputs: dict[str, Any] = {f"previous{k}": part for k, part in enumerate(previous)}
        inputs |= {f"saved{k}": part[1:, ...] for k, part in enumerate(saved.trajectory.saved)}
        inputs |= {f"unit{k}": part for k, part in enumerate(recurrent.units)}
        wanted = [node for node in nodes if node is not None]
        columns = []
        for k in range(count):
            one = {f"d_state{j}": float(j == k) for j in range(count)}
            values = evaluate(xp, program, wanted, inputs | one)
            zeros = xp.zeros_like(previous[0])
            columns.append(tuple([None if n is None else values[n] + zeros for n in nodes]))
    else:
        columns = _probed(xp, cell, recurrent, saved)
        if columns[0][0] is None:
            return None
    rows = tuple(zip(*columns, strict=True))
    if recurrent.valid is None:
        return rows
    within = recurrent.valid[1:, ...]
    zeros = xp.zeros_like(states[0][2:, ...])
    return tuple(
        tuple([None if D is None else held(xp, within, (D,), (zeros,))[0] for D in row])
        for row in rows
    )


def _probed(
    xp: Namespace, cell: Cell, recurrent: Recurrent, saved: SegmentTape
) -> list[tuple[Array | None, ...]]:
    """Return the columns of D of a cell that can't be traced: its `backward` of one state each."""
    states = saved.trajectory.states
    previous = tuple([part[1:-1, ...] for part in states])
    zero, one = xp.zeros_like(previous[0]), xp.ones_like(previous[0])
    own = saved.trajectory.saved[: -1 if second_product(cell) else None]
    parts = (*[part[1:, ...] for part in own], *recurrent.units)
    columns = []
    for k in range(len(states)):
        of_state = tuple([one if j == k else zero for j in range(len(states))])
        columns.append(cell.backward(xp, parts, previous, of_state)[2])
    return columns


def _carried(backend: Backend, paths: Paths, g: Arrays) -> Array:
    """Return dh of all steps: carry the gradient along the direct paths from the last to the first.

    Parameters
    ----------
    paths : tuple of tuple of array
        See `_direct_paths`.
    g : tuple of array, (T, B, H) each
        What reaches each state in other ways.
    """
    xp = backend.xp
    last = tuple([part[-1, ...] for part in g])
    before = tuple([part[:-1, ...] for part in g])

    def back(ds: Arrays, at: Any) -> tuple[Arrays, Array]:
        D, g_t = at
        new = []
        for row, own in zip(D, g_t, strict=True):
            total = own
            for factor, d in zip(row, ds, strict=True):
                if factor is not None:
                    total = total + factor * d
            new.append(total)
        return tuple(new), new[0]

    if backend.library.compiles and backend.library.traced(last[0]):
        _, dh = backend.library.scan(back, last, (paths, before), reverse=True)
        return xp.concat((dh, last[0][None, ...]), axis=0)
    count = before[0].shape[0]
    if len(g) == 1 and paths[0][0] is not None:
        return backend.library.carry_back(paths[0][0], g[0])
    D = [_at_steps(xp, row, count) for row in paths]
    each = list(zip(*map(xp.unstack, before), strict=True))
    ds = last
    found = [last[0]]
    for t in reversed(range(count)):
        ds, dh_t = back(ds, ([row[t] for row in D], each[t]))
        found.append(dh_t)
    return xp.stack(found[::-1])


def _at_steps(
    xp: Namespace, row: tuple[Array | None, ...], count: int
) -> list[tuple[Array | None, ...]]:
    """Return the factors of a row at every step."""
    columns = [[None] * count if D is None else xp.unstack(D) for D in row]
    return list(zip(*columns, strict=True))
