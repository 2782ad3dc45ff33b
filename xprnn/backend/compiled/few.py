"""Products of a few rows with a matrix that is large.

A BLAS packs the whole matrix before it multiplies, which pays for many rows only; for few it takes
longer than the product.  Here the matrix is read once: in blocks that are turned round where they
have to be, each used before it leaves the cache, or where it lies.

Shapes: a (n, K), its rows ``lda`` apart; c (n, M), its rows ``ldc`` apart.  Addresses are integers,
strides and sizes are counted in entries.  K and M are at least as many as a block, or a vector, has
entries: what is left over beside whole ones is done by one that overlaps another, and gives the
same numbers twice.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba import types

from xprnn.backend.compiled.build import build_closure
from xprnn.backend.compiled.primitives import hold
from xprnn.backend.compiled.products import turn_for
from xprnn.backend.compiled.tiles import WIDE, lanes, strip_for
from xprnn.backend.host import HostArray, np
from xprnn.backend.threads import compute_threads, share

FASTER = WIDE
"""Whether these were found to be faster than a BLAS: with vectors of 512 bits, and not tried with
others."""
_DEPTH = 64
"""Rows of b per pass: they stay in the cache while the rows of a go by."""
_PARTS = 4
"""In how many sums the rows of b are added up, however many threads there are."""
_SHARED = 4 * 10**6
"""Multiplications that are worth a thread."""


def _rows_for(dtype: str) -> Callable[..., None]:
    """Return ``few_by_rows(a, lda, b, c, ldc, n, K, first, last)``: c = a bᵀ, columns from first
    to last, with b (M, K).
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    block = 4 * width
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, turn = strip_for(4, scalar, size), turn_for(scalar, size)
    empty, entry, afresh = np.empty, getattr(np, dtype), False

    def few_by_rows(a, lda, b, c, ldc, n, K, first, last):
        p = empty(K * block, entry)
        at_p = p.ctypes.data
        m = first
        while m < last:
            m = min(m, last - block)
            for j in range(0, block, width):
                k = 0
                while k < K:
                    k = min(k, K - width)
                    at = b + ((m + j) * K + k) * size
                    turn(at, K, at_p + (k * block + j) * size, block)
                    k += width
            strip4(a, lda, 1, at_p, block, K, c + m * size, ldc, n, afresh)
            m += block
        hold(p)

    return few_by_rows


def _columns_for(dtype: str) -> Callable[..., None]:
    """Return ``few_by_columns(a, lda, b, c, ldc, n, K, M)``: c = a b, with b (K, M).

    c is (n, M), M rounded up to whole vectors: the last vector has the last columns of the product,
    also where the one before has some of them, too.
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (strip_for(vectors, scalar, size) for vectors in (4, 2, 1))
    DEPTH = _DEPTH

    def few_by_columns(a, lda, b, c, ldc, n, K, M):
        for k in range(0, K, DEPTH):
            depth, more = min(DEPTH, K - k), k > 0
            at_a, at_b = a + k * size, b + k * M * size
            m = 0
            while m < M:
                if m + 4 * width <= M:
                    strip4(at_a, lda, 1, at_b + m * size, M, depth, c + m * size, ldc, n, more)
                    m += 4 * width
                elif m + 2 * width <= M:
                    strip2(at_a, lda, 1, at_b + m * size, M, depth, c + m * size, ldc, n, more)
                    m += 2 * width
                else:
                    at = min(m, M - width) * size
                    strip1(at_a, lda, 1, at_b + at, M, depth, c + m * size, ldc, n, more)
                    m += width

    return few_by_columns


_BY_ROWS = types.void(*[types.intp] * 9)
_BY_COLUMNS = types.void(*[types.intp] * 8)


@cache
def _compiled(kind: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    dtype = kind.name
    by_rows = build_closure(_rows_for(dtype), _BY_ROWS)
    return by_rows.call, build_closure(_columns_for(dtype), _BY_COLUMNS).call


def product_of_few(a: HostArray, b: HostArray) -> HostArray:
    """Return a b for an ``a`` (n, K) in row-major order, and a ``b`` (K, M) in either order.

    Both are of one dtype, float32 or float64, and no smaller than the module says.  The same bits
    however many threads there are.
    """
    (n, K), M, size = a.shape, b.shape[1], a.itemsize
    by_rows, by_columns = _compiled(a.dtype)
    at_a, at_b = a.ctypes.data, b.ctypes.data
    width = lanes(size)
    threads = max(1, min(compute_threads(), n * K * M // _SHARED))
    if not b.flags.c_contiguous:
        c = np.empty((n, M), a.dtype)
        at_c, block = c.ctypes.data, 4 * width
        blocks = M // block
        bounds = [blocks * k // threads * block for k in range(threads)] + [M]
        columns = list(pairwise(bounds))
        share(lambda k: by_rows(at_a, K, at_b, at_c, M, n, K, *columns[k]), range(threads))
        return c
    padded = -(-M // width) * width
    sums = np.empty((_PARTS, n, padded), a.dtype)
    at_sums = sums.ctypes.data
    bounds = [K * k // _PARTS for k in range(_PARTS + 1)]

    def part(k: int) -> None:
        first, last = bounds[k : k + 2]
        at, row = at_sums + k * n * padded * size, M * size
        by_columns(at_a + first * size, K, at_b + first * row, at, padded, n, last - first, M)

    def mine(thread: int) -> None:
        for k in range(thread, _PARTS, threads):
            part(k)

    share(mine, range(threads))
    total: HostArray = sums.sum(axis=0)
    if padded == M:
        return total
    c = np.empty((n, M), a.dtype)
    whole = M // width * width
    c[:, :whole] = total[:, :whole]
    c[:, M - width :] = total[:, padded - width :]
    return c
