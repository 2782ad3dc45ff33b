"""Products of NumPy's matrices: by compiled code, by one thread of a BLAS, or by several."""

import importlib
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.host.threads import can_limit_blas, compute_threads, one_blas_thread, share
from xprnn.backend.numba import lowering_word, numba_missing
from xprnn.backend.types import Array

ALONE, ALONE_WITH_VECTOR, SHARED = 2**18, 2**13, 15 * 10**6
"""Multiplications that BLAS leaves to one thread anyway, and those that are worth two threads.

Where it does not, its second thread spins for milliseconds after the product, on the core that one
of ours would like to have.
"""

COMPILED, LATER = 2**17, 2**20
"""Multiplications from which on a compiled product may be faster than OpenBLAS 0.3.31: a bᵀ, and
the two others."""
DEEP, MANY = 256, 256
"""a bᵀ: with more rows than so many it is slower from so long sums on."""
SOME, LARGE, NARROW = 32, 2**17, 64
"""a b: it is faster with up to so many rows where b has so many entries, and with any number of
rows where b is so narrow."""
LONG = 1024
"""aᵀ b, b narrow: it is slower from such rows of a on."""
SIDE = 16
"""The least that sizes are, but for the number of rows of a, and the sums in a bᵀ."""
DTYPES = (np.dtype("float32"), np.dtype("float64"))


def product(a: Array, b: Array, row: Array | None = None) -> Array:
    """Return a b, with a row added to each of its own if there is one."""
    if len(a) * b.size >= COMPILED:
        compiled = _by_compiled_code(a, b, row)
        if compiled is not None:
            return compiled
    c = _by_blas(a, b)
    if row is not None:
        c += row
    return c


def _by_blas(a: Array, b: Array) -> Array:
    """Return a b, by a BLAS unless it is an outer product."""
    (rows, depth), columns = a.shape, b.shape[1]
    if depth == 1:
        return a * b
    work = rows * depth * columns
    alone = ALONE if min(rows, columns) > 1 else ALONE_WITH_VECTOR
    if work < alone or compute_threads() == 1 or not can_limit_blas():
        return a @ b
    with one_blas_thread:
        threads = min(compute_threads(), 2 * work // SHARED)
        if threads < 2:
            return a @ b
        c = np.empty((rows, columns), np.result_type(a, b))
        across = columns > rows
        length = columns if across else rows
        bounds = [length * k // threads for k in range(threads + 1)]

        def part(k: int) -> None:
            mine = slice(bounds[k], bounds[k + 1])
            if across:
                np.matmul(a, b[:, mine], out=c[:, mine])
            else:
                np.matmul(a[mine], b, out=c[mine])

        share(part, range(threads))
        return c


def _by_compiled_code(a: Array, b: Array, row: Array | None) -> Array | None:
    """Return a b + row by compiled code, where that is faster than a BLAS; None where it is not."""
    (n, depth), columns = a.shape, b.shape[1]
    work = n * depth * columns
    turned_a, turned_b = not a.flags.c_contiguous, not b.flags.c_contiguous
    if turned_a and turned_b:
        if row is not None or not (a.flags.f_contiguous and b.flags.f_contiguous):
            return None
        product = _by_compiled_code(b.T, a.T, None)
        return None if product is None else product.T
    if turned_a:
        name = "tn"
        suits = a.flags.f_contiguous and work >= LATER
        suits = suits and 2 * SIDE <= columns <= NARROW and 4 * SIDE <= n < LONG and depth >= SIDE
    elif turned_b:
        name = "nt"
        suits = b.flags.f_contiguous and n > 2 and (depth < DEEP or n <= MANY)
        suits = suits and columns >= 4 * SIDE
    else:
        name = "nn"
        few = 1 < n <= SOME and b.size >= LARGE
        suits = few or (n > SOME and columns <= NARROW and work >= LATER)
        suits = suits and min(depth, columns) >= SIDE
    if not suits:
        return None
    compiled = compiled_module("gemm", a, b)
    if compiled is None:
        return None
    if name == "nt":
        given = None if row is None else np.ascontiguousarray(row, a.dtype)
        by_rows: Array = compiled.multiply_nt(a, b.T, given)
        return by_rows
    found: Array = compiled.multiply_tn(a.T, b) if turned_a else compiled.multiply_nn(a, b)
    if row is not None:
        found += row
    return found


def compiled_module(name: str, *arrays: Array) -> Any:
    """Return a module of `xprnn.backend.numba`, if it takes such arrays and is of use here."""
    dtype = arrays[0].dtype
    if dtype not in DTYPES or lowering_word() not in ("on", "numba") or numba_missing():
        return None
    for a in arrays:
        if a.dtype != dtype or not a.flags.aligned:
            return None
    compiled = importlib.import_module(f"xprnn.backend.numba.{name}")
    return compiled if compiled.FASTER else None
