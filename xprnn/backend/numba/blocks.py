"""A matrix product in blocks that stay in the caches, of operands that are stored either way.

::

    for some rows of c, so few that their part of a has room in the second-level cache
        for each pass over some terms of the sums
            for a few vectors of columns
                pack the block of b, which has room in the first-level cache
                add its product with the rows of a, tile by tile

This is the order of K. Goto and R. van de Geijn (see `xprnn.backend.numba.tiles`), except that a is
read where it lies, unless what is read together lies far apart, on as many pages of memory.

Columns are computed in whole vectors.  If their number is not a multiple of a vector's entries, the
last vectors overlap the ones before, so c must have at least one vector's columns.

Shapes: c = a b + s, of a (n, K), b (K, M), c (n, M), and a row s of M entries.  Strides and sizes
are counted in entries, and addresses are integers.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.numba.intrinsics import call, hold, row
from xprnn.backend.numba.packed import turn_for
from xprnn.backend.numba.tiles import SHAPE, lanes, named, next_width


def blocks_for(dtype: str) -> Callable[..., None]:
    """Return ``blocks(table, a, lda, b, ldb, c, ldc, n, K, M, s, given, flags...)``, not compiled.

    a, b, c and s are addresses, ``table`` as in `xprnn.backend.numba.addresses`.  ``given``:
    whether there is an s.  The flags: whether the rows of a, which are ``lda`` apart, are stored as
    columns; likewise for b; whether a b is added to what c has, and then there is no s; and whether
    c has so few rows that packing b doesn't pay, unless its rows are stored as columns.
    """
    size = np.dtype(dtype).itemsize
    width, WIDE, ROWS = lanes(size), SHAPE.vectors, tuning.PRODUCT_BLOCK_ROWS
    PASS, FEW_PASS = tuning.PASS_TERMS, tuning.PASS_TERMS_FEW_ROWS
    FAR, LONG = tuning.PACKED_DISTANCE, tuning.PACKED_TERMS
    copy, turned = _copy_for(dtype), _turned_for(dtype)
    empty, entry = np.empty, getattr(np, dtype)

    def blocks(table, a, lda, b, ldb, c, ldc, n, K, M, s, given, turned_a, turned_b, more, few):
        in_place, packed_a = few and not turned_b, turned_a and lda * size > FAR and K >= LONG
        terms = min(K, FEW_PASS if in_place else PASS)
        # A tile of one vector and few rows has too few sums to hide the latency of multiplications.
        tall = n >= 2 * WIDE
        # Blocks begin with a cache line.
        room_p = empty(0 if in_place else terms * WIDE * width + 64 // size, entry)
        room_q = empty(terms * ROWS + 64 // size if packed_a else 0, entry)
        at_p = (room_p.ctypes.data + 63) // 64 * 64
        at_q = (room_q.ctypes.data + 63) // 64 * 64
        for first in range(0, n, ROWS):
            rows = min(ROWS, n - first)
            for k in range(0, K, terms):
                depth = min(terms, K - k)
                at_a, la, ka = a + (first * lda + k) * size, lda, 1
                if turned_a:
                    at_a, la, ka = a + (k * lda + first) * size, 1, lda
                if packed_a:
                    copy(at_a, lda, at_q, ROWS, rows, depth)
                    at_a, ka = at_q, ROWS
                m = 0
                while m < M:
                    vectors = (M - m + width - 1) // width
                    vectors = WIDE if tall and vectors >= WIDE else next_width(vectors)
                    if vectors * width > M:
                        vectors = 1
                    wide = vectors * width
                    overlap = max(0, m + wide - M)
                    m -= overlap
                    at_b, lb = at_p, wide
                    if turned_b:
                        turned(b + (m * ldb + k) * size, ldb, at_p, wide, depth)
                    elif in_place:
                        at_b, lb = b + (k * ldb + m) * size, ldb
                    else:
                        copy(b + (k * ldb + m) * size, ldb, at_p, wide, wide, depth)
                    at_c, add = c + (first * ldc + m) * size, 1 if more or k > 0 else 0
                    at_s, ls = at_c, ldc
                    if given and k == 0:
                        at_s, ls, add = s + m * size, 0, 1
                    twice = overlap if add and ls > 0 else 0
                    args = at_a, la, ka, at_b, lb, depth, at_c, ldc, at_s, ls, rows, add, twice
                    call(table, vectors, args)
                    m += wide
        hold(room_p)
        hold(room_q)

    return blocks


def _copy_for(dtype: str) -> Any:
    """Return ``copy(b, ldb, p, ldp, columns, depth)``: it copies some columns of b into p."""
    size, zero = np.dtype(dtype).itemsize, getattr(np, dtype)(0)

    def copy(b, ldb, p, ldp, columns, depth):
        for k in range(depth):
            x, y = row(zero, b + k * ldb * size, columns), row(zero, p + k * ldp * size, columns)
            for j in range(columns):
                y[j] = x[j]

    return named(copy, f"copy_{8 * size}")


def _turned_for(dtype: str) -> Any:
    """Return ``turned(b, ldb, p, wide, depth)``: p is the transpose of some rows of b.

    These are ``wide`` rows, whole vectors' lengths.  Squares with the side of a vector are
    transposed in registers; the last ones overlap those before.
    """
    size, zero = np.dtype(dtype).itemsize, getattr(np, dtype)(0)
    width, scalar = lanes(size), ir.FloatType() if size == 4 else ir.DoubleType()
    turn = turn_for(scalar, size)

    def turned(b, ldb, p, wide, depth):
        if depth < width:
            for j in range(wide):
                x, y = row(zero, b + j * ldb * size, depth), row(zero, p, depth * wide)
                for k in range(depth):
                    y[k * wide + j] = x[k]
            return
        for j in range(0, wide, width):
            k = 0
            while k < depth:
                k = min(k, depth - width)
                turn(b + (j * ldb + k) * size, ldb, p + (k * wide + j) * size, wide)
                k += width

    return named(turned, f"turned_{8 * size}")
