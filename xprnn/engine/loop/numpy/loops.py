"""The time loop in NumPy: made from a cell's traced formulas, and called.

No state survives a call except the compiled functions, so several threads may use one network, or
several, at the same time.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.cut_products import step_dot
from xprnn.backend.host.pool import copied, empty
from xprnn.backend.host.threads import step_products
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.gaps import Gaps, of_following
from xprnn.engine.loop.joint import joint_backward, joint_forward
from xprnn.engine.loop.numpy.plan import LoopPlan, plan_backward, plan_forward
from xprnn.engine.loop.numpy.source import backward_source, forward_source
from xprnn.engine.loop.program import ARITHMETIC, COMPARISONS, LOGIC, Program, pruned
from xprnn.engine.loop.protocol import (
    LoopGradient,
    Recurrent,
    StepGradient,
    Trajectory,
    Work,
)
from xprnn.engine.loop.trace import Formulas

CACHE = 2**20
"""Bytes that the buffers of a block of steps may fill together: they are read again at once."""
_STEPS_WORTH_A_COPY = 8
"""From this many steps on, multiplying by a contiguous Uᵀ makes up for copying it."""
_STRIPE = 64
"""Rows of U that are transposed at a time."""

_NAMES = {name: getattr(np, name) for name in (ARITHMETIC | COMPARISONS | LOGIC) if name != "round"}
_NAMES |= {name: getattr(np, name) for name in ("array", "copyto", "zeros")}
_NAMES["step_dot"] = step_dot
_NAMES |= {"copied": copied, "empty": lambda shape, dtype: empty(shape, np.dtype(dtype))}
_NAMES |= {"round": np.rint, "inf": np.inf, "nan": np.nan}


class Compiled(NamedTuple):
    """A loop as a Python function.

    Attributes
    ----------
    call : callable
    source : str
    buffers : int
        The number of buffers that hold a block of steps.
    """

    call: Callable[..., Any]
    source: str
    buffers: int

    def block(self, steps: int, entry: int) -> int:
        """Return the number of steps in a block, given the bytes of one step in one buffer."""
        return max(1, min(steps, CACHE // max(1, self.buffers * entry)))


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
        steps, batch = u.shape[:2]
        block = loop.block(steps, batch * U.shape[1] * u.itemsize)
        with step_products(batch, U.size):
            found = loop.call(u, _transposed(U, steps), units, state, mask, valid, block, u.dtype)
        return Trajectory(*found)

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        loop = self.backward_loop(
            outer=dh is not None, masked=mask is not None, padded=valid is not None
        )
        steps = states[0].shape[0] - 1
        block = loop.block(steps, states[0][0].nbytes)
        U = np.ascontiguousarray(U)
        with step_products(states[0].shape[1], U.size):
            du, dv, d_units, d_initial = loop.call(
                U, units, states, saved, dh, d_state, mask, valid, block, U.dtype
            )
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
        for _ in range(count):
            _reaching(G, dh, d_state, reach, last, gaps)
            with step_products(rows[1], U.size):
                du, dv, d_units, found = loop.call(
                    *(U, units, previous, saved, None, [part.reshape(rows[1:]) for part in G]),
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


def _compiled(name: str, source: str, plan: LoopPlan) -> Compiled:
    namespace = dict(_NAMES)
    exec(compile(source, f"<xprnn {name}>", "exec"), namespace)
    return Compiled(namespace[name], source, len(plan.blocks.buffers))


def _transposed(U: Array, steps: int) -> Array:
    """Return Uᵀ, as a contiguous copy if there are enough steps to make up for the copying."""
    if steps < _STEPS_WORTH_A_COPY:
        return U.T
    made = empty(U.shape[::-1], U.dtype)
    # In stripes, because otherwise each entry is read from, or written to, a cache line of its own.
    for start in range(0, U.shape[0], _STRIPE):
        made[:, start : start + _STRIPE] = U[start : start + _STRIPE].T
    return made
