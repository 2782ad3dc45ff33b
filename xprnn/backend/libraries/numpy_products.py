"""Products of NumPy's matrices, each by the fastest of three ways.

Compiled code for all but small ones, where there is Numba; else one thread of a BLAS, and several
threads for large ones, of which each calls the BLAS for its parts.  Which product goes which way is
decided by `xprnn.backend.host.tuning`.
"""

import importlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.cut_products import multiply, parts
from xprnn.backend.host.pool import SMALLEST, empty
from xprnn.backend.host.threads import (
    blas_has_one_thread,
    can_limit_blas,
    compute_threads,
    one_blas_thread,
    one_turn,
    share,
)
from xprnn.backend.numba import lowering_word, why_no_numba
from xprnn.backend.types import Array, DType

SIDE = 16
"""Entries of float32 in the widest vector, 512 bits.

Compiled products work with whole vectors, so no size of their operands may be smaller, except for
the rows of a and, in a bᵀ, the length of the sums.
"""

DTYPES = (np.dtype("float32"), np.dtype("float64"))
"""The dtypes that a BLAS and compiled code take."""


_SMALL = min(tuning.COMPILED_PRODUCT, tuning.BLAS_ALONE)
_SMALL_VECTOR = min(_SMALL, tuning.BLAS_ALONE_VECTOR)
"""Multiplications below which a product is for one thread of a BLAS; with one row or column."""
_SMALL_RESULT = SMALLEST // 8
"""Entries of float64 below which an array is not in the pool."""


def product(a: Array, b: Array, row: Array | None = None) -> Array:
    """Return a b, of two matrices; with ``row`` given, it is added to every row of the product."""
    rows, columns = len(a), b.shape[1]
    small = _SMALL_VECTOR if rows == 1 or columns == 1 else _SMALL
    if rows * b.size < small and rows * columns < _SMALL_RESULT:
        # None of the questions below has another answer, and asking them takes as long as this.
        c = a * b if len(b) == 1 else a @ b
        if row is not None:
            c += row
        return c
    if rows * b.size >= tuning.COMPILED_PRODUCT:
        compiled = _outer_product(a, b, row) if len(b) == 1 else _by_compiled_code(a, b, row)
        if compiled is not None:
            return compiled
    c = _by_blas(a, b)
    if row is not None:
        c += row
    return c


def _outer_product(a: Array, b: Array, row: Array | None) -> Array | None:
    """Return a b + row, of one column and one row, in one pass over the result; or None."""
    given = (a, b) if row is None else (a, b, row)
    if not all(one.flags.c_contiguous for one in given):
        return None
    thin = compiled_module("thin", *given)
    return None if thin is None else thin.outer_product(a, b, row)


def products_and_sum(
    d: Array, x: Array, w: Array | None
) -> tuple[Array, Array, Array | None] | None:
    """Return dᵀ x, the sum of d's rows, and d w unless w is None, all in one pass over d; or None.

    x and w have one column each.
    """
    given = (d, x) if w is None else (d, x, w)
    if d.size < tuning.COMPILED_THIN or not all(one.flags.c_contiguous for one in given):
        return None
    thin = compiled_module("thin", *given)
    return None if thin is None else thin.products_and_sum(d, x, w)


