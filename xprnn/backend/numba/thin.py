"""Products with a matrix of one row or one column, for all steps in one pass.

They are what an input of one feature makes of the projection and its gradients: as many entries are
read or written as there are multiplications, so that each pass over memory counts.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.pool import empty as pooled
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import build_closure

_ROWS = 128
"""Rows whose sums are formed together, and then added to the sums of all: for less rounding."""


def _outer_for() -> Callable[..., None]:
    """Return ``outer(a, b, row, c, first, last)``: c = a b + row, in rows first to last.

    a (N,), b and row (M,); row may be (0,).
    """

    def outer(a, b, row, c, first, last):
        for i in range(first, last):
            made, factor = c[i], a[i]
            if row.shape[0] > 0:
                for j in range(made.shape[0]):
                    made[j] = factor * b[j] + row[j]
            else:
                for j in range(made.shape[0]):
                    made[j] = factor * b[j]

    return outer


def _back_for() -> Callable[..., None]:
    """Return ``back(d, x, w, dw, total, dx)``, not compiled.

    Of d (N, M), x (N,) and w (M,): dw = dᵀ x, the sum of d's rows, and dx = d w; w and dx may be
    (0,).
    """
    empty, ROWS = np.empty, _ROWS

    def back(d, x, w, dw, total, dx):
        N, M = d.shape
        part_w, part = empty(M, d.dtype), empty(M, d.dtype)
        for j in range(M):
            dw[j] = 0
            total[j] = 0
        for start in range(0, N, ROWS):
            for j in range(M):
                part_w[j] = 0
                part[j] = 0
            for i in range(start, min(N, start + ROWS)):
                row, factor = d[i], x[i]
                for j in range(M):
                    part_w[j] += row[j] * factor
                for j in range(M):
                    part[j] += row[j]
                if dx.shape[0] > 0:
                    product = factor * 0
                    for j in range(M):
                        product += row[j] * w[j]
                    dx[i] = product
            for j in range(M):
                dw[j] += part_w[j]
            for j in range(M):
                total[j] += part[j]

    return back


def _types(dtype: Any) -> tuple[Any, ...]:
    """Return the types of arrays that are read, of one axis and two, and of those written."""
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    return (
        types.Array(entry, 1, "C", readonly=True),
        types.Array(entry, 2, "C", readonly=True),
        types.Array(entry, 1, "C"),
        types.Array(entry, 2, "C"),
    )


@cache
def _outer(dtype: Any) -> Callable[..., None]:
    row, _, _, filled = _types(dtype)
    signature = types.void(row, row, row, filled, types.intp, types.intp)
    # Each operation has the bits that it has in NumPy.
    call: Callable[..., None] = build_closure(_outer_for(), signature, fastmath=()).call
    return call


@cache
def _back(dtype: Any) -> Callable[..., None]:
    row, rows, filled, _ = _types(dtype)
    signature = types.void(rows, row, row, filled, filled, filled)
    fastmath = ("contract", "reassoc")
    call: Callable[..., None] = build_closure(_back_for(), signature, fastmath=fastmath).call
    return call


def outer_product(a: HostArray, b: HostArray, row: HostArray | None) -> HostArray:
    """Return a b + row, of a (N, 1), b (1, M) and row (M,), each in row-major order."""
    c = pooled((len(a), b.shape[1]), a.dtype)
    outer, given = _outer(a.dtype), np.empty(0, a.dtype) if row is None else row
    arrays = a.ravel(), b.ravel(), given, c
    threads = c.size // tuning.OUTER_PER_THREAD
    threads = threads if threads < 2 else min(threads, compute_threads())
    if threads < 2:
        outer(*arrays, 0, len(a))
    else:
        bounds = [len(a) * k // threads for k in range(threads + 1)]
        share(lambda k: outer(*arrays, *bounds[k : k + 2]), range(threads))
    return c


def products_and_sum(
    d: HostArray, x: HostArray, w: HostArray | None
) -> tuple[HostArray, HostArray, HostArray | None]:
    """Return dᵀ x (M, 1), the sum of d's rows (M,), and d w (N, 1) or None.

    Of d (N, M), x (N, 1) and w (M, 1), each in row-major order.
    """
    (N, M), dtype = d.shape, d.dtype
    dw, total, dx = np.empty(M, dtype), np.empty(M, dtype), np.empty(0 if w is None else N, dtype)
    nothing = np.empty(0, dtype) if w is None else w.ravel()
    _back(dtype)(d, x.ravel(), nothing, dw, total, dx)
    return dw[:, None], total, None if w is None else dx[:, None]
