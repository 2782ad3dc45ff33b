"""Operations on arrays that the array API standard lacks, or that a library may have faster.

Each is written here in functions of the standard, so it works with every library.  A file in
`xprnn.backend.libraries` overrides those for which its library has something better.

No argument is written to, except where the docstring says that it may be overwritten: then the
caller does not use it any more, and it may be the very array that is returned.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from xprnn.backend.types import Array, Device, DType, Namespace, Rule


class ReadoutSoftmax(NamedTuple):
    """The softmax of a readout's logits, and gradients of their cross-entropy.

    Attributes
    ----------
    m, Z, picked : array, (N, 1)
        See `Operations.softmax_gradient`.
    h : array, (N, H)
        The gradient of what is read.
    logits : array, (N, V), or None
    weight : array, (V, H), or None
        The gradient of the readout's weight, unless there is that of the logits.
    bias : array, (V,), or None
    """

    m: Array
    Z: Array
    picked: Array
    h: Array
    logits: Array | None
    weight: Array | None
    bias: Array | None


class Operations(ABC):
    """The operations, for the namespace and the devices of a library."""

    @abstractmethod
    def namespace(self) -> Namespace:
        """Import the library and return its array API namespace; ImportError if it is missing."""

    def device_of(self, a: Array) -> Device:
        """Return the device that holds ``a``."""
        return a.device

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        """Return zeros."""
        return self.namespace().zeros(shape, dtype=dtype, device=device)

    def copy(self, a: Array) -> Array:
        """Return an array of these values that shares no memory with ``a``."""
        return self.namespace().asarray(a, copy=True)

    def protected(self, a: Array) -> Array:
        """Return these values for a caller who must not be able to change ``a``.

        A copy, or ``a`` itself, which can't be written to, or no longer.
        """
        return self.copy(a)

    def all_finite(self, a: Array) -> bool:
        """Whether no entry is NaN or infinite, as far as it is known (see `all_true`)."""
        xp = self.namespace()
        return bool(xp.all(xp.isfinite(a)))

    def all_true(self, condition: Array) -> bool:
        """Whether all entries are true; also if they are unknown, in code that is compiled."""
        return bool(self.namespace().all(condition))

    def all_below(self, indices: Array, count: int) -> bool:
        """Whether it is known at once that all integers of the indexing dtype are 0 to count-1.

        Only a library that answers faster than by comparing each of them says so.
        """
        del indices, count
        return False

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        """Whether an entry of one of the arrays, at least one, is known to be NaN."""
        xp = self.namespace()
        # One flag for all, because reading it may wait for a device.
        return not bool(reduce(operator.and_, [xp.all(a == a) for a in arrays]))  # noqa: PLR0124

    # Matrices, their products and sums

    def rows(self, a: Array) -> Array:
        """Return ``a`` as a matrix of its rows: all axes but the last merged into one."""
        # The number of rows is spelled out because -1 is ambiguous for an empty batch.
        return self.namespace().reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))

    def reshaped(self, a: Array, shape: tuple[int, ...]) -> Array:
        """Return ``a`` in another shape; a view of it where the library has views."""
        return self.namespace().reshape(a, shape)

    def taken(self, a: Array, index: Array, axis: int = 0) -> Array:
        """Return rows of ``a``, or with axis 1 columns, by their numbers, all of which it has."""
        return self.namespace().take(a, index, axis=axis)

    def product(self, a: Array, b: Array, row: Array | None = None) -> Array:
        """Return a b, of two matrices; with ``row`` given, it is added to every row of the product.

        For the products of all time steps at once.  Those of one step belong to the time loop.
        """
        product = a @ b
        if row is not None:
            product += row
        return product

    def products_at_once(
        self, pairs: Sequence[tuple[Array, Array]], summed: Array | None
    ) -> tuple[list[Array], Array | None]:
        """Return `product` of every pair, and `sum_rows` of another matrix, if there is one.

        None of them needs another, so they may be formed at the same time.
        """
        found = [self.product(a, b) for a, b in pairs]
        return found, None if summed is None else self.sum_rows(summed)

    def products_and_sum(
        self, d: Array, x: Array, w: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """Return dᵀ x, the sum of d's rows, and d w unless w is None.

        Of d (N, M), x (N, K) and w (M, K).
        """
        pairs = [(d.T, x)] if w is None else [(d.T, x), (d, w)]
        made, total = self.products_at_once(pairs, d)
        assert total is not None
        return made[0], total, None if w is None else made[1]

    def add_product(self, a: Array, left: Array, right: Array) -> Array:
        """Return a + leftᵀ right, of left (N, M) and right (N, K).  May overwrite ``a``."""
        return self.add_overwriting(a, self.product(left.T, right))

    def add_overwriting(self, a: Array, b: Array) -> Array:
        """Return a + b, of the same shape.  May overwrite either."""
        b += a
        return b

    def concatenated(self, arrays: Sequence[Array]) -> Array:
        """Return arrays, at least one, joined along their last axis."""
        return arrays[0] if len(arrays) == 1 else self.namespace().concat(list(arrays), axis=-1)

    def zero_unless(self, condition: Array, a: Array) -> Array:
        """Return ``a`` where the condition, broadcast to its shape, is True, and zero elsewhere."""
        xp = self.namespace()
        return xp.where(condition, a, xp.zeros_like(a))

    def plus(self, a: Array, b: Array) -> Array:
        """Return a + b, entry by entry, of the same shape."""
        return a + b

    def minus(self, a: Array, b: Array) -> Array:
        """Return a - b, entry by entry."""
        return a - b

    def times(self, a: Array, factor: float | Array) -> Array:
        """Return a · factor, entry by entry; the factor is broadcast to the shape of ``a``."""
        return a * factor

    def sum_rows(self, a: Array) -> Array:
        """Return the sum of a matrix's rows."""
        return self.namespace().sum(a, axis=0)

    def square_sum(self, a: Array) -> Array:
        """Return the sum of the squares of all entries, zero-dimensional.

        In float64 if that is cheap for the library; then no square can overflow.
        """
        return self.namespace().sum(a * a)

    def square_sum_of_product(self, left: Array, right: Array) -> Array:
        """Return `square_sum` of leftᵀ right, of left (N, M) and right (N, K) with few rows."""
        return self.square_sum(self.product(left.T, right))

    def square_sums(self, arrays: Sequence[Array]) -> Array:
        """Return `square_sum` of each of these arrays, in an array of their number."""
        return self.namespace().stack([self.square_sum(a) for a in arrays])

    def squares_along(self, a: Array) -> Array:
        """Return the sums of the squares along the last axis."""
        return self.namespace().sum(a * a, axis=-1)

    def wide_squares_along(self, a: Array) -> Array:
        """Return `squares_along` in float64, where no square of a narrower float overflows."""
        xp = self.namespace()
        return self.squares_along(xp.astype(a, xp.float64))

    def carry_back(self, factors: Array, a: Array) -> Array:
        """Return b with b(t) = a(t) + factors(t) b(t+1), and b(T-1) = a(T-1).

        Parameters
        ----------
        factors : array, (T - 1, ...)
        a : array, (T, ...)
            Given up: it may be changed in place.
        """
        xp = self.namespace()
        factors, own = xp.unstack(factors), xp.unstack(a)
        found = [own[-1]]
        for t in range(len(factors) - 1, -1, -1):
            found.append(factors[t] * found[-1] + own[t])
        return xp.stack(found[::-1])

    def count_true(self, a: Array) -> Array:
        """Return how many entries are True, zero-dimensional and floating."""
        xp = self.namespace()
        return xp.sum(xp.astype(a, xp.float32))

    def count_outside(self, a: Array, low: float, high: float, where: Array | None) -> Array:
        """Return how many entries are at most ``low`` or at least ``high``, as `count_true` does.

        With ``where`` given, which broadcasts with ``a``, only where that is True.
        """
        outside = (a <= low) | (a >= high)
        return self.count_true(outside if where is None else outside & where)

    # Rows and columns by index

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        """Sum the rows that have the same index.

        The standard has no scatter-add, and indexed assignment drops duplicates.  Here it is the
        product with the indicator matrix of the index, in blocks of its rows: deterministic, and
        small in memory.

        Parameters
        ----------
        rows : array, (N, K)
        index : array of int, (N,)
        count : int, optional
            All indices are below it.  With it, a library that would wait for the number of distinct
            indices returns more: as many as there can be, and ``count`` in place of those that
            there are not, with sums of zero.

        Returns
        -------
        indices : array of int, (n,)
            The distinct entries of ``index``, ascending.
        sums : array, (n, K)
            The sum of the rows of each of them.
        """
        del count
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

        ``a`` is (M, K), ``index`` (n,) is sorted and without duplicates, as `sum_by_index` returns
        it, and ``values`` has n entries along the axis.  The result is a new array.
        """
        if index.shape[0] == 0:
            return self.namespace().asarray(a, copy=True)
        hit, spread = self._spread(a, index, values, axis)
        xp = self.namespace()
        return a + xp.where(hit, spread, xp.zeros_like(spread))

    def spread(self, index: Array, values: Array, shape: tuple[int, int], axis: int) -> Array:
        """Return a matrix of zeros except in its rows (axis 0) or columns (axis 1) at ``index``.

        They are ``values``; shapes as for `add_at`.
        """
        zeros = self.zeros(shape, values.dtype, self.device_of(values))
        return self.add_at(zeros, index, values, axis)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        """Return ``a`` with its rows (axis 0) or columns (axis 1) at ``index`` replaced.

        Shapes as for `add_at`.  The result is a new array, or ``into``, of the shape of ``a``,
        which may be overwritten and may be ``a`` itself.
        """
        del into
        if index.shape[0] == 0:
            return self.namespace().asarray(a, copy=True)
        hit, spread = self._spread(a, index, values, axis)
        return self.namespace().where(hit, spread, a)

    def _spread(self, a: Array, index: Array, values: Array, axis: int) -> tuple[Array, Array]:
        """Return which rows or columns of ``a`` the index names, and the values spread over ``a``.

        The second has the shape of ``a``, and arbitrary values in all other rows or columns.
        """
        xp = self.namespace()
        each = xp.arange(a.shape[axis], dtype=index.dtype, device=self.device_of(a))
        place = xp.clip(xp.searchsorted(index, each), max=index.shape[0] - 1)
        hit = xp.take(index, place, axis=0) == each
        spread = xp.take(values, place, axis=axis)
        return (hit[:, None] if axis == 0 else hit[None, :]), spread

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        """Return ``a`` with a slice of its first axis replaced.  May overwrite ``a``.

        The block may be a view of that slice, whose entries are the new ones already.
        """
        a[rows, ...] = block
        return a

    # One entry per row, softmax

    def entries(self, a: Array, columns: Array) -> Array:
        """Return one entry of each row of ``a`` (N, K), in its column (N,), as (N, 1)."""
        return self.namespace().take_along_axis(a, columns[:, None], axis=-1)

    def add_to_entries(self, a: Array, columns: Array, values: Array) -> Array:
        """Return ``a`` (N, K) with values (N,) added, each to the entry of its row in ``columns``.

        May overwrite ``a``.
        """
        xp = self.namespace()
        each = xp.arange(a.shape[1], dtype=columns.dtype, device=self.device_of(a))
        return xp.where(each[None, :] == columns[:, None], a + values[:, None], a)

    def exp_overwriting(self, a: Array) -> Array:
        """Return exp(a).  May overwrite ``a``."""
        return self.namespace().exp(a)

    def softmax_parts(self, a: Array, *, overwrite: bool) -> tuple[Array, Array, Array]:
        """Return m, exp(a - m) and the sums of its rows: (N, 1), (N, V), (N, 1).

        m is the largest entry of each row.  With ``overwrite``, may overwrite ``a``.
        """
        xp = self.namespace()
        m = xp.max(a, axis=-1, keepdims=True)
        if overwrite:
            a -= m
        else:
            a = a - m
        exponentials = self.exp_overwriting(a)
        return m, exponentials, xp.sum(exponentials, axis=-1, keepdims=True)

    def softmax_gradient(
        self, a: Array, columns: Array, of_all: Array, of_one: Array, *, overwrite: bool
    ) -> tuple[Array, Array, Array, Array]:
        """Return m, the gradient of the cross-entropy, Z, and the entries of a in the columns.

        In the shapes (N, 1), (N, V), (N, 1) and (N, 1).  m and Z are those of `softmax_parts`.  In
        every row the gradient is exp(a - m) times ``of_all`` / Z, less ``of_one`` in the column of
        ``columns``; these have shapes (N, 1), (N, 1) and (N,).  With ``overwrite``, may overwrite
        ``a``.
        """
        picked = self.entries(a, columns)
        m, gradient, Z = self.softmax_parts(a, overwrite=overwrite)
        gradient *= of_all / Z
        return m, self.add_to_entries(gradient, columns, -of_one[:, 0]), Z, picked

    def readout_rows(self, rows: int, R: Array) -> int:
        """Return how many rows at a time `softmax_readout` is to be given, as the more useful way.

        0: the logits are better formed at once, by `product`, and their gradient from them.

        Parameters
        ----------
        rows : int
            N, how many there are.
        R : array, (V, H)
        """
        del rows, R
        return 0

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
        """Return what `softmax_gradient` finds of h Rᵀ + r, and the gradients of h, R and r.

        Parameters
        ----------
        h : array, (N, H)
        R : array, (V, H)
        r : array, (V,), or None
        columns, of_all, of_one
            See `softmax_gradient`.
        whole : bool
            Whether to return the gradient of the logits instead of that of R.  Otherwise there is
            memory for only as many rows of the logits as `readout_rows` says, at least one.
        """
        xp, count = self.namespace(), h.shape[0]
        size = max(1, count if whole else self.readout_rows(count, R) or count)
        parts: list[tuple[Array, ...]] = []
        dR: Array = None
        dr: Array = None
        d: Array = None
        for start in range(0, count, size):
            some = slice(start, start + size)
            h_some = h[some, :]
            a = self.product(h_some, R.T, r)
            given = columns[some], of_all[some, :], of_one[some, :]
            m, d, Z, picked = self.softmax_gradient(a, *given, overwrite=True)
            parts.append((m, Z, picked, self.product(R.T, d.T).T))
            if r is not None:
                sums = xp.sum(d, axis=0)
                dr = sums if dr is None else dr + sums
            if not whole:
                more = self.product(d.T, h_some)
                dR = more if dR is None else self.add_overwriting(dR, more)
        m, Z, picked, dh = (
            parts[0] if len(parts) == 1 else [xp.concat(each) for each in zip(*parts, strict=True)]
        )
        return ReadoutSoftmax(m, Z, picked, dh, d if whole else None, dR, dr)

    def softmax_of_readout(
        self, h: Array, R: Array, r: Array | None, columns: Array
    ) -> tuple[Array, Array, Array]:
        """Return m, Z and the logits in the columns, (N, 1) each: see `softmax_readout`."""
        xp, count = self.namespace(), h.shape[0]
        size = max(1, self.readout_rows(count, R) or count)
        parts: list[tuple[Array, ...]] = []
        for start in range(0, count, size):
            some = slice(start, start + size)
            a = self.product(h[some, :], R.T, r)
            picked = self.entries(a, columns[some])
            m, _, Z = self.softmax_parts(a, overwrite=True)
            parts.append((m, Z, picked))
        if len(parts) == 1:
            m, Z, picked = parts[0]
        else:
            m, Z, picked = (xp.concat(each) for each in zip(*parts, strict=True))
        return m, Z, picked

    # Rules applied block by block

    def elementwise(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        """Apply an elementwise rule, such as an optimizer's update, all at once or in blocks.

        Parameters
        ----------
        rule : callable
            Takes the arrays, or blocks of them, and returns one result for each array but the
            first (the gradient, in an update).
        arrays : sequence of array or None
            Of the same shape.  A None entry is passed to the rule, which returns None for it.
        into : sequence of array or None
            For each result, None or an array that the result may be written into; it may be the
            array that the result replaces.

        Returns
        -------
        tuple of array or None
        """
        del into
        return rule(*arrays)

    def by_rows(
        self, rule: Rule, arrays: Sequence[Array | None], into: Sequence[Array | None]
    ) -> tuple[Array | None, ...]:
        """Apply a rule to rows (entries along the first axis), all at once or in blocks.

        Parameters
        ----------
        rule : callable
            ``rule(rows, *blocks)`` takes a slice of rows and these rows of the arrays, and returns
            as many results.
        arrays, into :
            As for `elementwise`.

        Returns
        -------
        tuple of array or None
        """
        del into
        return rule(slice(None), *arrays)
