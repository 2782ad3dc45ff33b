"""NumPy: the host itself."""

import importlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

from xprnn.backend._library import Library
from xprnn.backend.host import HostArray, np
from xprnn.backend.threads import can_limit_blas, compute_threads, one_blas_thread, share
from xprnn.backend.types import Array, Device, DType, Namespace, Rule

ALONE, SHARED = 2**18, 15 * 10**6
"""Multiplications that BLAS leaves to one thread anyway, and those that are worth two threads."""

FEW = 256
"""Distinct indices up to which a product with their indicator is faster than sums of runs."""

RUN = 2**13
"""Entries in a product of two vectors: few enough for one thread, and for the sum's rounding."""

BLOCK = 2**16
"""Entries that an elementwise rule works on at a time: its temporaries stay in cache."""


_ARRAYS = (np.ndarray, np.generic)


class NumPy(Library):
    """NumPy arrays in the memory of the host."""

    name = "numpy"
    module = "numpy"
    install = "pip install numpy"
    at_hand = True
    lowering = "numpy"

    def namespace(self) -> Namespace:
        # When it is first asked for: this loads every lazy part of NumPy, f2py and all.
        return importlib.import_module("array_api_compat.numpy")

    def is_array(self, a: object) -> bool:
        # A sum of all entries is a NumPy scalar, where others give a zero-dimensional array.
        return isinstance(a, _ARRAYS)

    def device(self, spec: object) -> Device:
        if spec not in (None, "cpu"):
            raise ValueError(f"device is {spec!r}: NumPy computes on 'cpu' only")
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def device_of(self, a: Array) -> Device:
        del a
        return "cpu"

    def from_host(self, a: HostArray, device: Device) -> Array:
        del device
        return a

    def quiet(self) -> AbstractContextManager[object]:
        return np.errstate(over="ignore", invalid="ignore")

    def sum_by_index(self, rows: Array, index: Array) -> tuple[Array, Array]:
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        first = np.ones(len(ordered), bool)
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        (starts,) = first.nonzero()
        if 4 * len(starts) < len(index) and len(starts) <= FEW:
            found = ordered[starts]
            return found, self.product((found[:, None] == index[None, :]).astype(rows.dtype), rows)
        return ordered[starts], np.add.reduceat(rows[order], starts, axis=0)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return add_in_place(a.copy(), index, values, axis)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        place: Array = into if _fits(into, a.shape, a.dtype) else np.empty_like(a)
        if place is not a:
            place[...] = a
        return put_in_place(place, index, values, axis)

    def entries(self, a: Array, columns: Array) -> Array:
        return a[np.arange(len(a)), columns][:, None]

    def add_to_entries(self, a: Array, columns: Array, values: Array) -> Array:
        a[np.arange(len(a)), columns] += values
        return a

    def exp_over(self, a: Array) -> Array:
        return np.exp(a, out=a)

    def elementwise(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        shape = arrays[0].shape  # type: ignore[union-attr]
        size = math.prod(shape)
        # Blocks save the new arrays; where those are wanted, they were measured to gain nothing.
        if size <= BLOCK or all(place is None for place in into):
            return rule(*arrays)
        count = max(1, BLOCK * shape[0] // size)
        results: list[Array | None] = []
        for start in range(0, shape[0], count):
            part = slice(start, start + count)
            new = rule(*(None if a is None else a[part] for a in arrays))
            if not results:
                results = [
                    None
                    if block is None
                    else (
                        given if _fits(given, shape, block.dtype) else np.empty(shape, block.dtype)
                    )
                    for given, block in zip(into, new, strict=True)
                ]
            for result, block in zip(results, new, strict=True):
                if result is not None:
                    result[part] = block
        return tuple(results)

    def product(self, a: Array, b: Array) -> Array:
        (rows, depth), columns = a.shape, b.shape[1]
        work = rows * depth * columns
        if work < ALONE or compute_threads() == 1 or not can_limit_blas():
            return a @ b
        with one_blas_thread:
            threads = min(compute_threads(), 2 * work // SHARED)
            if threads < 2:
                return a @ b
            c = np.empty((rows, columns), np.result_type(a, b))
            across = columns > rows
            length = columns if across else rows
            bounds = [length * k // threads for k in range(threads + 1)]

            def part(k: int) -> None:
                mine = slice(bounds[k], bounds[k + 1])
                if across:
                    np.matmul(a, b[:, mine], out=c[:, mine])
                else:
                    np.matmul(a[mine], b, out=c[mine])

            share(part, range(threads))
            return c

    # Four that cost a small network more in NumPy's and array_api_compat's wrappers than in work.

    def rows(self, a: Array) -> Array:
        return a.reshape((math.prod(a.shape[:-1]), a.shape[-1]))

    def sum_rows(self, a: Array) -> Array:
        return np.add.reduce(a, axis=0)

    def all_finite(self, a: Array) -> bool:
        return bool(np.logical_and.reduce(np.isfinite(a), axis=None))

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        del device
        return np.zeros(shape, dtype)

    def square_sum(self, a: Array) -> Array:
        if a.size <= RUN or a.dtype == np.float16 or not a.flags.c_contiguous:
            return np.sum(a * a)
        flat = a.reshape(-1)
        runs = (flat[start : start + RUN] for start in range(0, a.size, RUN))
        return np.sum(np.array([np.vdot(run, run) for run in runs], a.dtype))

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        place = a[rows]
        if place.__array_interface__["data"] != block.__array_interface__["data"]:
            place[...] = block
        return a


def _fits(place: Array | None, shape: tuple[int, ...], dtype: DType) -> bool:
    """Whether an array can be written to in the place of a new one."""
    return (
        place is not None
        and place.shape == shape
        and place.dtype == dtype
        and bool(place.flags.writeable)
    )


def add_in_place(a: Array, index: Array, values: Array, axis: int) -> Array:
    """Add to rows or columns without duplicates; NumPy and CuPy alike."""
    if axis == 0:
        a[index] += values
    else:
        a[:, index] += values
    return a


def put_in_place(a: Array, index: Array, values: Array, axis: int) -> Array:
    """Replace rows or columns; NumPy and CuPy alike."""
    if axis == 0:
        a[index] = values
    else:
        a[:, index] = values
    return a
