"""The parts of a softmax, in passes over each row: its maximum; exponentials and sum; the scale."""

from collections.abc import Callable
from functools import cache

from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.functions import exp32

_NONE = np.empty(0, np.float32)
"""What stands for no gradient."""


def _softmax_for() -> Callable[..., None]:
    """Return ``softmax(a, m, Z, scale, columns, less, picked, first, last)``, for float32.

    For rows first to last, it sets m to the largest entry of each row, a to exp(a - m), and Z to
    the sum of that; the entry that the row's column had at first goes to picked.  Unless scale is
    (0,), it then multiplies the row by scale / Z and subtracts less in that column.

    The maximum and the sum are formed from LANES partial ones, which the compiler keeps in vectors.
    """
    empty, entry, LANES = np.empty, np.float32, tuning.SOFTMAX_ACCUMULATORS
    lowest, zero = np.float32(-np.inf), np.float32(0)

    def softmax(a, m, Z, scale, columns, less, picked, first, last):
        V = a.shape[1]
        whole = V // LANES * LANES
        largest, sums = empty(LANES, entry), empty(LANES, entry)
        for r in range(first, last):
            x = a[r]
            picked[r] = x[columns[r]]
            for k in range(LANES):
                largest[k], sums[k] = lowest, zero
            for j in range(0, whole, LANES):
                for k in range(LANES):
                    largest[k] = x[j + k] if x[j + k] > largest[k] else largest[k]
            top = lowest
            for k in range(LANES):
                top = largest[k] if largest[k] > top else top
            for j in range(whole, V):
                top = x[j] if x[j] > top else top
            for j in range(0, whole, LANES):
                for k in range(LANES):
                    e = exp32(x[j + k] - top)
                    x[j + k] = e
                    sums[k] += e
            total = zero
            for j in range(whole, V):
                x[j] = exp32(x[j] - top)
                total += x[j]
            for k in range(LANES):
                total += sums[k]
            m[r], Z[r] = top, total
            if scale.shape[0] > 0:
                factor = scale[r] / total
                for j in range(V):
                    x[j] *= factor
                x[columns[r]] -= less[r]

    return softmax


@cache
def _compiled() -> Callable[..., None]:
    rows, row = types.float32[:, ::1], types.float32[::1]
    given = types.Array(types.float32, 1, "C", readonly=True)
    columns = types.Array(types.intp, 1, "C", readonly=True)
    bounds = types.intp, types.intp
    signature = types.void(rows, row, row, given, columns, given, row, *bounds)
    call: Callable[..., None] = build_closure(_softmax_for(), signature).call
    return call


def softmax_parts(a: HostArray) -> tuple[HostArray, HostArray]:
    """Set a (N, V) of float32 to exp(a - m); return m (N,), its rows' maxima, and Z (N,), the sums
    of its new rows.
    """
    m, Z = np.empty(len(a), a.dtype), np.empty(len(a), a.dtype)
    _by_rows(a, m, Z, _NONE, np.zeros(len(a), np.intp), _NONE, np.empty_like(m))
    return m, Z


def softmax_gradient(
    a: HostArray, columns: HostArray, scale: HostArray, less: HostArray
) -> tuple[HostArray, HostArray, HostArray]:
    """Set a (N, V) of float32 to exp(a - m) scale / Z, less a number in one column of each row.

    Parameters
    ----------
    columns : array of numpy.intp, (N,)
    scale, less : array, (N,)

    Returns
    -------
    m, Z, picked : array, (N,)
        Those of `softmax_parts`, and the entries that a had in the columns.
    """
    m, Z, picked = np.empty((3, len(a)), a.dtype)
    _by_rows(a, m, Z, scale, columns, less, picked)
    return m, Z, picked


def _by_rows(a: HostArray, *rest: HostArray) -> None:
    """Call the compiled function for all rows, in several threads if there is enough to do."""
    softmax, count = _compiled(), len(a)
    threads = min(compute_threads(), a.size // tuning.SOFTMAX_PER_THREAD, count)
    if threads < 2:
        softmax(a, *rest, 0, count)
    else:
        bounds = [count * k // threads for k in range(threads + 1)]
        share(lambda k: softmax(a, *rest, bounds[k], bounds[k + 1]), range(threads))
