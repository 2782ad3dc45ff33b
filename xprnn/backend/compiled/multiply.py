"""Products of matrices that a BLAS is not the fastest at.

A BLAS packs both matrices, which pays where each packed entry is used many times.  With few rows,
or a short sum, it is not: then it is faster to read the right matrix once, in blocks that are
turned round where they have to be, each used before it leaves the cache, or where it lies.

Shapes: a (n, K), c (n, M), both row-major.  K is at least a vector's entries, and M four vectors':
what is left over beside whole ones is done by one that overlaps another, and gives the same numbers
twice.
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
_TILES = 12
"""Rows that are whole tiles, for any processor."""
_SHARED = 4 * 10**6
"""Multiplications that are worth a thread."""


def _by_rows_for(dtype: str) -> Callable[..., None]:
    """Return ``by_rows(a, b, c, first, last)``: c = a bᵀ, columns from first to last, b (M, K)."""
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (strip_for(vectors, scalar, size) for vectors in (4, 2, 1))
    turn, empty, entry, afresh = turn_for(scalar, size), np.empty, getattr(np, dtype), False

    def by_rows(a, b, c, first, last):
        n, K, M = a.shape[0], a.shape[1], b.shape[0]
        p = empty(4 * width * K, entry)
        at_a, at_b, at_c, at_p = a.ctypes.data, b.ctypes.data, c.ctypes.data, p.ctypes.data
        m = first
        while m < last:
            left = last - m
            block = (4 if left > 2 * width else 2 if left > width else 1) * width
            m = min(m, last - block)
            for j in range(0, block, width):
                k = 0
                while k < K:
                    k = min(k, K - width)
                    turn(at_b + ((m + j) * K + k) * size, K, at_p + (k * block + j) * size, block)
                    k += width
            to = at_c + m * size
            if block == 4 * width:
                strip4(at_a, K, 1, at_p, block, K, to, M, n, afresh)
            elif block == 2 * width:
                strip2(at_a, K, 1, at_p, block, K, to, M, n, afresh)
            else:
                strip1(at_a, K, 1, at_p, block, K, to, M, n, afresh)
            m += block
        hold(p)

    return by_rows


def _by_columns_for(dtype: str) -> Callable[..., None]:
    """Return ``by_columns(a, b, c, first, last)``: c = a b, summed over the rows of b from first to
    last, b (K, M).

    c is (n, M), M rounded up to whole vectors: the last vector has the last columns of the product,
    also where the one before has some of them, too.
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (strip_for(vectors, scalar, size) for vectors in (4, 2, 1))
    DEPTH = _DEPTH

    def by_columns(a, b, c, first, last):
        n, K, M, W = a.shape[0], a.shape[1], b.shape[1], c.shape[1]
        for k in range(first, last, DEPTH):
            depth, more = min(DEPTH, last - k), k > first
            at_a, at_b, at_c = a.ctypes.data + k * size, b.ctypes.data + k * M * size, c.ctypes.data
            m = 0
            while m < M:
                at, to = at_b + min(m, M - width) * size, at_c + m * size
                if m + 4 * width <= M:
                    strip4(at_a, K, 1, at, M, depth, to, W, n, more)
                    m += 4 * width
                elif m + 2 * width <= M:
                    strip2(at_a, K, 1, at, M, depth, to, W, n, more)
                    m += 2 * width
                else:
                    strip1(at_a, K, 1, at, M, depth, to, W, n, more)
                    m += width

    return by_columns


@cache
def _compiled(source: Callable[[str], Callable[..., None]], dtype: Any) -> Callable[..., None]:
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    given, filled = types.Array(entry, 2, "C", readonly=True), types.Array(entry, 2, "C")
    signature = types.void(given, given, filled, types.intp, types.intp)
    call: Callable[..., None] = build_closure(source(dtype.name), signature).call
    return call


def multiply_by_rows(a: HostArray, b: HostArray) -> HostArray:
    """Return a bᵀ, b (M, K) in row-major order as well.

    Both are of one dtype, float32 or float64, and no smaller than the module says; so for
    `multiply_by_columns`.  The same bits however many threads there are.
    """
    (n, K), M = a.shape, b.shape[0]
    c = np.empty((n, M), a.dtype)
    by_rows = _compiled(_by_rows_for, a.dtype)
    threads = min(compute_threads(), n * K * M // _SHARED)
    if threads < 2:
        by_rows(a, b, c, 0, M)
    elif n < M:
        block = 4 * lanes(a.itemsize)
        columns = _shares(M // block, threads, block, M)
        share(lambda k: by_rows(a, b, c, *columns[k]), range(threads))
    else:
        # Whole tiles, because one row by itself is summed in another order.
        rows = [slice(*bounds) for bounds in _shares(n // _TILES, threads, _TILES, n)]
        share(lambda k: by_rows(a[rows[k]], b, c[rows[k]], 0, M), range(threads))
    return c


def multiply_by_columns(a: HostArray, b: HostArray) -> HostArray:
    """Return a b, b (K, M) in row-major order as well: for few rows of a."""
    (n, K), M, width = a.shape, b.shape[1], lanes(a.itemsize)
    by_columns = _compiled(_by_columns_for, a.dtype)
    threads = max(1, min(compute_threads(), n * K * M // _SHARED))
    padded = -(-M // width) * width
    sums = np.empty((_PARTS, n, padded), a.dtype)
    rows = _shares(K, _PARTS, 1, K)

    def mine(thread: int) -> None:
        for k in range(thread, _PARTS, threads):
            by_columns(a, b, sums[k], *rows[k])

    share(mine, range(threads))
    total: HostArray = sums.sum(axis=0)
    if padded == M:
        return total
    c = np.empty((n, M), a.dtype)
    whole = M // width * width
    c[:, :whole] = total[:, :whole]
    c[:, M - width :] = total[:, padded - width :]
    return c


def _shares(count: int, parts: int, size: int, end: int) -> list[tuple[int, int]]:
    """Return the bounds of each part of so many pieces of a size; the last one's is the end."""
    bounds = [count * k // parts * size for k in range(parts)]
    return list(pairwise([*bounds, end]))
