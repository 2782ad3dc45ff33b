"""NumPy, on the host, with in-place and compiled operations where the standard's are slow."""

import importlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, changes_arithmetic, np
from xprnn.backend.host.pool import SMALLEST, copied, empty, release_memory, zeros
from xprnn.backend.host.threads import step_products
from xprnn.backend.libraries.in_place import add_in_place, put_in_place
from xprnn.backend.libraries.numpy_products import (
    DTYPES,
    SIDE,
    compiled_module,
    product,
    products_and_sum,
    products_at_once,
    sum_of_rows,
)
from xprnn.backend.library import Library
from xprnn.backend.operations import ReadoutSoftmax
from xprnn.backend.types import Array, Device, DType, Namespace, Rule

_CANCELLATION = 8.0
"""How many times the total the squares of the separate terms may be; see `_holds`.

Beyond that, the total may consist of rounding errors.  A bound of accuracy, not of speed."""

_ARRAYS = (np.ndarray, np.generic)
_UNSIGNED = np.dtype(np.uintp)
_INDEXING = np.dtype(np.intp)


@cache
def _namespace() -> Namespace:
    # Not at the top: it loads every lazy part of NumPy, even f2py.
    return importlib.import_module("array_api_compat.numpy")


class NumPy(Library):
    """NumPy arrays in the memory of the host."""

    name = "numpy"
    module = "numpy"
    install = "pip install numpy"
    synchronous = True
    lowering = "numpy"

    def namespace(self) -> Namespace:
        return _namespace()

    def is_array(self, a: object) -> bool:
        # A sum of all entries is a NumPy scalar, where the standard has a zero-dimensional array.
        kind = type(a)
        return kind is np.ndarray or (isinstance(a, _ARRAYS) and not changes_arithmetic(kind))

    def device(self, spec: object) -> Device:
        if spec not in (None, "cpu"):
            raise ValueError(f"device is {spec!r}: NumPy computes on 'cpu' only")
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def device_of(self, a: Array) -> Device:
        del a
        return "cpu"

    def on_device(self, a: Array, device: Device) -> bool:
        del a, device
        return True

    def owns(self, a: object, device: Device) -> bool:
        del device
        return type(a) is np.ndarray or self.is_array(a)

    def indexing_dtype(self, device: Device) -> DType:
        del device
        return _INDEXING

    def from_host(self, a: HostArray, device: Device) -> Array:
        del device
        return a

    def plain(self, a: Array) -> Array:
        return a if type(a) is np.ndarray else np.asarray(a)

    def step_products(self, batch: int, U: Array) -> AbstractContextManager[object]:
        return step_products(batch, U.size)

    def quiet(self) -> AbstractContextManager[object]:
        return np.errstate(over="ignore", invalid="ignore")

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        del count
        # In the order of the index, equal ones form runs, of which ``first`` marks the beginnings.
        order = index.argsort(kind="stable")
        ordered = index[order]
        first = np.empty(len(ordered), bool)
        first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        (starts,) = first.nonzero()
        if len(starts) == len(index):
            return ordered, self.taken(rows, order)
        if tuning.REPEATS * len(starts) >= len(index):
            return ordered[starts], _sums_of_runs(self.taken(rows, order), starts)
        found, compiled = ordered[starts], None
        if rows.size >= tuning.SCATTER_ENTRIES and rows.flags.c_contiguous:
            compiled = compiled_module("scatter", rows)
        if compiled is not None:
            places = np.empty(len(index), np.intp)
            places[order] = np.cumsum(first) - 1
            return found, compiled.sum_rows_at(rows, places, len(found))
        if len(found) <= tuning.INDICATOR_INDICES:
            indicator = empty((len(found), len(index)), rows.dtype)
            np.equal(found[:, None], index[None, :], out=indicator)
            return found, self.product(indicator, rows)
        return found, _sums_of_runs(self.taken(rows, order), starts)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return add_in_place(copied(a), index, values, axis)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        place: Array = into if _fits(into, a.shape, a.dtype) else empty(a.shape, a.dtype)
        if place is not a:
            place[...] = a
        return put_in_place(place, index, values, axis)

    def spread(self, index: Array, values: Array, shape: tuple[int, int], axis: int) -> Array:
        if len(index) == shape[axis]:
            # All rows or columns, in ascending order.
            return copied(values)
        return put_in_place(zeros(shape, values.dtype), index, values, axis)

    def entries(self, a: Array, columns: Array) -> Array:
        return a[np.arange(len(a)), columns][:, None]

    def add_to_entries(self, a: Array, columns: Array, values: Array) -> Array:
        a[np.arange(len(a)), columns] += values
        return a

    def exp_overwriting(self, a: Array) -> Array:
        return np.exp(a, out=a)

    def softmax_parts(self, a: Array, *, overwrite: bool) -> tuple[Array, Array, Array]:
        compiled = _compiled_softmax(a)
        if compiled is None:
            return super().softmax_parts(a, overwrite=overwrite)
        exponentials = a if overwrite else copied(a)
        m, Z = compiled.softmax_parts(exponentials)
        return m[:, None], exponentials, Z[:, None]

    def softmax_gradient(
        self, a: Array, columns: Array, of_all: Array, of_one: Array, *, overwrite: bool
    ) -> tuple[Array, Array, Array, Array]:
        compiled = None
        if of_all.dtype == of_one.dtype == a.dtype and columns.dtype == _INDEXING:
            compiled = _compiled_softmax(a)
        if compiled is None:
            return super().softmax_gradient(a, columns, of_all, of_one, overwrite=overwrite)
        gradient = a if overwrite else copied(a)
        # Without the second axis, in row-major order.
        row = np.ascontiguousarray
        m, Z, picked = compiled.softmax_gradient(
            gradient, row(columns), row(of_all[:, 0]), row(of_one[:, 0])
        )
        return m[:, None], gradient, Z[:, None], picked[:, None]

    def readout_rows(self, rows: int, R: Array) -> int:
        if len(R) < tuning.READOUT_COLUMNS or R.dtype not in DTYPES:
            return 0
        most = _rows_at_once(len(R))
        # Without compiled code it is done for the memory alone.
        useful = rows > most or _compiles_readout(rows, R)
        return most if useful else 0

    def softmax_readout(
        self,
        h: Array,
        R: Array,
        r: Array | None,
        columns: Array,
        of_all: Array,
        of_one: Array,
        *,
        whole: bool,
    ) -> ReadoutSoftmax:
        compiled = _compiled_readout(R, r, columns, h, of_all, of_one)
        if compiled is None:
            return super().softmax_readout(h, R, r, columns, of_all, of_one, whole=whole)
        row = np.ascontiguousarray
        found = compiled.softmax_readout(
            row(h),
            R,
            None if r is None else row(r),
            row(columns),
            row(of_all[:, 0]),
            row(of_one[:, 0]),
            whole=whole,
            rows=_rows_at_once(len(R)),
        )
        m, Z, picked = (a[:, None] for a in (found.m, found.Z, found.picked))
        return ReadoutSoftmax(m, Z, picked, found.h, found.logits, found.weight, found.bias)

    def softmax_of_readout(
        self, h: Array, R: Array, r: Array | None, columns: Array
    ) -> tuple[Array, Array, Array]:
        compiled = _compiled_readout(R, r, columns, h)
        if compiled is None:
            return super().softmax_of_readout(h, R, r, columns)
        row = np.ascontiguousarray
        bias = None if r is None else row(r)
        rows = _rows_at_once(len(R))
        found = compiled.softmax_of_readout(row(h), R, bias, row(columns), rows=rows)
        m, Z, picked = (a[:, None] for a in found)
        return m, Z, picked

    def concatenated(self, arrays: Sequence[Array]) -> Array:
        first = arrays[0]
        if len(arrays) == 1:
            return first
        width = sum([a.shape[-1] for a in arrays])
        place = empty((*first.shape[:-1], width), np.result_type(*arrays))
        return np.concatenate(arrays, axis=-1, out=place)

    def zero_unless(self, condition: Array, a: Array) -> Array:
        if a.nbytes < SMALLEST:
            return np.where(condition, a, np.zeros_like(a))
        place = zeros(a.shape, a.dtype)
        np.copyto(place, a, where=condition)
        return place

    def plus(self, a: Array, b: Array) -> Array:
        if a.nbytes < SMALLEST:
            return a + b
        return np.add(a, b, out=empty(a.shape, np.result_type(a, b)))

    def minus(self, a: Array, b: Array) -> Array:
        if a.nbytes < SMALLEST or a.shape != b.shape:
            return a - b
        return np.subtract(a, b, out=empty(a.shape, np.result_type(a, b)))

    def times(self, a: Array, factor: float | Array) -> Array:
        if a.nbytes < SMALLEST:
            return a * factor
        if not np.ndim(factor) and not a.flags.c_contiguous and a.flags.f_contiguous:
            # In the order of memory: the values of a gradient that is sparse by columns.
            return self.times(a.T, factor).T
        return np.multiply(a, factor, out=empty(a.shape, np.result_type(a, factor)))

    def add_overwriting(self, a: Array, b: Array) -> Array:
        return np.add(a, b, out=a if _fits(a, b.shape, b.dtype) else None)

    def add_product(self, a: Array, left: Array, right: Array) -> Array:
        compiled = None
        if (
            a.size * len(left) >= tuning.COMPILED_PRODUCT
            and min(a.shape) >= SIDE
            and a.flags.c_contiguous
            and _fits(a, a.shape, left.dtype)
            and left.strides[1] == left.itemsize
            and right.flags.c_contiguous
        ):
            compiled = compiled_module("gemm", a, left, right)
        if compiled is not None:
            compiled.add_tn(left, right, a)
            return a
        if a.size <= tuning.BLOCK_ENTRIES or not _fits(a, a.shape, left.dtype):
            return super().add_product(a, left, right)
        count = _rows_of_block(a.shape)
        for start in range(0, len(a), count):
            rows = slice(start, start + count)
            a[rows] += self.product(left[:, rows].T, right)
        return a

    def elementwise(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        first: Array = arrays[0]
        if all(place is None for place in into):
            return _in_new_arrays(rule, arrays)
        if first.size <= tuning.BLOCK_ENTRIES:
            return rule(*arrays)
        return self.by_rows(lambda rows, *blocks: rule(first[rows], *blocks), arrays[1:], into)

    def by_rows(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        shape = arrays[0].shape  # type: ignore[union-attr]
        size = math.prod(shape)
        if size <= tuning.BLOCK_ENTRIES:
            return rule(slice(None), *arrays)
        count = _rows_of_block(shape)
        results: list[Array | None] = []
        for start in range(0, shape[0], count):
            part = slice(start, start + count)
            new = rule(part, *(None if a is None else a[part] for a in arrays))
            if not results:
                pairs = zip(into, new, strict=True)
                results = [_place(given, shape, block) for given, block in pairs]
            for result, block in zip(results, new, strict=True):
                if result is not None:
                    self.put_rows(result, part, block)
        return tuple(results)

    product = staticmethod(product)

    # In the next six, the wrappers of NumPy and array_api_compat take longer than the work does if
    # the network is small.

    def rows(self, a: Array) -> Array:
        shape = a.shape
        count = shape[0] * shape[1] if len(shape) == 3 else math.prod(shape[:-1])
        if a.flags.c_contiguous:
            return a.reshape(count, shape[-1])
        return self.reshaped(a, (count, shape[-1]))

    def reshaped(self, a: Array, shape: tuple[int, ...]) -> Array:
        if not a.flags.c_contiguous and a.nbytes >= SMALLEST:
            a = copied(a)  # as `reshape` would, but in memory of the pool
        return a.reshape(shape)

    def taken(self, a: Array, index: Array, axis: int = 0) -> Array:
        shape = (*a.shape[:axis], len(index), *a.shape[axis + 1 :])
        if math.prod(shape) * a.itemsize < SMALLEST:
            return a.take(index, axis)
        if not a.flags.c_contiguous:
            a = copied(a)
        # With the default mode, NumPy would use a copy of the array that it is given.
        return a.take(index, axis, out=empty(shape, a.dtype), mode="clip")

    sum_rows = staticmethod(sum_of_rows)
    products_at_once = staticmethod(products_at_once)

    def products_and_sum(
        self, d: Array, x: Array, w: Array | None
    ) -> tuple[Array, Array, Array | None]:
        found = products_and_sum(d, x, w) if x.shape[1] == 1 else None
        return super().products_and_sum(d, x, w) if found is None else found

    def copy(self, a: Array) -> Array:
        # Not a.copy(), which would keep the class of a memory map.
        return copied(a)

    def protected(self, a: Array) -> Array:
        # The array itself, which is a view of the tape; the tape writes to none of its views.
        a.setflags(write=False)
        return a

    def all_finite(self, a: Array) -> bool:
        # The sum of squares is finite only if all entries are, and costs half; it may overflow.
        size = tuning.SQUARE_SUM_ENTRIES
        if a.size <= size or not a.flags.c_contiguous:
            return (a.size <= size and math.isfinite(np.vdot(a, a))) or _all_finite(a)
        flat = a.reshape(-1)
        for start in range(0, a.size, size):
            run = flat[start : start + size]
            if not (math.isfinite(np.vdot(run, run)) or _all_finite(run)):
                return False
        return True

    def all_below(self, indices: Array, count: int) -> bool:
        # A negative one is a very large unsigned one.  The maximum alone, in one call.
        unsigned = indices.view(_UNSIGNED) if indices.dtype == np.intp else indices
        if unsigned.dtype != _UNSIGNED or not indices.size:
            return False
        return bool(np.maximum.reduce(unsigned, axis=None) < count)

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        # A sum of squares is NaN if, and only if, one of them is; nothing else reads as fast.  It
        # may overflow, of which neither vdot nor a Python float warns.
        # Of a matrix that is transposed in memory vdot would make a copy in row-major order.
        ordered = [a if a.flags.c_contiguous else a.T for a in arrays]
        return math.isnan(sum([float(np.vdot(a, a)) for a in ordered]))

    def release_memory(self) -> None:
        release_memory()

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        del device
        return zeros(shape, dtype)

    def square_sum(self, a: Array) -> Array:
        if a.flags.f_contiguous:
            a = a.T  # the order of the sum is the order in memory
        if a.size <= tuning.SQUARE_SUM_ENTRIES or a.dtype == np.float16 or not a.flags.c_contiguous:
            return np.sum(a * a)
        flat = a.reshape(-1)
        size = tuning.SQUARE_SUM_ENTRIES
        runs = (flat[start : start + size] for start in range(0, a.size, size))
        return np.sum(np.array([np.vdot(run, run) for run in runs], a.dtype))

    def square_sums(self, arrays: Sequence[Array]) -> Array:
        # A call of the BLAS, in one pass over memory, where `square_sum` makes three.
        sums = []
        for a in arrays:
            whole = a if a.flags.c_contiguous else a.T
            if (
                a.size <= tuning.SQUARE_SUM_ENTRIES
                and a.dtype != np.float16
                and whole.flags.c_contiguous
            ):
                sums.append(np.vdot(whole, whole))
            else:
                sums.append(self.square_sum(whole))
        return np.array(sums)

    def squares_along(self, a: Array) -> Array:
        return np.vecdot(a, a)

    def wide_squares_along(self, a: Array) -> Array:
        if a.size <= tuning.BLOCK_ENTRIES:
            wide = a.astype(np.float64)
            return np.vecdot(wide, wide)
        # In blocks that stay in a cache: all of a in float64 would be new memory.
        count = _rows_of_block(a.shape)
        squares = np.empty(a.shape[:-1], np.float64)
        for start in range(0, len(a), count):
            block = a[start : start + count].astype(np.float64)
            np.vecdot(block, block, out=squares[start : start + count])
        return squares

    def carry_back(self, factors: Array, a: Array) -> Array:
        compiled = None
        if factors.flags.c_contiguous and a.flags.c_contiguous and a.flags.writeable:
            compiled = compiled_module("carrying", factors, a)
        if compiled is None:
            return super().carry_back(factors, a)
        compiled.carry_back(factors, a)
        return a

    def count_true(self, a: Array) -> Array:
        return np.asarray(np.count_nonzero(a), np.float64)

    def count_outside(self, a: Array, low: float, high: float, where: Array | None) -> Array:
        if a.size <= tuning.BLOCK_ENTRIES:
            return np.asarray(_count_outside(a, low, high, where), np.float64)
        count, rows = 0, _rows_of_block(a.shape)
        for start in range(0, len(a), rows):
            part = slice(start, start + rows)
            count += _count_outside(a[part], low, high, None if where is None else where[part])
        return np.asarray(count, np.float64)

    def square_sum_of_product(self, left: Array, right: Array) -> Array:
        if left.dtype != np.float16:
            # ‖LᵀR‖² = ⟨LLᵀ, RRᵀ⟩, of two matrices that are small because L and R have few rows.
            with self.quiet():
                a, b = self.product(left, left.T), self.product(right, right.T)
                total = np.sum(a * b)
                if _holds(total, a, b, left.shape[1], right.shape[1]):
                    return total
        return super().square_sum_of_product(left, right)

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        place = a[rows]
        # The rule of `by_rows` may have worked in place: then there is nothing to copy.
        if place.__array_interface__["data"] != block.__array_interface__["data"]:
            place[...] = block
        return a


def _in_new_arrays(rule: Rule, arrays: Sequence[Array | None]) -> tuple[Array | None, ...]:
    """Apply an elementwise rule; large results are in memory of the pool.

    The arrays are taken as vectors and in blocks, so that temporaries are too small for the C
    library to get them from the system each time.
    """
    first: Array = arrays[0]
    given = [a for a in arrays if a is not None]
    if first.nbytes < SMALLEST or not all(a.flags.c_contiguous for a in given):
        return rule(*arrays)
    flat = [None if a is None else a.reshape(-1) for a in arrays]
    results: list[Array | None] = []
    for start in range(0, first.size, tuning.NEW_BLOCK_ENTRIES):
        part = slice(start, start + tuning.NEW_BLOCK_ENTRIES)
        blocks = rule(*[None if a is None else a[part] for a in flat])
        if not results:
            shape = (first.size,)
            results = [None if new is None else empty(shape, new.dtype) for new in blocks]
        for result, block in zip(results, blocks, strict=True):
            if result is not None:
                result[part] = block
    return tuple([None if a is None else a.reshape(first.shape) for a in results])


def _all_finite(a: Array) -> bool:
    return bool(np.logical_and.reduce(np.isfinite(a), axis=None))


def _sums_of_runs(rows: Array, starts: Array) -> Array:
    """Return the sums of rows from each start up to the next one."""
    place = empty((len(starts), *rows.shape[1:]), rows.dtype)
    return np.add.reduceat(rows, starts, axis=0, out=place)


def _compiled_softmax(a: Array) -> Any:
    """Return the module with the compiled softmax; None where it can't be used, or isn't faster."""
    if a.dtype != np.float32 or a.size < tuning.SOFTMAX_ENTRIES or not a.flags.c_contiguous:
        return None
    return compiled_module("softmax", a)


def _rows_at_once(columns: int) -> int:
    """Return for how many rows of logits there is to be memory."""
    return max(tuning.READOUT_ROWS, tuning.READOUT_ENTRIES // columns)


def _compiles_readout(rows: int, R: Array) -> bool:
    """Whether the compiled readout with its softmax takes so many rows and this weight."""
    return (
        rows > 2
        and R.shape[1] >= SIDE
        and len(R) >= tuning.READOUT_COLUMNS
        and R.dtype == np.float32
        and R.flags.c_contiguous
        and compiled_module("softmax_readout", R) is not None
    )


def _compiled_readout(R: Array, r: Array | None, columns: Array, *others: Array) -> Any:
    """Return the module with the compiled readout and softmax; None where it can't be used, or
    isn't faster.  The first of the others has the rows.
    """
    if columns.dtype != _INDEXING or not _compiles_readout(len(others[0]), R):
        return None
    return compiled_module("softmax_readout", R, *others, *(() if r is None else (r,)))


def _count_outside(a: Array, low: float, high: float, where: Array | None) -> int:
    outside = (a <= low) | (a >= high)
    return int(np.count_nonzero(outside if where is None else outside & where))


def _rows_of_block(shape: tuple[int, ...]) -> int:
    """Return how many rows of an array make a block."""
    count = max(1, tuning.BLOCK_ENTRIES * shape[0] // math.prod(shape))
    multiple = tuning.BLOCK_ROWS
    return count - (count % multiple if count > multiple else 0)


def _fits(place: Array | None, shape: tuple[int, ...], dtype: DType) -> bool:
    """Whether a result of this shape and dtype can be written to an array instead of a new one."""
    return (
        place is not None
        and place.shape == shape
        and place.dtype == dtype
        and bool(place.flags.writeable)
    )


def _place(given: Array | None, shape: tuple[int, ...], block: Array | None) -> Array | None:
    """Return the array for a result whose first block is known: the one given if it fits."""
    if block is None:
        return None
    return given if _fits(given, shape, block.dtype) else empty(shape, block.dtype)


def _holds(total: Array, a: Array, b: Array, m: int, k: int) -> bool:
    """Whether ⟨LLᵀ, RRᵀ⟩ equals ‖LᵀR‖² to rounding.

    It does not if something overflows, if the sum cancels, or if it is so small that products of
    entries that underflow are missed in it.

    Parameters
    ----------
    total : array, zero-dimensional
        ⟨LLᵀ, RRᵀ⟩.
    a, b : array, (N, N)
        LLᵀ and RRᵀ.
    m, k : int
        The lengths of the rows of L and R.
    """
    finfo = np.finfo(total.dtype)
    # LᵀR is a sum of outer products, one for each row.  The sum of their own squares is on the
    # diagonals: where it is much larger than the total, the outer products cancel.
    separate = np.sum(a.diagonal() * b.diagonal())
    # Each product of two entries that underflows is off by less than the smallest normal number.
    lost = finfo.smallest_normal * (m * np.sum(np.abs(b)) + k * np.sum(np.abs(a)) + a.size)
    return bool(separate <= _CANCELLATION * total < np.inf and lost <= finfo.eps * total)
