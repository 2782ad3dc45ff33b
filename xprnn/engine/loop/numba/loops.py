"""The time loop compiled by Numba: compiling it, and calling it."""

import logging
from functools import partial
from typing import Any, ClassVar

from xprnn.backend.host.arrays import np
from xprnn.backend.host.pool import copied, empty
from xprnn.backend.numba import functions, intrinsics, packed, tiles
from xprnn.backend.numba.build import Built, NumbaError, build, numba, product_address, types
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.numba import team
from xprnn.engine.loop.numba.parts import GROUP, NUMBERS, Loop
from xprnn.engine.loop.numba.source import backward_loop, forward_loop, work_entries
from xprnn.engine.loop.numba.window import WINDOW_ROWS, window_loop
from xprnn.engine.loop.program import BOOL, FUNCTIONS
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, StepGradient, Trajectory, Work
from xprnn.engine.loop.results import one_gradient
from xprnn.engine.loop.trace import Formulas

_log = logging.getLogger("xprnn")
_DTYPES = {np.dtype(name): name for name in ("float32", "float64")}  # dtype.name is slow
_ABSENT = {(dtype, axes): np.empty((0,) * axes, dtype) for dtype in _DTYPES for axes in (2, 3)}
"""What a loop takes in the place of an array that is None, by dtype and number of axes."""
_ALL_VALID = np.empty((0, 0), bool)
_FLOATS = {"float32": types.float32, "float64": types.float64}


