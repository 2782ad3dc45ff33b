"""Sums of rows by index, in one pass over the rows."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.pool import empty as pooled
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.tiles import lanes


def _scatter_for() -> Callable[..., None]:
    """Return ``scatter(rows, places, sums, first, last)``.

    It adds row i of rows (N, K) to row places[i] of sums (n, K), in columns first to last.
    """

    def scatter(rows, places, sums, first, last):
        for i in range(rows.shape[0]):
            row, total = rows[i, first:last], sums[places[i], first:last]
            for k in range(row.shape[0]):
                total[k] += row[k]

    return scatter


def _signature(dtype: Any) -> Any:
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    rows, sums = types.Array(entry, 2, "C", readonly=True), types.Array(entry, 2, "C")
    places = types.Array(types.intp, 1, "C", readonly=True)
    return types.void(rows, places, sums, types.intp, types.intp)


@cache
def _compiled(dtype: Any) -> Callable[..., None]:
    call: Callable[..., None] = build_closure(_scatter_for(), _signature(dtype)).call
    return call


def sum_rows_at(rows: HostArray, places: HostArray, count: int) -> HostArray:
    """Return the sums of the rows that have the same place.

    Parameters
    ----------
    rows : array, (N, K)
    places : array of int, (N,)
        From 0 to count - 1.
    count : int

    Returns
    -------
    array, (count, K)
        Each sum is formed in the order of its rows, however many threads share the columns.
    """
    scatter, columns = _compiled(rows.dtype), rows.shape[1]
    sums = pooled((count, columns), rows.dtype)
    sums[...] = 0
    threads = min(compute_threads(), rows.size // tuning.SCATTER_PER_THREAD)
    width = lanes(rows.itemsize)
    if threads < 2:
        scatter(rows, places, sums, 0, columns)
    else:
        whole = columns // width
        bounds = [*(whole * k // threads * width for k in range(threads)), columns]
        share(lambda k: scatter(rows, places, sums, *bounds[k : k + 2]), range(threads))
    return sums
