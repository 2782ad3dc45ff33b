"""A matrix product in blocks that stay in the caches, of operands that are stored either way.

::

    for some rows of c, so few that their part of a has room in the second-level cache
        for each pass over some terms of the sums
            for a few vectors of columns
                pack the block of b, which has room in the first-level cache
                add its product with the rows of a, tile by tile,
                    and meanwhile bring the next block of b into the caches

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
from xprnn.backend.numba.intrinsics import call, fetch, hold, row
from xprnn.backend.numba.packed import turn_for
from xprnn.backend.numba.tiles import SHAPE, lanes, named, next_width


def blocks_for(dtype: str) -> Callable[..., None]:
    """Return ``blocks(table, a, lda, b, ldb, c, ldc, n, K, M, s, given, flags...)``, not compiled.

    a, b, c and s are addresses, ``table`` as in `xprnn.backend.numba.addresses`.  ``given``:
    whether there is an s.  The flags: whether the rows of a, which are ``lda`` apart, are stored as
    columns; likewise for b; whether a b is added to what c has, and then there is no s; and whether
    c has so few rows that packing b doesn't pay, unless its rows are stored as columns.
    """
    size, entry = np.dtype(dtype).itemsize, getattr(np, dtype)
    width, WIDE, ROWS = lanes(size), SHAPE.vectors, tuning.PRODUCT_BLOCK_ROWS
    PASS, FEW_PASS, LEAST = tuning.PASS_TERMS, tuning.PASS_TERMS_FEW_ROWS, 2 * tuning.FETCHED_ROWS
    FAR, LONG, AHEAD = tuning.PACKED_DISTANCE, tuning.PACKED_TERMS, tuning.FETCHED_BYTES
    copy, turned, fetching = _copy_for(dtype), _turned_for(dtype), _fetching_for(dtype)
    block_rows, strip_width = named(_block_rows, "block_rows"), _strip_width_for(width)

    def blocks(table, a, lda, b, ldb, c, ldc, n, K, M, s, given, turned_a, turned_b, more, few):
        in_place, packed_a = few and not turned_b, turned_a and lda * size > FAR and K >= LONG
        terms = min(K, FEW_PASS if in_place else PASS)
        block = block_rows(n, ROWS)
        ahead = not in_place and K * M * size >= AHEAD and n >= LEAST
        # Blocks begin with a cache line.
        room_p = np.empty(0 if in_place else terms * WIDE * width + 64 // size, entry)
        room_q = np.empty(terms * block + 64 // size if packed_a else 0, entry)
        at_p, at_q = (room_p.ctypes.data + 63) // 64 * 64, (room_q.ctypes.data + 63) // 64 * 64
        for first in range(0, n, block):
            rows = min(block, n - first)
            for k in range(0, K, terms):
                depth = min(terms, K - k)
                at_a, la, ka = a + (first * lda + k) * size, lda, 1
                if turned_a:
                    at_a, la, ka = a + (k * lda + first) * size, 1, lda
                if packed_a:
                    copy(at_a, lda, at_q, block, rows, depth)
                    at_a, ka = at_q, block
                m = 0
                while m < M:
                    vectors, overlap = strip_width(M - m, M, n)
                    wide = vectors * width
                    m -= overlap
                    at_b, lb = at_p, wide
                    if in_place:
                        at_b, lb = b + (k * ldb + m) * size, ldb
                    elif turned_b:
                        turned(b + (m * ldb + k) * size, ldb, at_p, wide, depth)
                    else:
                        copy(b + (k * ldb + m) * size, ldb, at_p, wide, wide, depth)
                    at_c, add = c + (first * ldc + m) * size, 1 if more or k > 0 else 0
                    at_s, ls = at_c, ldc
                    if given and k == 0:
                        at_s, ls, add = s + m * size, 0, 1
                    m += wide
                    twice = overlap if add and ls > 0 else 0
                    args = at_a, la, ka, at_b, lb, depth, at_c, ldc, at_s, ls, rows, add, twice
                    if ahead:
                        next_m, next_k = (m, k) if m < M else (0, k + terms if k + terms < K else 0)
                        following = next_m, next_k, min(wide, M - next_m), min(terms, K - next_k)
                        fetching(table, vectors, args, b, ldb, turned_b, following)
                    else:
                        call(table, vectors, args)
        hold(room_p)
        hold(room_q)

    return blocks


def _block_rows(n, most):
    """Return how many rows a block has: all about the same, whole tiles in all but the last."""
    count = max(1, (n + most - 1) // most)
    return max(1, ((n + count - 1) // count + 11) // 12) * 12


def _strip_width_for(width: int) -> Any:
    """Return ``strip_width(left, M, n)``, for vectors of ``width`` entries.

    It returns how many vectors the next strip has, of the ``left`` last columns of a c (n, M), and
    how many columns it shares with the one before.
    """
    WIDE = SHAPE.vectors

    def strip_width(left, M, n):
        vectors = (left + width - 1) // width
        # A tile of one vector and few rows has too few sums to hide the latency of multiplications.
        vectors = WIDE if n >= 2 * WIDE and vectors >= WIDE else next_width(vectors)
        if vectors * width > M:
            vectors = 1
        return vectors, max(0, vectors * width - left)

    return named(strip_width, f"strip_width_{width}")


def _fetching_for(dtype: str) -> Any:
    """Return ``fetching(table, vectors, args, b, ldb, turned_b, following)``.

    It calls a strip of tiles for some rows at a time, and has a block of b brought into the caches
    meanwhile: ``following`` are its first column and row, and how many it has.
    """
    size = np.dtype(dtype).itemsize
    ROWS, LINE = tuning.FETCHED_ROWS, 64 // size

    def fetching(table, vectors, args, b, ldb, turned_b, following):
        a, la, ka, p, lp, depth, c, ldc, s, ls, rows, add, twice = args
        m, k, columns, terms = following
        first, lines, length = k * ldb + m, terms, columns
        if turned_b:
            first, lines, length = m * ldb + k, columns, terms
        for r in range(0, rows, ROWS):
            here = min(ROWS, rows - r)
            for i in range(lines * r // rows, lines * (r + here) // rows):
                for j in range(0, length, LINE):
                    fetch(b + (first + i * ldb + j) * size)
            to_a, to_c, to_s = r * la * size, r * ldc * size, r * ls * size
            given = a + to_a, la, ka, p, lp, depth, c + to_c, ldc, s + to_s, ls, here, add, twice
            call(table, vectors, given)

    return named(fetching, f"fetching_{8 * size}")


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