class NumbaLoops:
    """A cell's time loop in machine code, products and gates included.

    Parameters
    ----------
    formulas : Formulas
    cell : str
        The name of a cell that has them, for messages.
    """

    name: ClassVar[str] = "numba"
    normalizes: ClassVar[bool] = False

    def __init__(self, formulas: Formulas, cell: str = "a cell") -> None:
        self._cell = cell
        self._announced: set[str] = set()
        gates, forward, backward, *_ = formulas
        nodes, outputs = forward.nodes, forward.outputs
        kinds = [nodes[index or 0].kind for index in outputs["saved"]]
        self._loops = {
            "forward": forward_loop(forward, gates, len(backward.outputs["units"])),
            "backward": backward_loop(backward, gates, kinds),
            "window": window_loop(backward, gates, kinds),
        }
        self._gates = gates
        loop = self._loops["forward"]
        # None stands for the dtype of the network.
        self._saved_dtypes = tuple(
            np.dtype(bool) if kind == BOOL else None for kind in loop.saved.values()
        )
        self._places = tuple(_place(*place, list(loop.saved)) for place in loop.places)
        self._both = not one_gradient(backward)
        # Two threads may both compile a loop, and then either may stay.
        self._built: dict[tuple[str, str], Built | str] = {}

    def suits(self, work: Work) -> bool:
        if work.normalizes or work.dtype not in _FLOATS or not work.steps * work.batch:
            return False
        if work.direction == "window":
            # Threads share sequences only; with a large U, products that they share are better.
            size = self._gates * work.hidden**2 * np.dtype(work.dtype).itemsize
            if size > team.OWN_CACHE:
                return False
        return isinstance(self._compiled(work.direction, work.dtype), Built)

    def describe(self) -> str:
        parts = [
            f"{direction} in {dtype} {built if isinstance(built, str) else built.describe()}"
            for (direction, dtype), built in sorted(self._built.items())
        ]
        return f"compiled by Numba {numba.__version__} ({', '.join(parts) or 'when it is used'})"

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        U, units, _, mask, valid = recurrent
        u, U = _contiguous(u), _contiguous(U)
        (steps, batch, _), hidden, dtype = u.shape, U.shape[1], u.dtype
        states = tuple([empty((steps + 1, batch, hidden), dtype) for _ in state])
        for array, initial in zip(states, state, strict=True):
            array[0] = initial
        shape = (steps if save else 1, batch, hidden)
        saved = [empty(shape, kind or dtype) for kind in self._saved_dtypes]
        mask, masked = _mask(mask, states[0])
        given = (U, u, _valid(valid), mask, *_all_contiguous(units))
        self._run("forward", (*given, masked, *states, *saved), steps, batch, save)
        if not save:
            return Trajectory(states, ())
        return Trajectory(
            states,
            tuple([saved[k] if part is None else states[k][part] for k, part in self._places]),
        )

    def backward(
        self,
        recurrent: Recurrent,
        trajectory: Trajectory,
        dh: Array | None,
        d_state: Arrays,
        reached: Array | None = None,
    ) -> LoopGradient:
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        U = _contiguous(U)
        (borders, batch, hidden), dtype = states[0].shape, U.dtype
        steps = borders - 1
        dh = _ABSENT[dtype, 3] if dh is None else _contiguous(dh)
        carried = tuple([copied(part, dtype) for part in d_state])
        dv = empty((steps, batch, U.shape[0]), dtype)
        du = empty((steps, batch, self._gates * hidden), dtype) if self._both else dv
        sums = [np.zeros((-(-batch // GROUP), hidden), dtype) for _ in units]
        mask, _ = _mask(mask, states[0])
        kept = _ABSENT[dtype, 3] if reached is None else reached
        given = (U, dh, _valid(valid), mask, kept, *_all_contiguous((*units, *states, *saved)))
        filled = (*carried, *((dv, du) if self._both else (dv,)), *sums)
        self._run("backward", given + filled, steps, batch, 1)
        return LoopGradient(du, dv, _totals(sums), None, carried)

    def backward_keeping(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> tuple[LoopGradient, Array]:
        h = trajectory.states[0]
        reached = empty((h.shape[0] - 1, *h.shape[1:]), h.dtype)
        return self.backward(recurrent, trajectory, dh, d_state, reached), reached

    def sweeps(
        self,
        recurrent: Recurrent,
        trajectory: Trajectory,
        dh: Array | None,
        d_state: Arrays,
        before: Arrays | None,
        count: int,
    ) -> StepGradient:
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        U = _contiguous(U)
        (borders, batch, hidden), dtype = states[0].shape, U.dtype
        steps = borders - 1
        dh = _ABSENT[dtype, 3] if dh is None else _contiguous(dh)
        reach = before
        if reach is None:
            reach = tuple([empty((steps, batch, hidden), dtype) for _ in d_state])
            for part in reach:
                part[...] = 0
        dv = empty((steps, batch, U.shape[0]), dtype)
        du = empty((steps, batch, self._gates * hidden), dtype) if self._both else dv
        sums = [np.zeros((-(-batch // GROUP), hidden), dtype) for _ in units]
        mask, _ = _mask(mask, states[0])
        read = (*units, *states, *saved, *d_state)
        given = (U, dh, _valid(valid), mask, *_all_contiguous(read))
        filled = (*reach, *((dv, du) if self._both else (dv,)), *sums)
        self._run("window", given + filled, steps, batch, count)
        return StepGradient(du, dv, _totals(sums), None, reach)

    def _run(
        self, direction: str, arrays: tuple[Array, ...], steps: int, batch: int, number: int
    ) -> None:
        """Call a loop, in several threads if there is enough to do.

        ``number`` is its second one: whether to save anything, or how many sweeps to make.
        """
        U = arrays[0]
        dtype = _DTYPES[U.dtype]
        built = self._compiled(direction, dtype)
        if isinstance(built, str):
            raise RuntimeError(built)
        lanes, hidden = tiles.lanes(U.itemsize), U.shape[1]
        gates = U.shape[0] // hidden  # 0 for a cell that does not read v

        def work(share: team.Share) -> Array:
            width = -(-(share.last - share.first) // lanes) * lanes
            sequences = share.stop - share.start
            return empty((work_entries(direction, gates, hidden, sequences, width),), U.dtype)

        if direction == "window":
            shares = team.shares_of_sequences(steps * number, batch, U)
        else:
            shares = team.shares(steps, batch, U, lanes)
        team.run(partial(built.call, product_address(dtype), number), shares, work, arrays)

    def _compiled(self, direction: str, dtype: str) -> Built | str:
        """Return a compiled loop, or the reason why there is none."""
        key = (direction, dtype)
        if key not in self._built:
            loop = self._loops[direction]
            floats = _FLOATS[dtype]
            arrays = [
                types.Array(
                    types.boolean if a.kind == BOOL else floats, a.axes, "C", readonly=not a.written
                )
                for a in loop.arrays
            ]
            sync = types.Array(types.int64, 1, "C")
            work = types.Array(floats, 1, "C")
            signature = types.void(*[types.intp] * len(NUMBERS), sync, work, *arrays)
            # Both directions in one line.
            words = "" if dtype in self._announced else f"the loops for {self._cell} in {dtype}"
            self._announced.add(dtype)
            try:
                self._built[key] = build(
                    loop.source, _names(loop, dtype), signature, announced=words
                )
            except NumbaError as error:
                # Numba may lack a function that the formula uses; then the NumPy loop runs.
                self._built[key] = f"can't be compiled: {error}"
                _log.info("a loop %s", self._built[key])
        return self._built[key]


def _names(loop: Loop, dtype: str) -> dict[str, Any]:
    """Return the globals that the source of a loop needs."""
    scalar, size = getattr(np, dtype), np.dtype(dtype).itemsize
    bits = 8 * size
    names: dict[str, Any] = {
        name: getattr(np, name) for name in FUNCTIONS if name != "round" and hasattr(np, name)
    }
    names |= {
        "round": np.rint,
        "floor_divide": functions.floor_divide,
        "maximum": functions.maximum,
        "minimum": functions.minimum,
        "tanh": getattr(functions, f"tanh{bits}"),
        "call_product": packed.call_product,
        "pack": getattr(packed, f"pack{bits}"),
        "hold": intrinsics.hold,
        "meet": intrinsics.meet,
        "row": intrinsics.row,
        "empty": np.empty,
        "zeros": np.zeros,
        "dtype": scalar,
        "boolean": np.bool_,
        "zero": scalar(0),
        "one": scalar(1),
        "GROUP": GROUP,
        "ROWS": WINDOW_ROWS,
        "SIZE": size,
        "LANES": tiles.lanes(size),
    }
    for name, (value, kind) in loop.constants.items():
        names[name] = value if kind == BOOL else scalar(value)
    return names


def _place(where: str, k: int, own: list[int]) -> tuple[int, slice | None]:
    """Return where a saved quantity lies: in which of the own arrays, or in which part of a state.

    ``own`` are the numbers of the quantities that have an array of their own.
    """
    if where == "saved":
        return own.index(k), None
    return k, slice(-1) if where == "before" else slice(1, None)


def _totals(sums: list[Array]) -> Arrays:
    """Return the gradients of the per-unit parameters from those of groups of sequences: (11)."""
    return tuple([part[0] if len(part) == 1 else part.sum(axis=0) for part in sums])


def _contiguous(a: Array) -> Array:
    flags = a.flags
    # The first of these, which is one look-up, is true of most; an array may be read-only.
    if flags.carray or (flags.c_contiguous and flags.aligned):
        return a
    return copied(a)


def _all_contiguous(arrays: Arrays) -> list[Array]:
    # A call for each of them would take longer than the question.
    return [a if a.flags.carray else _contiguous(a) for a in arrays]


def _valid(valid: Array | None) -> Array:
    return _ALL_VALID if valid is None else _contiguous(valid[:, :, 0])


def _mask(mask: Array | None, states: Array) -> tuple[Array, Array]:
    """Return the mask, and an array for m h(t-1) at two steps, of which the first is set."""
    if mask is None:
        return _ABSENT[states.dtype, 2], _ABSENT[states.dtype, 3]
    h = states[0]
    masked = empty((2, *h.shape), h.dtype)
    masked[0] = h * mask  # (1), of the first step
    return _contiguous(np.broadcast_to(mask, h.shape)), masked
