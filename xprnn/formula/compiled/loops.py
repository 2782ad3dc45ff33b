"""The time loop compiled by Numba, and called."""

import logging
from functools import partial
from typing import Any, ClassVar

import numba
from numba import types
from numba.core.errors import NumbaError

from xprnn.backend.compiled import functions, primitives, products, tiles
from xprnn.backend.compiled.build import Built, build, product_address
from xprnn.backend.host import np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.formula.compiled import team
from xprnn.formula.compiled.source import GROUP, NUMBERS, Loop, backward_loop, forward_loop
from xprnn.formula.program import BOOL, FUNCTIONS
from xprnn.formula.protocol import Work
from xprnn.formula.trace import Formulas

_log = logging.getLogger("xprnn")
_DTYPES = {np.dtype(name): name for name in ("float32", "float64")}  # dtype.name is slow
_FLOATS = {"float32": types.float32, "float64": types.float64}


class NumbaLoops:
    """A cell's time loop, forward and reversed, in machine code: products, gates and all."""

    name: ClassVar[str] = "numba"

    def __init__(self, formulas: Formulas) -> None:
        gates, forward, backward = formulas
        nodes, outputs = forward.nodes, forward.outputs
        kinds = [nodes[index or 0].kind for index in outputs["saved"]]
        self._loops = {
            "forward": forward_loop(forward, gates, len(backward.outputs["units"])),
            "backward": backward_loop(backward, gates, kinds),
        }
        self._both = backward.outputs["du"] != backward.outputs["dv"]
        # Two threads may both compile a loop; either is as good.
        self._built: dict[tuple[str, str], Built | str] = {}

    def suits(self, work: Work) -> bool:
        if work.dtype not in _FLOATS or not work.steps * work.batch:
            return False
        return isinstance(self._compiled(work.direction, work.dtype), Built)

    def describe(self) -> str:
        parts = [
            f"{direction} in {dtype} {built if isinstance(built, str) else built.describe()}"
            for (direction, dtype), built in sorted(self._built.items())
        ]
        return f"compiled by Numba {numba.__version__} ({', '.join(parts) or 'when it is used'})"

    def forward(
        self,
        u: Array,
        U: Array,
        units: Arrays,
        state: Arrays,
        *,
        mask: Array | None = None,
        valid: Array | None = None,
        save: bool = True,
    ) -> tuple[Arrays, Arrays]:
        u, U = _contiguous(u), _contiguous(U)
        (steps, batch, _), hidden, dtype = u.shape, U.shape[1], u.dtype
        states = tuple(np.empty((steps + 1, batch, hidden), dtype) for _ in state)
        for array, initial in zip(states, state, strict=True):
            array[0] = initial
        kept = {
            name: np.empty((steps if save else 1, batch, hidden), "bool" if kind == BOOL else dtype)
            for name, kind in self._loops["forward"].kept.items()
        }
        mask, masked = _mask(mask, states[0][0])
        given = (U, u, _valid(valid), mask, *map(_contiguous, units))
        filled = (masked, *states, *kept.values())
        self._run("forward", given + filled, steps, batch, save=save)
        if not save:
            return states, ()
        arrays = kept | {f"new{k}": a[1:] for k, a in enumerate(states)}
        arrays |= {f"state{k}": a[:-1] for k, a in enumerate(states)}
        return states, tuple(arrays[name] for name in self._loops["forward"].saved)

    def backward(
        self,
        U: Array,
        units: Arrays,
        states: Arrays,
        saved: Arrays,
        dh: Array | None,
        d_state: Arrays,
        *,
        mask: Array | None = None,
        valid: Array | None = None,
    ) -> tuple[Array, Array, Arrays, Arrays]:
        U = _contiguous(U)
        (steps, batch, hidden), dtype = states[0][1:].shape, U.dtype
        dh = np.empty((0, 0, 0), dtype) if dh is None else _contiguous(dh)
        carried = tuple(np.array(part, dtype, order="C") for part in d_state)
        dv = np.empty((steps, batch, U.shape[0]), dtype)
        du = np.empty_like(dv) if self._both else dv
        groups = -(-batch // GROUP)
        sums = tuple(np.zeros((groups, hidden), dtype) for _ in units)
        mask, _ = _mask(mask, states[0][0])
        given = (U, dh, _valid(valid), mask, *map(_contiguous, (*units, *states, *saved)))
        filled = (*carried, *((dv, du) if self._both else (dv,)), *sums)
        self._run("backward", given + filled, steps, batch, save=True)
        return du, dv, tuple(part.sum(axis=0) for part in sums), carried

    def _run(
        self, direction: str, arrays: tuple[Array, ...], steps: int, batch: int, *, save: bool
    ) -> None:
        """Call a loop."""
        U = arrays[0]
        dtype = _DTYPES[U.dtype]
        built = self._compiled(direction, dtype)
        if isinstance(built, str):
            raise RuntimeError(built)
        shares = team.shares(steps, batch, U, tiles.lanes(U.itemsize))
        team.TEAM.run(partial(built.call, product_address(dtype), save), shares, arrays)

    def _compiled(self, direction: str, dtype: str) -> Built | str:
        """Return a compiled loop, or why there is none."""
        key = (direction, dtype)
        if key not in self._built:
            loop = self._loops[direction]
            floats = _FLOATS[dtype]
            arrays = [
                types.Array(
                    types.boolean if a.kind == BOOL else floats, a.axes, "C", readonly=not a.filled
                )
                for a in loop.arrays
            ]
            sync = types.Array(types.int64, 1, "C")
            signature = types.void(*[types.intp] * len(NUMBERS), sync, *arrays)
            try:
                self._built[key] = build(loop.source, _names(loop, dtype), signature)
            except NumbaError as error:
                # A formula may do what Numba has no code for; then NumPy does it.
                self._built[key] = f"can't be compiled: {error}"
                _log.info("a loop %s", self._built[key])
        return self._built[key]


def _names(loop: Loop, dtype: str) -> dict[str, Any]:
    """Return the globals of a loop's source."""
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
        "call_product": products.call_product,
        "pack": getattr(products, f"pack{bits}"),
        "hold": primitives.hold,
        "meet": primitives.meet,
        "row": primitives.row,
        "empty": np.empty,
        "zeros": np.zeros,
        "dtype": scalar,
        "boolean": np.bool_,
        "zero": scalar(0),
        "one": scalar(1),
        "GROUP": GROUP,
        "SIZE": size,
        "LANES": tiles.lanes(size),
    }
    for name, (value, kind) in loop.constants.items():
        names[name] = value if kind == BOOL else scalar(value)
    return names


def _contiguous(a: Array) -> Array:
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.require(a, requirements=("C", "A"))


def _valid(valid: Array | None) -> Array:
    return np.empty((0, 0), bool) if valid is None else _contiguous(valid[:, :, 0])


def _mask(mask: Array | None, h: Array) -> tuple[Array, Array]:
    """Return the mask, and room for the masked state of two steps."""
    if mask is None:
        return np.empty((0, 0), h.dtype), np.empty((0, 0, 0), h.dtype)
    masked = np.empty((2, *h.shape), h.dtype)
    masked[0] = h * mask
    return _contiguous(np.broadcast_to(mask, h.shape)), masked
