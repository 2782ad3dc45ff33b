"""The time loop in NumPy: made from a cell's traced formulas, and called.

No state survives a call except the compiled functions, so several threads may use one network, or
several, at the same time.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.cut_products import step_dot
from xprnn.backend.host.pool import copied, empty
from xprnn.backend.host.threads import step_products
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.gaps import Gaps, of_following
from xprnn.engine.loop.joint import joint_backward, joint_forward
from xprnn.engine.loop.numpy.joined import Joined
from xprnn.engine.loop.numpy.plan import LoopPlan, plan_backward, plan_forward
from xprnn.engine.loop.numpy.sequences import of_each, parts
from xprnn.engine.loop.numpy.source import backward_source, forward_source
from xprnn.engine.loop.program import ARITHMETIC, BOOL, COMPARISONS, LOGIC, Program, pruned
from xprnn.engine.loop.protocol import (
    LoopGradient,
    Recurrent,
    StepGradient,
    Trajectory,
    Work,
)
from xprnn.engine.loop.results import Place, saved_places
from xprnn.engine.loop.trace import Formulas

CACHE = 2**20
"""Bytes that the buffers of a block of steps may fill together: they are read again at once."""
_STEPS_WORTH_A_COPY = 8
"""From this many steps on, multiplying by a contiguous Uᵀ makes up for copying it."""
_STRIPE = 64
"""Rows of U that are transposed at a time."""

_TRUTH = np.dtype("bool")

_NAMES = {name: getattr(np, name) for name in (ARITHMETIC | COMPARISONS | LOGIC) if name != "round"}
_NAMES |= {name: getattr(np, name) for name in ("array", "copyto", "zeros")}
_NAMES["step_dot"] = step_dot
_NAMES |= {"empty": lambda shape, dtype: empty(shape, np.dtype(dtype))}
_NAMES |= {"round": np.rint, "inf": np.inf, "nan": np.nan}


class Compiled(NamedTuple):
    """A loop as a Python function.

    Attributes
    ----------
    call : callable
    source : str
    plan : LoopPlan
    saved, gates, places : tuple
        Of a forward loop: what is saved, the gates among it that are one array, and where each
        saved quantity lies.  Here because to ask the plan takes as long as a few steps.
    """

    call: Callable[..., Any]
    source: str
    plan: LoopPlan
    saved: tuple[tuple[str, str], ...] = ()
    gates: tuple[Joined, ...] = ()
    places: tuple[Place, ...] = ()

    def block(self, steps: int, entry: int) -> int:
        """Return the number of steps in a block, given the bytes of one step in one buffer."""
        return max(1, min(steps, CACHE // max(1, len(self.plan.blocks.buffers) * entry)))


class NumPyLoops:
    """A cell's time loop in NumPy calls, without allocations inside the loop."""

    name: ClassVar[str] = "numpy"
    normalizes: ClassVar[bool] = False

    def __init__(self, formulas: Formulas) -> None:
        self.formulas = formulas
        # Two threads may both make a loop, and then either result may be kept.
        self._loops: dict[tuple[str, bool, bool, bool], Compiled] = {}

    def suits(self, work: Work) -> bool:
        return not work.normalizes

    def describe(self) -> str:
        return "lowered to NumPy calls"

    def forward_loop(self, *, masked: bool, save: bool, padded: bool = False) -> Compiled:
        """Return the loop from step 0 to step T-1."""
        key = ("forward", masked, save, padded)
        if key not in self._loops:
            formulas, gates, second = self.formulas, self.formulas.gates, self.formulas.second
            program = joint_forward(formulas, masked=masked) if second else formulas.forward
            if not save:
                program = pruned(Program(program.nodes, {**program.outputs, "saved": ()}))
            plan = plan_forward(program, gates, second)
            source = forward_source(plan, gates, second, masked=masked, padded=padded)
            self._loops[key] = _compiled("forward", source, plan)
        return self._loops[key]

    def backward_loop(self, *, outer: bool, masked: bool, padded: bool = False) -> Compiled:
        """Return the loop from step T-1 to step 0.  Without ``outer``, dh is None."""
        key = ("backward", outer, masked, padded)
        if key not in self._loops:
            formulas, gates, second = self.formulas, self.formulas.gates, self.formulas.second
            plan = plan_backward(joint_backward(formulas) if second else formulas.backward, gates)
            source = backward_source(plan, gates, second, outer=outer, masked=masked, padded=padded)
            self._loops[key] = _compiled("backward", source, plan)
        return self._loops[key]

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        U, units, _, mask, valid = recurrent
        loop = self.forward_loop(masked=mask is not None, save=save, padded=valid is not None)
        (steps, batch, _), hidden, dtype = u.shape, U.shape[1], u.dtype
        states = tuple([empty((steps + 1, batch, hidden), dtype) for _ in state])
        for made, initial in zip(states, state, strict=True):
            made[0] = initial
        gates = [
            empty((steps, each.last - each.first, batch, hidden), dtype) for each in loop.gates
        ]
        saved = {
            loop.plan.results[index]: made[:, k]
            for made, each in zip(gates, loop.gates, strict=True)
            for k, index in enumerate(each.results)
        }
        for name, kind in loop.saved:
            if name not in saved:
                of_entry = _TRUTH if kind == BOOL else dtype
                saved[name] = empty((steps, batch, hidden), of_entry)
        into = tuple([saved[name] for name, _ in loop.saved])
        cut = parts(batch, U.size, u.itemsize)
        rows = batch // len(cut)
        apart = loop.plan.joined and gates_apart(rows, steps, U)
        U_T = _transposed_gates(U) if apart else _transposed(U, steps)

        def part(mine: slice) -> None:
            block = loop.block(steps, (mine.stop - mine.start) * hidden * u.itemsize)
            loop.call(
                *(u[:, mine], U_T, units, _part(states, mine), _part(into, mine)),
                *([made[:, :, mine] for made in gates],),
                *(_rows(mask, mine), _steps(valid, mine), block, dtype),
            )

        with step_products(rows, U.size):
            of_each(part, cut)
        return Trajectory(states, tuple([_saved(place, states, saved) for place in loop.places]))

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        loop = self.backward_loop(
            outer=dh is not None, masked=mask is not None, padded=valid is not None
        )
        steps, batch, hidden = states[0].shape
        steps -= 1
        U, dtype = np.ascontiguousarray(U), U.dtype
        d_initial = tuple([copied(part, dtype) for part in d_state])
        du, dv = _gradients(loop, steps, batch, self.formulas.gates, U)

        def part(mine: slice) -> Arrays:
            block = loop.block(steps, (mine.stop - mine.start) * hidden * U.itemsize)
            made: Arrays = loop.call(
                *(U, units, _part(states, mine), _part(saved, mine), _steps(dh, mine)),
                *([a[mine] for a in d_initial], du[:, mine], dv[:, mine]),
                *(_rows(mask, mine), _steps(valid, mine), block, dtype),
            )
            return made

        cut = parts(batch, U.size, U.itemsize)
        with step_products(batch // len(cut), U.size):
            made = of_each(part, cut)
        d_units = made[0] if len(cut) == 1 else tuple(map(sum, zip(*made, strict=True)))
        return LoopGradient(du, dv, d_units, None, d_initial)

    def sweeps(
        self,
        recurrent: Recurrent,
        trajectory: Trajectory,
        dh: Array | None,
        d_state: Arrays,
        before: Arrays | None,
        count: int,
        gaps: Gaps | None,
    ) -> StepGradient:
        # In a sweep each step is on its own, so all T steps of B sequences are to the loop as one
        # step of T·B sequences.
        U, units, _, mask, valid = recurrent
        steps, batch, hidden = trajectory.states[0][1:].shape
        shape, rows = (steps, batch, hidden), (1, steps * batch, hidden)
        # The loop reads the state before its only step, and never the one after it.
        previous = [
            np.broadcast_to(states[:-1].reshape(rows), (2, *rows[1:]))
            for states in trajectory.states
        ]
        saved = [part.reshape(rows) for part in trajectory.saved]
        if mask is not None:
            each = empty(shape, U.dtype)
            each[...] = mask
            mask = each.reshape(rows[1:])
        loop = self.backward_loop(outer=False, masked=mask is not None, padded=valid is not None)
        within, last = None, None
        if valid is not None:
            within, last = valid.reshape(*rows[:2], 1), valid.copy()
            last[:-1] &= ~valid[1:]
        if gaps is not None:
            last = gaps.last
        U, reach = np.ascontiguousarray(U), before
        G = [empty(shape, U.dtype) for _ in d_state]
        du, dv = _gradients(loop, 1, rows[1], self.formulas.gates, U)
        for _ in range(count):
            _reaching(G, dh, d_state, reach, last, gaps)
            found = [copied(part.reshape(rows[1:]), U.dtype) for part in G]
            with step_products(rows[1], U.size):
                d_units = loop.call(
                    *(U, units, previous, saved, None, found, du, dv),
                    *(mask, within, 1, U.dtype),
                )
            reach = tuple([part.reshape(shape) for part in found])
        assert reach is not None
        da = dv.reshape((steps, batch, U.shape[0]))
        shape = (steps, batch, self.formulas.gates * hidden)
        return StepGradient(da if du is dv else du.reshape(shape), da, d_units, None, reach)


def _reaching(
    G: list[Array],
    dh: Array | None,
    d_state: Arrays,
    reach: Arrays | None,
    last: Array | None,
    gaps: Gaps | None,
) -> None:
    """Write to G what reaches the state after every step: see `xprnn.engine.layer.window`, (1).

    ``last`` (T, B, 1) says which step is the last of its sequence; None: step T-1.
    """
    for k, (each, final) in enumerate(zip(G, d_state, strict=True)):
        each[...] = 0 if k or dh is None else dh
        if last is None:
            each[-1] += final
        else:
            np.add(each, final, out=each, where=last)
        if reach is not None and gaps is not None:
            np.add(each, of_following(np, gaps, reach[k]), out=each)
        elif reach is not None:
            each[:-1] += reach[k][1:]


def _gradients(loop: Compiled, steps: int, batch: int, gates: int, U: Array) -> tuple[Array, Array]:
    """Return the arrays for du and dv, which are the same one where the cell's are equal."""
    dv = empty((steps, batch, U.shape[0]), U.dtype)
    if "du" not in loop.plan.program.outputs:
        return dv, dv
    return empty((steps, batch, gates * U.shape[1]), U.dtype), dv


def _part(arrays: Sequence[Array], sequences: slice) -> Arrays:
    """Return some sequences of arrays (T, B, ...)."""
    return tuple([a[:, sequences] for a in arrays])


def _steps(a: Array | None, sequences: slice) -> Array | None:
    """Return some sequences of an array (T, B, ...)."""
    return None if a is None else a[:, sequences]


def _rows(a: Array | None, sequences: slice) -> Array | None:
    """Return some rows of an array (B, ...)."""
    return None if a is None else a[sequences]


def _saved(place: Place, states: Arrays, saved: dict[str, Array]) -> Array:
    """Return what lies at a place, for all steps."""
    where, k = place
    if where == "saved":
        return saved[f"saved{k}"]
    return states[k][:-1] if where == "before" else states[k][1:]


def _compiled(name: str, source: str, plan: LoopPlan) -> Compiled:
    namespace: dict[str, Any] = {**_NAMES, "gates_dot": gates_dot, "spread": spread}
    exec(compile(source, f"<xprnn {name}>", "exec"), namespace)
    call = namespace[name]
    if name == "backward":
        return Compiled(call, source, plan)
    places = tuple(saved_places(plan.program))
    return Compiled(call, source, plan, tuple(plan.saved), tuple(plan.stored_gates), places)


def _transposed(U: Array, steps: int) -> Array:
    """Return Uᵀ, as a contiguous copy if there are enough steps to make up for the copying."""
    if steps < _STEPS_WORTH_A_COPY:
        return U.T
    made = empty(U.shape[::-1], U.dtype)
    _transpose(U, made)
    return made


def _transpose(U: Array, into: Array) -> None:
    """Write Uᵀ to an array."""
    # In stripes, because otherwise each entry is read from, or written to, a cache line of its own.
    for start in range(0, U.shape[0], _STRIPE):
        into[:, start : start + _STRIPE] = U[start : start + _STRIPE].T


def _transposed_gates(U: Array) -> Array:
    """Return the transposes of the gates' rows of U, (G, H, H)."""
    hidden = U.shape[1]
    made = empty((len(U) // hidden, hidden, hidden), U.dtype)
    for k, gate in enumerate(made):
        _transpose(U[k * hidden : (k + 1) * hidden], gate)
    return made


def gates_apart(rows: int, steps: int, U: Array) -> bool:
    """Return whether each gate gets a product of its own, which leaves no gaps between its rows."""
    return rows > 1 and steps >= _STEPS_WORTH_A_COPY and step_dot(rows, U.T) is np.dot


def gates_dot(
    rows: int, U_T: Array, gates: int
) -> tuple[Callable[[Array, Array, Array], object], Array, Array]:
    """Return what makes v of all gates, where it puts it, and a view of that, (gates, rows, H)."""
    hidden, dtype = U_T.shape[-2], U_T.dtype
    if U_T.ndim == 3:
        v = empty((gates, rows, hidden), dtype)
        return np.matmul, v, v
    v = empty((rows, gates * hidden), dtype)
    return step_dot(rows, U_T), v, v.reshape(rows, gates, hidden).transpose(1, 0, 2)


def spread(numbers: tuple[float, ...], rows: int, hidden: int, dtype: Any) -> Array:
    """Return a number for each gate: one for all of them if it is the same, else for each entry."""
    if len(set(numbers)) == 1:
        return np.array(numbers[0], dtype)
    made = np.empty((len(numbers), rows, hidden), dtype)
    made[...] = np.array(numbers, dtype)[:, None, None]
    return made
