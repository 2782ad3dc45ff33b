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


_LOWEST, _ZERO = np.finfo(np.float32).min, np.float32(0)
_INTEGER, _FLOAT = np.int32, np.float32
_LEAST, _MOST = np.int32(-(2**31)), np.int32(2**31 - 1)


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, forceinline=True)
def exponentials(x):
    """Set x to exp(x - m); return m, its largest entry, and the sum of the new ones.

    The largest entry is found among the entries' bits, as integers: a compiler makes vector
    instructions of that, but not of a maximum of floats, which may be NaN.  Those of numbers at
    zero and above are in the numbers' order, those of numbers below zero in the opposite order.
    The order of the sum is the compiler's, too.

    If all entries are -∞, m is the lowest finite number, and the sum is zero: so a row may consist
    of several x's.
    """
    bits, highest, lowest = x.view(_INTEGER), _LEAST, _MOST
    for j in range(bits.shape[0]):
        highest = bits[j] if bits[j] > highest else highest
        lowest = bits[j] if bits[j] < lowest else lowest
    top = _INTEGER(highest if highest >= 0 else lowest).view(_FLOAT)
    top = _LOWEST if top < _LOWEST else top
    total = _ZERO
    for j in range(x.shape[0]):
        e = exp32(x[j] - top)
        x[j] = e
        total += e
    return top, total


def _softmax_for() -> Callable[..., None]:
    """Return ``softmax(a, m, Z, scale, columns, less, picked, first, last)``, for float32.

    For rows first to last, it sets m to the largest entry of each row, a to exp(a - m), and Z to
    the sum of that; the entry that the row's column had at first goes to picked.  Unless scale is
    (0,), it then multiplies the row by scale / Z and subtracts less in that column.
    """

    def softmax(a, m, Z, scale, columns, less, picked, first, last):
        V = a.shape[1]
        for r in range(first, last):
            x = a[r]
            picked[r] = x[columns[r]]
            m[r], Z[r] = exponentials(x)
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
