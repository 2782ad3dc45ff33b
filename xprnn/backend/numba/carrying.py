"""A linear recurrence over the steps of an array, from the last to the first."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.numba.build import build_closure


def _carry_for() -> Callable[..., None]:
    """Return ``carry(factors, a)``, of (T - 1, K) and (T, K): a(t) += factors(t) a(t+1)."""

    def carry(factors, a):
        for t in range(factors.shape[0] - 1, -1, -1):
            factor, total, later = factors[t], a[t], a[t + 1]
            for k in range(factor.shape[0]):
                total[k] += factor[k] * later[k]

    return carry


@cache
def _compiled(dtype: Any) -> Callable[..., None]:
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    factors, a = types.Array(entry, 2, "C", readonly=True), types.Array(entry, 2, "C")
    call: Callable[..., None] = build_closure(_carry_for(), types.void(factors, a)).call
    return call


def carry_back(factors: HostArray, a: HostArray) -> None:
    """Add in place ``factors(t) a(t+1)`` to a(t), for every t from the last but one on back.

    Parameters
    ----------
    factors : array, (T - 1, ...)
    a : array, (T, ...)
        Both C-contiguous.
    """
    steps = len(a)
    _compiled(a.dtype)(factors.reshape(steps - 1, -1), a.reshape(steps, -1))
