"""Waiting for another thread without sleeping, for a short time."""

import time
from collections.abc import Callable
from functools import cache

from numba import types

from xprnn.backend.host.arrays import np
from xprnn.backend.host.workers import WORKERS, Spin
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.intrinsics import get

SPIN = 60e-6
"""Seconds that a thread spins before it sleeps.

Decides: how long the gap between two parts of a step may be that a thread stays awake in.
Measured: see the diary, "the second thread".
"""

GRACE = 2e-6
"""Seconds that it waits after it was called.

Decides: whether the thread that has called it still holds the interpreter's lock.
Measured: see the diary, "the second thread".
"""

_TRIED = 2**15
"""Reads by which the time of one is measured."""
_TIMES = 8
"""How often it is measured.

The least counts: the first time takes three times as long on the Zen 5 (0.9 instead of 0.29 ns a
read, 2026-11-29), which would end the spinning after a third of the time.
"""


def _wait(address, count, reads, grace):
    """Read an integer until it is ``count`` or more, at most ``reads`` times; then some more."""
    while reads > 0 and get(address) < count:
        reads -= 1
    while grace > 0 and reads > 0 and get(address) > 0:
        grace -= 1


@cache
def _compiled() -> Callable[..., None]:
    call: Callable[..., None] = build_closure(_wait, types.void(*[types.intp] * 4)).call
    return call


@cache
def let_workers_spin() -> None:
    """Let the threads of `xprnn.backend.host.workers` spin, from now on."""
    WORKERS.use_spin(spin(_compiled()))


def spin(wait: Callable[..., None]) -> Spin:
    """Return what waits for `SPIN` on this machine, given the compiled function."""
    never = np.zeros(1, np.int64)

    def measured() -> float:
        started = time.perf_counter()
        wait(never.ctypes.data, 1, _TRIED, 0)
        return time.perf_counter() - started

    a_read = min(measured() for _ in range(_TIMES)) / _TRIED
    reads, grace = int(SPIN / a_read), int(GRACE / a_read)

    def waiting(address: int, count: int) -> None:
        wait(address, count, reads, grace)

    return waiting