def _by_blas(a: Array, b: Array) -> Array:
    """Return a b, by a BLAS unless it is an outer product."""
    (rows, depth), columns = a.shape, b.shape[1]
    if depth == 1:
        if rows * columns * a.itemsize < SMALLEST:
            return a * b
        return np.multiply(a, b, out=empty((rows, columns), np.result_type(a, b)))
    work = rows * depth * columns
    alone = tuning.BLAS_ALONE if min(rows, columns) > 1 else tuning.BLAS_ALONE_VECTOR
    if work < alone or not can_limit_blas():
        return _matmul(a, b)
    # Cut by its shape, whether there is one thread or several: see `cut_products`.
    if work >= tuning.BLAS_SHARED:
        count = parts(rows, depth, columns, tuning.BLAS_SHARED // 2)
        if count > 1:
            c = empty((rows, columns), np.result_type(a, b))
            with one_blas_thread:
                multiply(a, b, c, count)
            return c
    if blas_has_one_thread():
        return _matmul(a, b)
    # A BLAS's own second thread spins for milliseconds after a product, on a core that a thread of
    # ours could use.
    with one_blas_thread:
        return _matmul(a, b)


def _matmul(a: Array, b: Array) -> Array:
    """Return a b, in memory of the pool if it is large."""
    shape = len(a), b.shape[1]
    if shape[0] * shape[1] * a.itemsize < SMALLEST:
        return a @ b
    return np.matmul(a, b, out=empty(shape, np.result_type(a, b)))


def _by_compiled_code(a: Array, b: Array, row: Array | None) -> Array | None:
    """Return a b + row by compiled code, or None where a BLAS is faster.

    A matrix that is not in row-major order is taken for the transpose of one that is.
    """
    if not a.flags.c_contiguous and not b.flags.c_contiguous:
        if row is not None or not (a.flags.f_contiguous and b.flags.f_contiguous):
            return None
        product = _by_compiled_code(b.T, a.T, None)
        return None if product is None else product.T
    gemm = _gemm_for(a, b)
    if gemm is None:
        return None
    if not b.flags.c_contiguous:
        bias = None if row is None else np.ascontiguousarray(row, a.dtype)
        with_bias: Array = gemm.multiply_nt(a, b.T, bias)
        return with_bias
    turned = not a.flags.c_contiguous
    c: Array = gemm.multiply_tn(a.T, b) if turned else gemm.multiply_nn(a, b)
    if row is not None:
        c += row
    return c


def _gemm_for(a: Array, b: Array) -> Any:
    """Return the module of compiled products, or None where a BLAS is faster.

    At most one of a and b is not in row-major order.
    """
    (n, depth), columns = a.shape, b.shape[1]
    work = n * depth * columns
    if not a.flags.c_contiguous:
        faster = (
            a.flags.f_contiguous
            and work >= tuning.COMPILED_LARGER_PRODUCT
            and columns >= 2 * SIDE
            and n >= 4 * SIDE
            and depth >= SIDE
        )
    elif not b.flags.c_contiguous:
        faster = b.flags.f_contiguous and n > 2 and columns >= 4 * SIDE
    else:
        few_rows = 1 < n <= tuning.NN_FEW_ROWS and b.size >= tuning.NN_LARGE
        many_rows = n > tuning.NN_FEW_ROWS and work >= tuning.COMPILED_LARGER_PRODUCT
        faster = (few_rows or many_rows) and min(depth, columns) >= SIDE
    return compiled_module("gemm", a, b) if faster else None


def products_at_once(
    pairs: Sequence[tuple[Array, Array]], summed: Array | None
) -> tuple[list[Array], Array | None]:
    """Return a b of every pair, and the sum of the rows of another matrix.

    Each is the same to the bit as alone.  Where several threads are worth starting, each of them
    does its part of every compiled product, one after the other: a thread is woken only once.
    """
    work = 0
    for a, b in pairs:
        work += len(a) * b.size
    if work < tuning.BLAS_ALONE:
        return _one_by_one(pairs, summed)
    with one_turn:
        threads = min(compute_threads(), work // tuning.TOGETHER_PER_THREAD)
        if threads < 2 or len(pairs) < 2:
            return _one_by_one(pairs, summed)
        return _shared(pairs, summed, threads)


def _one_by_one(
    pairs: Sequence[tuple[Array, Array]], summed: Array | None
) -> tuple[list[Array], Array | None]:
    """Return what `products_at_once` does."""
    found = [product(a, b) for a, b in pairs]
    return found, None if summed is None else sum_of_rows(summed)


def _shared(
    pairs: Sequence[tuple[Array, Array]], summed: Array | None, threads: int
) -> tuple[list[Array], Array | None]:
    """Return the same, computed by at most so many threads."""
    results: list[Array] = []
    plans: list[Any] = []
    for a, b in pairs:
        plan = _planned(a, b) if len(a) * b.size >= tuning.COMPILED_PRODUCT else None
        results.append(product(a, b) if plan is None else plan.c)
        if plan is not None:
            plans.append(plan)
    threads = min(threads, sum([plan.work for plan in plans]) // tuning.TOGETHER_PER_THREAD)
    total: Array | None = None
    if threads < 2:
        for plan in plans:
            plan.do(0, 1)
        return results, None if summed is None else sum_of_rows(summed)

    def part(k: int) -> None:
        nonlocal total
        if k == 0 and summed is not None:
            # By the thread that called, because the others begin later.
            total = sum_of_rows(summed)
        for plan in plans:
            plan.do(k, threads)

    share(part, range(threads))
    return results, total


def _planned(a: Array, b: Array) -> Any:
    """Return a b as a product that is to be formed by compiled code; None: in another way."""
    turned_a, turned_b = not a.flags.c_contiguous, not b.flags.c_contiguous
    if turned_a and turned_b:
        return None
    gemm = _gemm_for(a, b)
    if gemm is None or (not (turned_a or turned_b) and gemm.sums_parts(*a.shape)):
        return None
    c = empty((len(a), b.shape[1]), a.dtype)
    return gemm.planned(
        a.T if turned_a else a, b.T if turned_b else b, c, turned_a=turned_a, turned_b=turned_b
    )


def sum_of_rows(a: Array) -> Array:
    """Return the sum of a matrix's rows."""
    if a.dtype not in DTYPES:
        return np.add.reduce(a, axis=0)
    # A product reads the matrix once, row by row.  NumPy's sum goes down its columns.
    count = len(a)
    ones = _ones(count, a.dtype) if count <= _MOST_ONES else np.ones((1, count), a.dtype)
    return product(ones, a)[0]


_MOST_ONES = 4096
"""Entries of the longest row of ones that is kept."""


@lru_cache(maxsize=64)
def _ones(count: int, dtype: DType) -> Array:
    """Return a row of ones, which nobody may write to."""
    row = np.ones((1, count), dtype)
    row.setflags(write=False)
    return row


def compiled_module(name: str, *arrays: Array) -> Any:
    """Return a module of `xprnn.backend.numba`, or None where it can't or should not be used.

    It can't be used without Numba, with another lowering asked for, and unless all arrays are
    aligned and share dtype float32 or float64.
    """
    dtype = arrays[0].dtype
    if dtype not in DTYPES or lowering_word() not in ("on", "numba") or why_no_numba():
        return None
    for a in arrays:
        if a.dtype != dtype or not a.flags.aligned:
            return None
    return _module(name)


@cache
def _module(name: str) -> Any:
    # To ask importlib for a module that is loaded takes a microsecond.
    return importlib.import_module(f"xprnn.backend.numba.{name}")
