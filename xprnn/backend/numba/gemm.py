"""Matrix products in shapes at which a BLAS is slow.

A BLAS packs both matrices, which pays only if each packed entry is used many times.  With few rows
or short sums packing does not pay, and reading the right-hand matrix once is faster: in place, or
in blocks that are transposed while they are in the cache.

The names are those of BLAS, N for a matrix as it is stored and T for a transposed one: ``nn`` is
a b, ``nt`` is a bᵀ, ``tn`` is aᵀ b.

Columns are computed in whole vectors.  If their number is not a multiple of a vector's entries, the
last vector overlaps the one before, and some columns are computed twice, with the same result.  So
b must have at least one vector's columns, and in ``nt`` at least four vectors' rows.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.pool import empty as pooled
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.intrinsics import hold
from xprnn.backend.numba.packed import turn_for
from xprnn.backend.numba.tiles import lanes, named, strip_for

_TILE_ROWS = 12
"""A number of rows that is filled by tiles of the largest height, whichever the processor has."""


def _nt_for(dtype: str) -> Callable[..., None]:
    """Return ``nt(a, b, c, first, last, bias)``: c = a bᵀ + bias, in columns first to last.

    Shapes: a (n, K), b (M, K), c (n, M), bias (M,), or (0,) for none.
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (strip_for(vectors, scalar, size) for vectors in (4, 2, 1))
    turn, empty, entry = turn_for(scalar, size), np.empty, getattr(np, dtype)

    def nt(a, b, c, first, last, bias):
        n, K, M, more = a.shape[0], a.shape[1], b.shape[0], bias.shape[0] > 0
        p = empty(4 * width * K, entry)
        at_a, at_b, at_c, at_p = a.ctypes.data, b.ctypes.data, c.ctypes.data, p.ctypes.data
        m = first
        while m < last:
            left = last - m
            block = (4 if left > 2 * width else 2 if left > width else 1) * width
            # The last block overlaps the one before if it is not a whole one.
            m = min(m, last - block)
            # p is the block of b, transposed: entry by entry, or in squares with a vector's side.
            if width > K:
                for j in range(block):
                    for k in range(K):
                        p[k * block + j] = b[m + j, k]
            else:
                for j in range(0, block, width):
                    k = 0
                    while k < K:
                        k = min(k, K - width)
                        at = at_b + ((m + j) * K + k) * size
                        turn(at, K, at_p + (k * block + j) * size, block)
                        k += width
            to, s = at_c + m * size, bias.ctypes.data + m * size
            if block == 4 * width:
                strip4(at_a, K, 1, at_p, block, K, to, M, s, 0, n, more)
            elif block == 2 * width:
                strip2(at_a, K, 1, at_p, block, K, to, M, s, 0, n, more)
            else:
                strip1(at_a, K, 1, at_p, block, K, to, M, s, 0, n, more)
            m += block
        hold(p)

    return nt


