"""The time loop compiled by Numba: compiling it, and calling it."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.pool import copied, empty
from xprnn.backend.numba import intrinsics, tiles
from xprnn.backend.numba.addresses import PACK, PRODUCT, compile_ahead, loop_table
from xprnn.backend.numba.ahead import AHEAD
from xprnn.backend.numba.build import Built, NumbaError, build, numba, types
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.gaps import Gaps
from xprnn.engine.loop.numba import team
from xprnn.engine.loop.numba.names import formula_names
from xprnn.engine.loop.numba.parts import GROUP, NUMBERS, Loop
from xprnn.engine.loop.numba.source import backward_loop, forward_loop, work_entries
from xprnn.engine.loop.numba.window import WINDOW_ROWS, window_loop
from xprnn.engine.loop.program import BOOL
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, StepGradient, Trajectory, Work
from xprnn.engine.loop.results import one_gradient
from xprnn.engine.loop.trace import Formulas

_log = logging.getLogger("xprnn")
_DTYPES = {np.dtype(name): name for name in ("float32", "float64")}  # dtype.name is slow
_ABSENT = {dtype: (np.empty((0, 0), dtype), np.empty((0, 0, 0), dtype)) for dtype in _DTYPES}
"""What a loop takes in the place of an array that is None, of two and of three axes, by dtype."""
_ALL_VALID = np.empty((0, 0), bool)
_FLOATS = {"float32": types.float32, "float64": types.float64}


class _Alone(NamedTuple):
    """How one thread calls a loop; decided once for all calls with arrays of the same shapes.

    Attributes
    ----------
    call : callable
    numbers : tuple of int
        Its first arguments, `NUMBERS`.
    entries : int
        Of its ``work``.
    """

    call: Callable[..., None]
    numbers: tuple[int, ...]
    entries: int


_MOST_ALONE = 1024
"""How many of them are kept."""


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
        self._alone: dict[tuple[object, ...], _Alone] = {}

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

    # In these two, what the calls of small functions take is seen in the time of a small network.

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        U, units, _, mask, valid = recurrent
        u, U = _contiguous(u), _contiguous(U)
        (steps, batch, _), hidden, dtype = u.shape, U.shape[1], u.dtype
        shape, states = (steps + 1, batch, hidden), []
        for initial in state:
            array = empty(shape, dtype)
            array[0] = initial
            states.append(array)
        shape = (steps if save else 1, batch, hidden)
        saved = [empty(shape, kind or dtype) for kind in self._saved_dtypes]
        mask, masked = _ABSENT[dtype] if mask is None else _masked(mask, states[0][0])
        valid = _ALL_VALID if valid is None else _steps_of(valid)
        given = (U, u, valid, mask, *(_all_contiguous(units) if units else ()))
        self._run("forward", (*given, masked, *states, *saved), steps, batch, save)
        if not save:
            return Trajectory(tuple(states), ())
        kept = [saved[k] if part is None else states[k][part] for k, part in self._places]
        return Trajectory(tuple(states), tuple(kept))

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
        no_mask, no_dh = _ABSENT[dtype]
        dh = no_dh if dh is None else _contiguous(dh)
        carried = tuple([copied(part, dtype) for part in d_state])
        dv = empty((steps, batch, U.shape[0]), dtype)
        du = empty((steps, batch, self._gates * hidden), dtype) if self._both else dv
        mask = no_mask if mask is None else _for_all(mask, states[0][0])
        valid = _ALL_VALID if valid is None else _steps_of(valid)
        kept = no_dh if reached is None else reached
        given = (U, dh, valid, mask, kept, *_all_contiguous((*units, *states, *saved)))
        filled = (*carried, dv, du) if self._both else (*carried, dv)
        if not units:
            self._run("backward", given + filled, steps, batch, 1)
            return LoopGradient(du, dv, (), None, carried)
        sums = _zero_sums(units, batch, hidden, dtype)
        self._run("backward", (*given, *filled, *sums), steps, batch, 1)
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
        gaps: Gaps | None,
    ) -> StepGradient:
        del gaps  # Each row looks for the next step that exists.
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        U = _contiguous(U)
        (borders, batch, hidden), dtype = states[0].shape, U.dtype
        steps = borders - 1
        no_mask, no_dh = _ABSENT[dtype]
        dh = no_dh if dh is None else _contiguous(dh)
        reach = before
        if reach is None:
            reach = tuple([empty((steps, batch, hidden), dtype) for _ in d_state])
            for part in reach:
                part[...] = 0
        dv = empty((steps, batch, U.shape[0]), dtype)
        du = empty((steps, batch, self._gates * hidden), dtype) if self._both else dv
        sums = _zero_sums(units, batch, hidden, dtype)
        mask = no_mask if mask is None else _for_all(mask, states[0][0])
        valid = _ALL_VALID if valid is None else _steps_of(valid)
        read = (*units, *states, *saved, *d_state)
        given = (U, dh, valid, mask, *_all_contiguous(read))
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
        # All that decides, the bound of work for a second thread included, which tests change.
        key = direction, U.dtype, U.shape, steps, batch, number, team.START
        alone = self._alone.get(key)
        if alone is not None:
            work = empty((alone.entries,), U.dtype)
            alone.call(*alone.numbers, team.NO_MEETING, work, *arrays)
            return
        dtype = _DTYPES[U.dtype]
        built = self._compiled(direction, dtype)
        if isinstance(built, str):
            raise RuntimeError(built)
        lanes, hidden = tiles.lanes(U.itemsize), U.shape[1]
        gates = U.shape[0] // hidden  # 0 for a cell that does not read v
        first = loop_table(dtype) if gates else 0, number

        def entries(share: team.Share) -> int:
            width = -(-(share.last - share.first) // lanes) * lanes
            return work_entries(direction, gates, hidden, share.stop - share.start, width)

        sweeps = number if direction == "window" else 1
        if team.is_too_short_to_share(steps * sweeps * batch * U.size):
            everything = team.Share(0, hidden, 0, batch)
            if len(self._alone) >= _MOST_ALONE:
                self._alone.clear()
            numbers = (*first, *everything, 1)
            self._alone[key] = _Alone(built.call, numbers, entries(everything))
            self._run(direction, arrays, steps, batch, number)
            return
        if direction == "window":
            shares = team.shares_of_sequences(steps * number, batch, U)
        else:
            shares = team.shares(steps, batch, U, lanes)
        team.run(
            partial(built.call, *first),
            shares,
            lambda share: empty((entries(share),), U.dtype),
            arrays,
        )

    def _compiled(self, direction: str, dtype: str) -> Built | str:
        """Return a compiled loop, or the reason why there is none."""
        key = (direction, dtype)
        if key not in self._built:
            # Both directions in one line.
            words = "" if dtype in self._announced else f"the loops for {self._cell} in {dtype}"
            self._announced.add(dtype)
            try:
                self._built[key] = compile_loop(
                    self._loops[direction], dtype, words, partial(self._compile_ahead, *key)
                )
            except NumbaError as error:
                # Numba may lack a function that the formula uses; then the NumPy loop runs.
                self._built[key] = f"can't be compiled: {error}"
                _log.info("a loop %s", self._built[key])
        return self._built[key]

    def _compile_ahead(self, direction: str, dtype: str) -> None:
        """Have a second process compile what follows the forward loop, while this one compiles."""
        if direction == "forward":
            AHEAD.ask(__name__, "compile_loop", self._loops["backward"], dtype)
            if self._gates:
                compile_ahead(dtype)


def compile_loop(
    loop: Loop,
    dtype: str,
    announced: str = "",
    meanwhile: Callable[[], None] | None = None,
) -> Built:
    """Compile a loop, or load it: see `build`."""
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
    return build(
        loop.source, _names(loop, dtype), signature, announced=announced, meanwhile=meanwhile
    )


def _names(loop: Loop, dtype: str) -> dict[str, Any]:
    """Return the globals that the source of a loop needs."""
    scalar = getattr(np, dtype)
    names = formula_names(dtype) | {
        "call": intrinsics.call,
        "PRODUCT": PRODUCT,
        "PACK": PACK,
        "hold": intrinsics.hold,
        "meet": intrinsics.meet,
        "zeros": np.zeros,
        "GROUP": GROUP,
        "ROWS": WINDOW_ROWS,
        "LANES": tiles.lanes(np.dtype(dtype).itemsize),
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


def _zero_sums(units: Arrays, batch: int, hidden: int, dtype: Any) -> list[Array]:
    """Return where a loop adds up the gradients of the per-unit parameters."""
    return [np.zeros((-(-batch // GROUP), hidden), dtype) for _ in units]


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


def _steps_of(valid: Array) -> Array:
    """Return the padding mask as (T, B)."""
    return _contiguous(valid[:, :, 0])


def _for_all(mask: Array, h: Array) -> Array:
    """Return the mask of recurrent dropout in the shape of h(t)."""
    return _contiguous(np.broadcast_to(mask, h.shape))


def _masked(mask: Array, h: Array) -> tuple[Array, Array]:
    """Return the mask, and an array for m h(t-1) at two steps, of which the first is set."""
    masked = empty((2, *h.shape), h.dtype)
    masked[0] = h * mask  # (1), of the first step
    return _for_all(mask, h), masked
