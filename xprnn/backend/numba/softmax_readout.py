"""The cross-entropy of a linear readout and its gradients, in blocks that stay in the cache.

::

    a = h Rᵀ + r                                                      (1)
    m = max_j a_j,   Z = Σ_j exp(a_j - m)                             (2)
    d_j = s exp(a_j - m) / Z - w [j = k]                              (3)
    dh = d R,   dR = dᵀ h,   dr = Σ d                                 (4)

for rows h (N, H), each with a column k and factors s and w, and a readout R (V, H), r (V,).  Done
one after the other, these go through all N V numbers of a six times, and a large vocabulary has
more of them than a core's cache holds.  So they are formed in blocks of columns::

    for each block:  a, its own m and Z, and exp(a - m) in the place of a
    for each row:    m and Z, from those of its blocks
    for each block:  d from exp(a - m), with the block's m; dR and dr, and its share of dh

which writes and reads a once, and R twice.  Nothing is computed twice.  Where there are many rows,
some are done after the others, in the same memory.

The bits do not depend on the number of threads: the blocks don't, and dh is the sum of a fixed
number of parts, each over some blocks in order.

References
----------
M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax" (2018): (2) from parts.
P.-L. Hsu et al., "Liger Kernel: efficient Triton kernels for LLM training" (2024), and E. Wijmans
et al., "Cut your losses in large-vocabulary language models" (2025), do readout and loss together
on GPUs: the first in blocks of rows, the second computes (1) twice.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.pool import empty
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba import softmax
from xprnn.backend.numba.addresses import BLOCKS, product_table
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.functions import exp32
from xprnn.backend.numba.intrinsics import call, row
from xprnn.backend.numba.softmax import exponentials

_FLOAT32 = np.dtype("float32")
_NO_ROW = np.empty(0, np.float32)
_NO_MATRIX = np.empty((0, 0), np.float32)

_VECTOR = 16
"""Entries of the widest vector: blocks have whole ones."""


class Cut(NamedTuple):
    """How the columns are cut.

    Attributes
    ----------
    width : int
        Columns of a block.
    blocks : int
    parts : int
        Of dh.
    """

    width: int
    blocks: int
    parts: int


def cut(rows: int, columns: int) -> Cut:
    """Return how the columns are cut for so many rows."""
    width = max(4 * _VECTOR, tuning.READOUT_BLOCK_ENTRIES // rows // _VECTOR * _VECTOR)
    width = min(width, tuning.READOUT_BLOCK_COLUMNS, columns)
    blocks, parts = -(-columns // width), tuning.READOUT_PARTS
    if blocks > parts:
        # As many in each part, so that threads have as much to do.
        blocks = -(-blocks // parts) * parts
        width = -(-columns // blocks // _VECTOR) * _VECTOR
    while 0 < columns % width < _VECTOR:
        # Products compute whole vectors, so the last block must have one, too.
        width = min(width + _VECTOR, columns)
    blocks = -(-columns // width)
    return Cut(width, blocks, min(parts, blocks))


def _forth_for() -> Callable[..., None]:
    """Return ``forth(table, h, R, r, a, m, Z, picked, columns, sizes, blocks)``, not compiled.

    For some blocks, a pair of bounds, it sets a to exp(a - m), with m and Z of each block, each
    (blocks, N); and ``picked`` to the entry of a in each row's column.  r may be empty.

    ``sizes`` are the columns of a block, the distance of its rows, and that of blocks.
    """
    zero, FEW = np.float32(0), tuning.NN_FEW_ROWS

    def forth(table, h, R, r, a, m, Z, picked, columns, sizes, blocks):
        (N, H), V, (width, ld, step) = h.shape, R.shape[0], sizes
        few, given = 1 if N <= FEW else 0, min(r.shape[0], 1)
        for b in range(blocks[0], blocks[1]):
            c = b * width
            wide, at = min(width, V - c), a.ctypes.data + 4 * b * step
            left, right = (h.ctypes.data, H), (R.ctypes.data + 4 * c * H, H)
            bias = r.ctypes.data + 4 * c, given
            # (1): a bᵀ + s
            call(table, BLOCKS, (table, *left, *right, at, ld, N, H, wide, *bias, 0, 1, 0, few))
            for n in range(N):
                x, k = row(zero, at + 4 * n * ld, wide), columns[n] - c
                if 0 <= k < wide:
                    picked[n] = x[k]
                m[b, n], Z[b, n] = exponentials(x)

    return forth


def _rows_for() -> Callable[..., None]:
    """Return ``rows(m, Z, top, total)``, which sets the last two to m and Z of the rows, (N,)."""

    def rows(m, Z, top, total):
        for n in range(m.shape[1]):
            x, z = m[0, n], m[0, n] * 0
            for b in range(1, m.shape[0]):
                x = m[b, n] if m[b, n] > x else x
            for b in range(m.shape[0]):
                z += Z[b, n] * exp32(m[b, n] - x)
            top[n], total[n] = x, z

    return rows


def _back_for() -> Callable[..., None]:
    """Return ``back(table, ..., sizes, blocks, more)``, not compiled.

    For some blocks, it sets a to d, dh (N, H) to their share of it, and their rows of dR and dr,
    either of which may be empty; with ``more`` it adds to dR and dr.
    """
    zero, FEW = np.float32(0), tuning.NN_FEW_ROWS

    def back(table, h, R, a, m, top, total, columns, s, w, dh, dR, dr, sizes, blocks, more):
        (N, H), V, (width, ld, step) = h.shape, R.shape[0], sizes
        few = 1 if N <= FEW else 0
        for b in range(blocks[0], blocks[1]):
            c = b * width
            wide, at = min(width, V - c), a.ctypes.data + 4 * b * step
            summed = row(zero, dr.ctypes.data + 4 * c, min(wide, dr.shape[0]))
            if more == 0:
                for j in range(summed.shape[0]):
                    summed[j] = zero
            for n in range(N):
                x, k = row(zero, at + 4 * n * ld, wide), columns[n] - c
                factor = s[n] / total[n] * exp32(m[b, n] - top[n])
                for j in range(wide):
                    x[j] *= factor  # (3)
                if 0 <= k < wide:
                    x[k] -= w[n]
                for j in range(summed.shape[0]):
                    summed[j] += x[j]
            # (4): a b, and aᵀ b
            right, to = (R.ctypes.data + 4 * c * H, H), (dh.ctypes.data, H)
            add = 1 if b > blocks[0] else 0
            call(table, BLOCKS, (table, at, ld, *right, *to, N, wide, H, 0, 0, 0, 0, add, few))
            if dR.shape[0] > 0:
                right, to = (h.ctypes.data, H), (dR.ctypes.data + 4 * c * H, H)
                call(table, BLOCKS, (table, at, ld, *right, *to, wide, N, H, 0, 0, 1, 0, more, 0))

    return back


@cache
def _compiled() -> tuple[Callable[..., None], ...]:
    """Return the three functions; they are compiled at the first use."""
    row_in, matrix_in = (types.Array(types.float32, n, "C", readonly=True) for n in (1, 2))
    row_out, matrix_out = types.float32[::1], types.float32[:, ::1]
    columns, word = types.Array(types.intp, 1, "C", readonly=True), types.intp
    triple, pair = types.UniTuple(word, 3), types.UniTuple(word, 2)
    products = word, matrix_in, matrix_in
    signatures = (
        (*products, row_in, row_out, *[matrix_out] * 2, row_out, columns, triple, pair),
        (matrix_out, matrix_out, row_out, row_out),
        (
            *(*products, row_out, matrix_out, row_out, row_out, columns, row_in, row_in),
            *(matrix_out, matrix_out, row_out, triple, pair, word),
        ),
    )
    functions = _forth_for(), _rows_for(), _back_for()
    key = inspect.getsource(softmax)
    # All three in one line.
    words = ("the cross-entropy of a readout in float32", "", "")
    return tuple(
        [
            build_closure(function, types.void(*signature), key=key, announced=announced).call
            for function, signature, announced in zip(functions, signatures, words, strict=True)
        ]
    )


class Found(NamedTuple):
    """What `softmax_readout` finds.

    Attributes
    ----------
    m, Z, picked : array, (N,)
    h : array, (N, H)
        dh.
    logits : array, (N, V), or None
        d.
    weight : array, (V, H), or None
        dR.
    bias : array, (V,), or None
        dr.
    """

    m: HostArray
    Z: HostArray
    picked: HostArray
    h: HostArray
    logits: HostArray | None
    weight: HostArray | None
    bias: HostArray | None


class _ByRow(NamedTuple):
    """What there is of each row: h (N, H), k, s and w; m, Z and ``picked``; dh (N, H)."""

    h: HostArray
    columns: HostArray
    s: HostArray
    w: HostArray
    m: HostArray
    Z: HostArray
    picked: HostArray
    of_h: HostArray


class _ByColumn(NamedTuple):
    """What there is of each column: R and r; dR and dr.  All but R may be empty."""

    weight: HostArray
    bias: HostArray
    of_weight: HostArray
    of_bias: HostArray


def softmax_readout(
    h: HostArray,
    R: HostArray,
    r: HostArray | None,
    columns: HostArray,
    s: HostArray,
    w: HostArray,
    *,
    whole: bool,
    rows: int,
) -> Found:
    """Return (1) to (4), of arrays of float32 in row-major order.

    Parameters
    ----------
    h : array, (N, H)
    R : array, (V, H)
    r : array, (V,), or None
    columns : array of numpy.intp, (N,)
        k.
    s, w : array, (N,)
    whole : bool
        Whether to return d, and not dR.
    rows : int
        How many rows are done at a time, unless ``whole``.
    """
    (N, _), V = h.shape, len(R)
    times = 1 if whole or rows >= N else -(-N // rows)
    most = -(-N // times)  # rows at a time
    shape = cut(most, V)
    a = empty((N * V if whole else shape.blocks * shape.width * most,), _FLOAT32)
    dR = _NO_MATRIX if whole else empty(R.shape, _FLOAT32)
    dr = _NO_ROW if r is None else empty(r.shape, _FLOAT32)
    m, Z, picked = np.empty((3, N), _FLOAT32)
    by_row = _ByRow(h, columns, s, w, m, Z, picked, empty(h.shape, _FLOAT32))
    by_column = _ByColumn(R, _NO_ROW if r is None else r, dR, dr)
    if times == 1:
        _do(by_row, by_column, a, shape, whole=whole)
    else:
        for begin, end in pairwise([N * k // times for k in range(times + 1)]):
            some = _ByRow(*[each[begin:end] for each in by_row])
            # Cut alike, though some are one row less: `a` has room for just that.
            _do(some, by_column, a, shape, more=begin > 0)
    return Found(
        m,
        Z,
        picked,
        by_row.of_h,
        a.reshape(N, V) if whole else None,
        None if whole else dR,
        None if r is None else dr,
    )


def softmax_of_readout(
    h: HostArray, R: HostArray, r: HostArray | None, columns: HostArray, *, rows: int
) -> tuple[HostArray, HostArray, HostArray]:
    """Return m, Z and ``picked``, (N,) each; the parameters are those of `softmax_readout`.

    The bits are the same, too, of as many rows at a time.  No block is kept.
    """
    (N, H), V = h.shape, len(R)
    m, Z, picked = np.empty((3, N), _FLOAT32)
    bias = _NO_ROW if r is None else r
    (forth, join, _), table = _compiled(), product_table("float32")
    times = max(1, -(-N // rows))
    width, count, parts = cut(-(-N // times), V)
    for begin, end in pairwise([N * k // times for k in range(times + 1)]):
        some, n = slice(begin, end), end - begin
        threads = max(1, min(compute_threads(), parts, n * V * H // tuning.PRODUCT_PER_THREAD))
        own = empty((threads, n * width), _FLOAT32)
        ms, Zs = empty((2, count, n), _FLOAT32)
        bounds = [count * k // threads for k in range(threads + 1)]

        def do(k: int, given: tuple[HostArray, ...], shape: tuple[int, int, int]) -> None:
            h, a, ms, Zs, picked, columns = given
            blocks = bounds[k], bounds[k + 1]  # noqa: B023 - called before it changes
            forth(table, h, R, bias, a[k], ms, Zs, picked, columns, shape, blocks)

        given = h[some], own, ms, Zs, picked[some], columns[some]
        # All blocks of a thread are at the same place.
        if threads == 1:
            do(0, given, (width, width, 0))
        else:
            share(partial(do, given=given, shape=(width, width, 0)), range(threads))
        join(ms, Zs, m[some], Z[some])
    return m, Z, picked


def _do(
    some: _ByRow,
    by_column: _ByColumn,
    a: HostArray,
    shape: Cut,
    *,
    whole: bool = False,
    more: bool = False,
) -> None:
    """Do some rows, in several threads if there is enough to do."""
    h, columns, s, w, top, total, picked, dh = some
    R, r, dR, dr = by_column
    (N, H), V = h.shape, len(R)
    width, count, parts = shape
    # Unless d is kept, the rows of a block follow each other, and so lie on few pages of memory.
    sizes = (width, V, width) if whole else (width, width, N * width)
    m, Z = empty((2, count, N), _FLOAT32)
    sums = dh[None, ...] if parts == 1 else empty((parts, N, H), _FLOAT32)
    (forth, rows, back), table = _compiled(), product_table("float32")

    def do_forth(begin: int, end: int) -> None:
        blocks = begin * count // parts, end * count // parts
        forth(table, h, R, r, a, m, Z, picked, columns, sizes, blocks)

    def do_back(begin: int, end: int) -> None:
        for p in range(begin, end):
            blocks = p * count // parts, (p + 1) * count // parts
            given = h, R, a, m, top, total, columns, s, w, sums[p], dR, dr
            back(table, *given, sizes, blocks, more)

    threads = min(compute_threads(), parts, N * V * H // tuning.PRODUCT_PER_THREAD)
    if threads < 2:
        do_forth(0, parts)
        rows(m, Z, top, total)
        do_back(0, parts)
    else:
        bounds = [parts * k // threads for k in range(threads + 1)]
        share(lambda k: do_forth(bounds[k], bounds[k + 1]), range(threads))
        rows(m, Z, top, total)
        share(lambda k: do_back(bounds[k], bounds[k + 1]), range(threads))
    if parts > 1:
        np.add.reduce(sums, axis=0, out=dh)
