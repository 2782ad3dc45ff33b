"""The parts of a softmax, in passes over each row: its maximum; exponentials and sum; the scale."""

from collections.abc import Callable
from functools import cache

from numba import njit, types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.functions import exp32

_NONE = np.empty(0, np.float32)
"""What stands for no gradient."""


_LANES, _LOWEST, _ZERO = tuning.SOFTMAX_ACCUMULATORS, np.finfo(np.float32).min, np.float32(0)


@njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)
def exponentials(x, largest, sums):
    """Set x to exp(x - m); return m, its largest entry, and the sum of the new ones.

    Both are formed from LANES partial ones, which the compiler keeps in vectors; ``largest`` and
    ``sums`` are memory for them.  If all entries are -∞, m is the lowest finite number, and the sum
    is zero: so a row may consist of several x's.
    """
    n = x.shape[0]
    whole = n // _LANES * _LANES
    for k in range(_LANES):
        largest[k], sums[k] = _LOWEST, _ZERO
    for j in range(0, whole, _LANES):
        for k in range(_LANES):
            largest[k] = x[j + k] if x[j + k] > largest[k] else largest[k]
    top = _LOWEST
    for k in range(_LANES):
        top = largest[k] if largest[k] > top else top
    for j in range(whole, n):
        top = x[j] if x[j] > top else top
    for j in range(0, whole, _LANES):
        for k in range(_LANES):
            e = exp32(x[j + k] - top)
            x[j + k] = e
            sums[k] += e
    total = _ZERO
    for j in range(whole, n):
        x[j] = exp32(x[j] - top)
        total += x[j]
    for k in range(_LANES):
        total += sums[k]
    return top, total


def _softmax_for() -> Callable[..., None]:
    """Return ``softmax(a, m, Z, scale, columns, less, picked, first, last)``, for float32.

    For rows first to last, it sets m to the largest entry of each row, a to exp(a - m), and Z to
    the sum of that; the entry that the row's column had at first goes to picked.  Unless scale is
    (0,), it then multiplies the row by scale / Z and subtracts less in that column.
    """
    empty, entry, LANES = np.empty, np.float32, tuning.SOFTMAX_ACCUMULATORS

    def softmax(a, m, Z, scale, columns, less, picked, first, last):
        V = a.shape[1]
        largest, sums = empty(LANES, entry), empty(LANES, entry)
        for r in range(first, last):
            x = a[r]
            picked[r] = x[columns[r]]
            m[r], Z[r] = exponentials(x, largest, sums)
            if scale.shape[0] > 0:
                factor = scale[r] / Z[r]
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
