"""The three forms of a parameter's gradient, and functions that take each of them.

A gradient is a dense array; or a `SparseGradient`, for the weight that integer input picks rows or
columns of, since all other rows or columns are zero; or a `FactoredGradient`, two small matrices
whose product it is, for a large weight that few rows went through.  The functions here take all
three, so that an optimizer's equations need not know which form a gradient has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from xprnn.backend import library_of, namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.trees import tree
from xprnn.backend.types import Array, Rule


@tree("shape", "axis")
@dataclass(frozen=True, eq=False)
class SparseGradient:
    """A matrix that is zero except in some rows or columns.

    Attributes
    ----------
    indices : array of int, (n,)
        Which rows or columns, ascending, without duplicates.  Where nobody waits for their number
        (in a training on a CUDA device, see `trimmed`), or nobody can (in code that JAX compiles),
        some at the end may be one past the last row or column: they stand for none, and their
        values are zero.
    values : array
        The rows (n, K), axis 0, or the columns (M, n), axis 1.
    shape : (int, int)
        (M, K), of the whole matrix.
    axis : {0, 1}
        0: rows; 1: columns.

    Examples
    --------
    >>> import numpy as np
    >>> g = SparseGradient(np.array([0, 2]), np.array([[1.0, 5.0]]), (1, 4), axis=1)
    >>> g.to_dense()
    array([[1., 0., 5., 0.]])
    """

    indices: Array
    values: Array
    shape: tuple[int, int]
    axis: int

    @entry
    def to_dense(self) -> Array:
        """Return the whole matrix."""
        library = library_of(self.values)
        return library.spread(self.indices, self.values, self.shape, self.axis)


@tree()
@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """The matrix leftᵀ right.

    Attributes
    ----------
    left : array, (N, M)
    right : array, (N, K)

    Examples
    --------
    >>> import numpy as np
    >>> g = FactoredGradient(np.array([[1.0, 0.0, 2.0]]), np.array([[3.0, 5.0]]))
    >>> g.shape
    (3, 2)
    >>> g.to_dense()
    array([[ 3.,  5.],
           [ 0.,  0.],
           [ 6., 10.]])
    """

    left: Array
    right: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)."""
        return self.left.shape[1], self.right.shape[1]

    def rows(self, rows: slice) -> "FactoredGradient":
        """Return some rows of the matrix."""
        return FactoredGradient(self.left[:, rows], self.right)

    @entry
    def to_dense(self) -> Array:
        """Return the whole matrix."""
        return library_of(self.left).product(self.left.T, self.right)


GradientArray: TypeAlias = Array | SparseGradient | FactoredGradient


def sum_rows(rows: Array, tokens: Array, count: int) -> SparseGradient:
    """Return the (count, K) matrix whose row j is the sum of the rows with token j.

    Parameters
    ----------
    rows : array, (N, K)
    tokens : array of int, (N,)
        Below ``count``.
    count : int
    """
    indices, summed = library_of(rows).sum_by_index(rows, tokens, count)
    return SparseGradient(indices, summed, (count, rows.shape[1]), axis=0)


def sum_columns(rows: Array, tokens: Array, count: int) -> SparseGradient:
    """Return the (K, count) matrix whose column j is the sum of the rows with token j.

    Parameters
    ----------
    rows : array, (N, K)
    tokens : array of int, (N,)
        Below ``count``.
    count : int
    """
    library = library_of(rows)
    indices, summed = library.sum_by_index(rows, tokens, count)
    return SparseGradient(indices, summed.T, (rows.shape[1], count), axis=1)


def without_rows(g: GradientArray) -> GradientArray:
    """Return a gradient that is zero without its rows or columns, if it is sparse."""
    if not isinstance(g, SparseGradient):
        return g
    values = g.values[:0, ...] if g.axis == 0 else g.values[:, :0]
    return SparseGradient(g.indices[:0], values, g.shape, g.axis)


def times(g: GradientArray, factor: float | Array) -> GradientArray:
    """Return g · factor."""
    library = library_of(component(g))
    if isinstance(g, SparseGradient):
        return SparseGradient(g.indices, library.times(g.values, factor), g.shape, g.axis)
    if isinstance(g, FactoredGradient):
        return FactoredGradient(g.left, library.times(g.right, factor))
    return library.times(g, factor)


def plus(a: Array, g: GradientArray) -> Array:
    """Return a + g, dense; for a sparse g a copy of a, changed only in the rows or columns of g."""
    if isinstance(g, SparseGradient):
        return library_of(a).add_at(a, g.indices, g.values, g.axis)
    return a + dense(g)


def add(g: GradientArray, other: GradientArray) -> GradientArray:
    """Return g + other; sparse if both are, and along the same axis."""
    if not isinstance(g, SparseGradient):
        return plus(dense(g), other)
    if not isinstance(other, SparseGradient) or other.axis != g.axis:
        return plus(dense(other), g)
    library = library_of(g.values)
    xp = library.namespace()
    indices = xp.concat([g.indices, other.indices])
    values = xp.concat([g.values, other.values], axis=g.axis)
    rows = values if g.axis == 0 else values.T
    indices, rows = library.sum_by_index(rows, indices, g.shape[g.axis])
    values = rows if g.axis == 0 else rows.T
    return SparseGradient(indices, values, g.shape, g.axis)


