"""What xprnn needs to know of an array library, and the few things that all of them share."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol, TypeAlias

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array, Device, DType, Namespace, Rule

Launch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""``launch(grid, block, arguments)``; integers are passed as 64 bits, arrays as pointers."""


class Kernels(Protocol):
    """What a lowering to CUDA kernels needs of a library."""

    def compiled(self, name: str, text: str) -> Launch:
        """Return a kernel, compiled when it is launched for the first time on a device."""
        ...

    def contiguous(self, a: Array) -> Array:
        """Return the array in C's order, a copy if it is in another."""
        ...

    def product(self, a: Array, b: Array, out: Array) -> object:
        """Write a b, both of two axes, into ``out``."""
        ...

    def beside(self, a: Array) -> AbstractContextManager[object]:
        """Return a context in which kernels run on the device of ``a``."""
        ...


class Library(ABC):
    """An array library: how it is loaded, which devices it has, how arrays come and go.

    Nothing is imported before `namespace` is called.
    """

    name: str
    module: str
    """The module whose presence in ``sys.modules`` means that arrays of this library can exist."""
    install: str
    """The command that installs it."""
    synchronous: ClassVar[bool] = False
    """Whether reading a value of an array never waits for a device."""
    lowering: ClassVar[str | None] = None
    """The name of the lowering of `xprnn.engine.loop` that is made for its arrays."""

    @abstractmethod
    def namespace(self) -> Namespace:
        """Import the library and return its array API namespace; ImportError if it is missing."""

    @abstractmethod
    def is_array(self, a: object) -> bool:
        """Whether ``a`` is an array of this library; only asked once the library is loaded."""

    @abstractmethod
    def device(self, spec: object) -> Device:
        """Return the device that ``spec`` names (None: the default), known to work.

        ValueError if there is no such device, RuntimeError if no device works at all.
        """

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the devices that can be used, as text."""

    def device_of(self, a: Array) -> Device:
        """Return the device that holds ``a``."""
        return a.device

    def device_name(self, device: Device) -> str:
        """Return the text that `device` takes for this device."""
        return str(device)

    def hardware(self, device: Device) -> str:
        """Return what the device's maker calls it; empty where the library does not say."""
        del device
        return ""

    def prepare(self, dtype: str) -> None:
        """Do what the library needs before it can compute in ``dtype`` (by default nothing)."""
        del dtype

    def from_host(self, a: HostArray, device: Device) -> Array:
        """Copy a host array to the device, same dtype."""
        # The copy keeps a read-only host array (which torch would warn of) from being shared.
        return self.namespace().asarray(np.array(a), device=device)

    def to_host(self, a: Array) -> HostArray:
        """Return the array's values as a host array."""
        return np.asarray(a)

    def plain(self, a: Array) -> Array:
        """Return the array without what its library may have attached to it (a graph, say)."""
        return a

    def kernels(self) -> Kernels:
        """Return what compiles and launches kernels in CUDA C; for a lowering that writes them.

        TypeError where a library has none, which the lowering is never made for.
        """
        raise TypeError(f"the backend {self.name!r} launches no kernels")

    def synchronize(self) -> None:
        """Wait until the device has done what it was told: for measuring times."""
        return  # a library whose calls return when they are done

    def strides(self, a: Array) -> tuple[int, ...]:
        """Return how far apart in memory neighbours along each axis lie, in whatever unit."""
        return tuple(a.strides)

    def quiet(self) -> AbstractContextManager[object]:
        """Return a context without the library's own warnings of overflow and NaN."""
        return nullcontext()

    def product(self, a: Array, b: Array, row: Array | None = None) -> Array:
        """Return a b, of two matrices, with a row added to each of its own if there is one.

        Of all steps, that is: those of one have a product in the time loop.
        """
        product = a @ b
        if row is not None:
            product += row
        return product

    def rows(self, a: Array) -> Array:
        """Merge all axes but the last: the rows of a matrix."""
        # The count is spelled out because -1 has no meaning for an empty batch.
        return self.namespace().reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))

    def sum_rows(self, a: Array) -> Array:
        """Return the sum of a matrix's rows."""
        return self.namespace().sum(a, axis=0)

    def all_finite(self, a: Array) -> bool:
        """Whether no entry is NaN or infinite."""
        xp = self.namespace()
        return bool(xp.all(xp.isfinite(a)))

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        """Return zeros."""
        return self.namespace().zeros(shape, dtype=dtype, device=device)

    def square_sum(self, a: Array) -> Array:
        """Return the sum of the squares of all entries, zero-dimensional.

        In float64 where that costs the library nothing: then no square is too large.
        """
        return self.namespace().sum(a * a)

    def square_sum_of_product(self, left: Array, right: Array) -> Array:
        """Return `square_sum` of leftᵀ right, of left (N, M) and right (N, K) with few rows."""
        return self.square_sum(self.product(left.T, right))

    def sum_by_index(self, rows: Array, index: Array) -> tuple[Array, Array]:
        """Return the distinct entries of ``index`` (N,), ascending, and (n, K): for each of them
        the sum of its rows (N, K).

        The standard has no scatter-add, and indexing drops duplicates.  This is the product with
        the indicator of the index, in blocks of its rows: deterministic, and small.
        """
        xp = self.namespace()
        found, inverse = xp.unique_inverse(index)
        each = xp.arange(found.shape[0], dtype=inverse.dtype, device=self.device_of(index))
        size = max(1, 2**22 // max(1, index.shape[0]))
        sums = [
            xp.astype(each[start:stop, None] == inverse[None, :], rows.dtype) @ rows
            for start in range(0, found.shape[0], size)
            for stop in (min(start + size, found.shape[0]),)
        ]
        return found, xp.concat(sums, axis=0) if sums else rows[:0, :]

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        """Return ``a`` with ``values`` added to its rows (axis 0) or columns (axis 1) at ``index``.

        ``a`` is (M, K), ``index`` (n,) sorted and without duplicates, and ``values`` has n entries
        along the axis.  A new array; here in the standard's words, with a dense one in between.
        """
        if index.shape[0] == 0:
            return self.namespace().asarray(a, copy=True)
        hit, spread = self._spread(a, index, values, axis)
        xp = self.namespace()
        return a + xp.where(hit, spread, xp.zeros_like(spread))

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        """Return ``a`` with its rows (axis 0) or columns (axis 1) at ``index`` replaced.

        As `add_at` otherwise: of the same (M, K), a new array or ``into``, an array that the caller
        gives up.  That may be ``a`` itself.
        """
        del into
        if index.shape[0] == 0:
            return self.namespace().asarray(a, copy=True)
        hit, spread = self._spread(a, index, values, axis)
        return self.namespace().where(hit, spread, a)

    def _spread(self, a: Array, index: Array, values: Array, axis: int) -> tuple[Array, Array]:
        """Return which rows or columns of ``a`` are meant, and the values in its whole shape."""
        xp = self.namespace()
        each = xp.arange(a.shape[axis], dtype=index.dtype, device=self.device_of(a))
        place = xp.clip(xp.searchsorted(index, each), max=index.shape[0] - 1)
        hit = xp.take(index, place, axis=0) == each
        spread = xp.take(values, place, axis=axis)
        return (hit[:, None] if axis == 0 else hit[None, :]), spread

    def entries(self, a: Array, columns: Array) -> Array:
        """Return of each row of ``a`` (N, K) the entry in its column, (N, 1)."""
        return self.namespace().take_along_axis(a, columns[:, None], axis=-1)

    def add_to_entries(self, a: Array, columns: Array, values: Array) -> Array:
        """Return ``a`` (N, K) with ``values`` (N,) added, each to its row's entry in ``columns``.

        The caller gives ``a`` up: it may be the array that is returned.
        """
        xp = self.namespace()
        each = xp.arange(a.shape[1], dtype=columns.dtype, device=self.device_of(a))
        return xp.where(each[None, :] == columns[:, None], a + values[:, None], a)

    def exp_over(self, a: Array) -> Array:
        """Return exp(a).  The caller gives ``a`` up: it may be the array that is returned."""
        return self.namespace().exp(a)

    def softmax_parts(self, a: Array, *, overwrite: bool) -> tuple[Array, Array, Array]:
        """Return m, exp(a - m) and the sums of its rows: (N, 1), (N, V), (N, 1).

        m is the largest entry of each row.  With ``overwrite`` the caller gives ``a`` up.
        """
        xp = self.namespace()
        m = xp.max(a, axis=-1, keepdims=True)
        if overwrite:
            a -= m
        else:
            a = a - m
        exponentials = self.exp_over(a)
        return m, exponentials, xp.sum(exponentials, axis=-1, keepdims=True)

    def add_over(self, a: Array, b: Array) -> Array:
        """Return a + b, of one shape.  The caller gives both up: either may be the one returned."""
        b += a
        return b

    def add_product(self, a: Array, left: Array, right: Array) -> Array:
        """Return a + leftᵀ right, of left (N, M) and right (N, K).

        The caller gives ``a`` up: it may be the array that is returned.
        """
        return self.add_over(a, self.product(left.T, right))

    def elementwise(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        """Return ``rule(*arrays)``, which is elementwise: one result for each array but the first.

        Parameters
        ----------
        rule : callable
        arrays : sequence of array or None
            Of one shape.  The rule gets None as it is, and returns it in the same place.
        into : sequence of array or None
            For each result an array that the caller gives up, or None: the result may take its
            place.  That may be the array that the result is the new value of.
        """
        del into
        return rule(*arrays)

    def by_rows(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        """Return what ``rule(rows, *blocks)`` makes of all rows, block by block or all at once.

        Parameters
        ----------
        rule : callable
            Of a slice of rows (entries along the first axis), and of these rows of the arrays; it
            returns their new values, as many as there are.
        arrays : sequence of array or None
            Of one shape.  The rule gets None as it is, and returns it in the same place.
        into : sequence of array or None
            See `elementwise`.
        """
        del into
        return rule(slice(None), *arrays)

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        """Return ``a`` with some rows (entries along its first axis) replaced.

        The caller gives ``a`` up: it may be the array that is returned.  The block may be these
        rows themselves.
        """
        a[rows, ...] = block
        return a

    def version(self) -> str:
        """Return the version of the library, which has been loaded."""
        return str(importlib.import_module(self.module).__version__)


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