def _nn_for(dtype: str) -> Callable[..., None]:
    """Return ``nn(a, b, c, first, last)``: c = a b, summed over rows first to last of b.

    Shapes: a (n, K), b (K, M), c (n, W), where W is M rounded up to whole vectors.  The last vector
    of c has the last columns of the product, some of which may be in the vector before, too.
    """
    size = np.dtype(dtype).itemsize
    panel, width, CACHED = _panel_for(dtype), lanes(size), tuning.NN_PASS_BYTES

    def nn(a, b, c, first, last):
        (n, K), M, W = a.shape, b.shape[1], c.shape[1]
        at_a, at_b, at_c = a.ctypes.data, b.ctypes.data, c.ctypes.data
        most = max(width, CACHED // (M * size))
        for k in range(first, last, most):
            depth, more = min(most, last - k), k > first
            panel(at_a + k * size, K, 1, at_b + k * M * size, M, depth, at_c, W, n, more)

    return nn


def _tn_for(dtype: str) -> Callable[..., None]:
    """Return ``tn(a, b, c, first, last, more)``: c = aᵀ b, in rows first to last.

    With ``more``, aᵀ b is added to c.  Shapes: a (K, M), whose rows may have any distance, b (K, N)
    and c (M, W).  One of N and W may be the other rounded up to whole vectors, as for nn.
    """
    size = np.dtype(dtype).itemsize
    panel, DEPTH, ROWS = _panel_for(dtype), tuning.TN_PASS_ROWS, tuning.TN_BLOCK_ROWS

    def tn(a, b, c, first, last, more):
        K, N, W, ka = a.shape[0], b.shape[1], c.shape[1], a.strides[0] // size
        at_a, at_b, at_c = a.ctypes.data, b.ctypes.data, c.ctypes.data
        for row in range(first, last, ROWS):
            rows, to = min(ROWS, last - row), at_c + row * W * size
            for k in range(0, K, DEPTH):
                depth, at = min(DEPTH, K - k), at_a + (k * ka + row) * size
                panel(at, 1, ka, at_b + k * N * size, N, depth, to, W, rows, more or k > 0)

    return tn


def _panel_for(dtype: str) -> Any:
    """Return ``panel(a, lda, ka, b, N, depth, c, W, rows, more)``: c = a b, or c + a b with more.

    a as in `xprnn.backend.numba.tiles`; b (depth, N) and c (rows, W) are contiguous.  One of N and
    W may be the other rounded up to whole vectors.
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (strip_for(vectors, scalar, size) for vectors in (4, 2, 1))

    def panel(a, lda, ka, b, N, depth, c, W, rows, more):
        n, columns = 0, min(N, W)
        while n < columns:
            at, to = b + min(n, N - width) * size, c + min(n, W - width) * size
            if n + 4 * width <= columns:
                strip4(a, lda, ka, at, N, depth, to, W, to, W, rows, more)
                n += 4 * width
            elif n + 2 * width <= columns:
                strip2(a, lda, ka, at, N, depth, to, W, to, W, rows, more)
                n += 2 * width
            else:
                strip1(a, lda, ka, at, N, depth, to, W, to, W, rows, more)
                n += width

    return named(panel, f"panel_{8 * size}")


@cache
def _compiled(source: Callable[[str], Callable[..., None]], dtype: Any) -> Callable[..., None]:
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    given, filled = types.Array(entry, 2, "C", readonly=True), types.Array(entry, 2, "C")
    arguments = [given, given, filled, types.intp, types.intp]
    if source is _nt_for:
        arguments += [types.Array(entry, 1, "C", readonly=True)]
    if source is _tn_for:
        arguments = [types.Array(entry, 2, "A", readonly=True), *arguments[1:], types.boolean]
    call: Callable[..., None] = build_closure(source(dtype.name), types.void(*arguments)).call
    return call


def multiply_nt(a: HostArray, b: HostArray, bias: HostArray | None = None) -> HostArray:
    """Return a bᵀ + bias, of a (n, K), b (M, K) and bias (M,).

    The operands of all functions here are in row-major order, have the same dtype, float32 or
    float64, and at least the sizes that the module's docstring demands.  The bits of the result do
    not depend on the number of threads.
    """
    (n, K), M = a.shape, b.shape[0]
    c = pooled((n, M), a.dtype)
    nt = _compiled(_nt_for, a.dtype)
    if bias is None:
        bias = np.empty(0, a.dtype)
    threads = min(compute_threads(), n * K * M // tuning.PRODUCT_PER_THREAD)
    if threads < 2:
        nt(a, b, c, 0, M, bias)
    elif n < M:
        block = 4 * lanes(a.itemsize)
        columns = _shares(M // block, threads, block, M)
        share(lambda k: nt(a, b, c, *columns[k], bias), range(threads))
    else:
        rows = [slice(*bounds) for bounds in _shares(n // _TILE_ROWS, threads, _TILE_ROWS, n)]
        share(lambda k: nt(a[rows[k]], b, c[rows[k]], 0, M, bias), range(threads))
    return c


def multiply_nn(a: HostArray, b: HostArray) -> HostArray:
    """Return a b, of a (n, K) and b (K, M)."""
    (n, K), M = a.shape, b.shape[1]
    nn = _compiled(_nn_for, a.dtype)
    threads = min(compute_threads(), n * K * M // tuning.PRODUCT_PER_THREAD)
    width = lanes(a.itemsize)
    if n > tuning.NN_FEW_ROWS:
        c = pooled((n, -(-M // width) * width), a.dtype)
        if threads < 2:
            nn(a, b, c, 0, K)
        else:
            rows = [slice(*bounds) for bounds in _shares(n // _TILE_ROWS, threads, _TILE_ROWS, n)]
            share(lambda k: nn(a[rows[k]], b, c[rows[k]], 0, K), range(threads))
        return _unpadded(c, M, width)
    # There are too few rows for threads to share them; they share the terms of the sums.
    count = tuning.NN_PARTS
    sums = pooled((count, n, -(-M // width) * width), a.dtype)
    parts = _shares(K, count, 1, K)
    threads = max(1, threads)

    def mine(thread: int) -> None:
        for k in range(thread, count, threads):
            nn(a, b, sums[k], *parts[k])

    share(mine, range(threads))
    total = np.add.reduce(sums, axis=0, out=pooled(sums.shape[1:], a.dtype))
    return _unpadded(total, M, width)


def multiply_tn(a: HostArray, b: HostArray) -> HostArray:
    """Return aᵀ b, of a (K, M) and b (K, N)."""
    M, N, width = a.shape[1], b.shape[1], lanes(a.itemsize)
    c = pooled((M, -(-N // width) * width), a.dtype)
    _tn(a, b, c, more=False)
    return _unpadded(c, N, width)


def add_tn(a: HostArray, b: HostArray, c: HostArray) -> None:
    """Add aᵀ b to c (M, N), of a (K, M), whose rows may have any distance, and b (K, N)."""
    (K, N), width = b.shape, lanes(b.itemsize)
    whole, left = N // width * width, N % width
    if left:
        # The last vector must add zeros to the columns that the vector before has added to.
        padded = np.zeros((K, whole + width), b.dtype)
        padded[:, :whole] = b[:, :whole]
        padded[:, whole + width - left :] = b[:, whole:]
        b = padded
    _tn(a, b, c, more=True)


def _tn(a: HostArray, b: HostArray, c: HostArray, *, more: bool) -> None:
    tn = _compiled(_tn_for, a.dtype)
    threads = min(compute_threads(), a.size * b.shape[1] // tuning.PRODUCT_PER_THREAD)
    if threads < 2:
        tn(a, b, c, 0, len(c), more)
    else:
        rows = _shares(len(c) // _TILE_ROWS, threads, _TILE_ROWS, len(c))
        share(lambda k: tn(a, b, c, *rows[k], more), range(threads))


def _unpadded(c: HostArray, columns: int, width: int) -> HostArray:
    """Return the columns of the product that are in c (n, W); see `_nn_for` for its last vector."""
    padded = c.shape[1]
    if padded == columns:
        return c
    product = pooled((c.shape[0], columns), c.dtype)
    whole = columns // width * width
    product[:, :whole] = c[:, :whole]
    product[:, columns - width :] = c[:, padded - width :]
    return product


def _shares(count: int, parts: int, size: int, end: int) -> list[tuple[int, int]]:
    """Divide ``count`` pieces of ``size`` among ``parts``; return the bounds of each part.

    The last part reaches to ``end``, which is more than the pieces if it is not a multiple of them.
    """
    bounds = [count * k // parts * size for k in range(parts)]
    return list(pairwise([*bounds, end]))