def plus_times(a: Array, g: GradientArray, factor: float, *, overwrite: bool = False) -> Array:
    """Return a + g · factor, dense; one new array holds first the product and then the sum.

    With ``overwrite`` the caller gives a up, and the sum may be written into it.
    """
    if isinstance(g, SparseGradient):
        return plus(a, times(g, factor))
    if isinstance(g, FactoredGradient):
        library = library_of(a)
        mine = a if overwrite else library.copy(a)
        return library.add_product(mine, g.left, g.right * factor)
    step = library_of(a).times(g, factor)
    if overwrite:
        return library_of(a).add_overwriting(a, step)
    step += a
    return step


def square_sum(g: GradientArray) -> Array:
    """Return the sum of the squares of all entries, zero-dimensional."""
    if isinstance(g, FactoredGradient):
        return library_of(g.left).square_sum_of_product(g.left, g.right)
    values = entries(g)
    return library_of(values).square_sum(values)


def largest_size(g: GradientArray) -> Array:
    """Return the largest absolute value of all entries, zero-dimensional; 0 if there are none."""
    values = entries(g)
    xp = namespace_of(values)
    return xp.max(xp.abs(values)) if math.prod(values.shape) else xp.sum(values)


def clipped(g: GradientArray, limit: float) -> GradientArray:
    """Return g with every entry moved into [-limit, limit]."""
    if isinstance(g, SparseGradient):
        return SparseGradient(g.indices, clipped(g.values, limit), g.shape, g.axis)
    g = dense(g)
    xp = namespace_of(g)
    if library_of(g).fused is not None:
        # array_api_compat's clip assigns through masks there, and waits for the device.
        return xp.minimum(xp.maximum(g, -limit), limit)
    return xp.clip(g, -limit, limit)


def copied(g: GradientArray) -> GradientArray:
    """Return a gradient of the same form that shares no memory with g."""
    copy = library_of(component(g)).copy
    if isinstance(g, SparseGradient):
        return SparseGradient(copy(g.indices), copy(g.values), g.shape, g.axis)
    if isinstance(g, FactoredGradient):
        return FactoredGradient(copy(g.left), copy(g.right))
    return copy(g)


def dense(g: GradientArray) -> Array:
    """Return g as a dense array."""
    return g.to_dense() if isinstance(g, SparseGradient | FactoredGradient) else g


def entries(g: GradientArray) -> Array:
    """Return the entries of g; of a sparse g only those of its rows or columns."""
    return g.values if isinstance(g, SparseGradient) else dense(g)


def component(g: GradientArray) -> Array:
    """Return an array that g consists of, which has g's library, device and dtype."""
    if isinstance(g, SparseGradient):
        return g.values
    return g.right if isinstance(g, FactoredGradient) else g


def trimmed(g: GradientArray | None) -> Any:
    """Return g without indices past the end, which stand for nothing; it waits for a device.

    For those who look at the indices.  Functions that take a sparse gradient don't need it.
    """
    if not isinstance(g, SparseGradient) or library_of(g.values).fused is None:
        return g
    # They are ascending, so those past the end come last.
    count = int(namespace_of(g.values).sum(g.indices < g.shape[g.axis]))
    values = g.values[:count, ...] if g.axis == 0 else g.values[:, :count]
    return SparseGradient(g.indices[:count], values, g.shape, g.axis)


def multiplied_out(g: GradientArray) -> Array | SparseGradient:
    """Return g, multiplied out to a dense array if it is factored."""
    return g.to_dense() if isinstance(g, FactoredGradient) else g


def elementwise(
    rule: Rule,
    g: GradientArray,
    arrays: Sequence[Array | None],
    into: Sequence[Array | None] | None = None,
) -> tuple[Array | None, ...]:
    """Apply an elementwise rule to a gradient and the arrays of its shape that it changes.

    With a sparse gradient the rule sees only the gradient's rows or columns, and all others stay
    unchanged, bit for bit.  With a factored gradient it sees a block of rows at a time, itself
    factored, so that the whole matrix is never formed; or all rows, if there is only one array.

    Parameters
    ----------
    rule : callable
        ``rule(g, *arrays)`` returns the new value of each array.
    g : array, SparseGradient or FactoredGradient
    arrays : sequence of array or None
        The rule is passed a None unchanged, and returns None in its place.
    into : sequence of array or None, optional
        Arrays that the caller gives up, into which the new values may be written; see
        `xprnn.backend.Library.elementwise`.

    Returns
    -------
    tuple of array or None
        The new arrays, of the whole shape.
    """
    places = [None] * len(arrays) if into is None else into
    if isinstance(g, FactoredGradient):
        if len([a for a in arrays if a is not None]) == 1:
            # The product is all there is to compute, and the library splits it where that pays.
            return rule(g, *arrays)
        return library_of(g.left).by_rows(
            lambda rows, *blocks: rule(g.rows(rows), *blocks), arrays, places
        )
    if not isinstance(g, SparseGradient):
        return library_of(g).elementwise(rule, (g, *arrays), places)
    library = library_of(g.values)
    at = g.indices
    selected = [None if a is None else library.taken(a, at, g.axis) for a in arrays]
    return tuple(
        [
            None if a is None else library.put_at(a, at, new, g.axis, place)
            for a, new, place in zip(arrays, rule(g.values, *selected), places, strict=True)
        ]
    )
