"""Several threads in one compiled loop, and the part of the work that each of them owns."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.threads import compute_threads
from xprnn.backend.types import Array
from xprnn.engine.loop.numba.source import GROUP

MEETING = 2e5
"""Multiplications per step and thread from which on it pays that threads meet at every step."""
START = 6e6
"""Multiplications per thread from which on it pays to start the thread."""
OWN_CACHE = 1.2e6
"""Bytes of U that fit into each core's own cache beside everything else."""
_MOST = 16
_UNUSED = np.zeros(1, np.int64)
_RELEASED = 2**62
"""A count of threads at the meeting point that is high enough to release all who wait there."""


class Share(NamedTuple):
    """What a thread owns: the units ``first`` to ``last`` - 1 of the sequences ``start`` to
    ``stop`` - 1.
    """

    first: int
    last: int
    start: int
    stop: int


class Team:
    """The process's threads for compiled loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def run(
        self,
        function: Callable[..., Any],
        shares: Sequence[Share],
        work: Callable[[Share], Array],
        arrays: Sequence[Array],
    ) -> None:
        """Call ``function(*share, team, sync, work(share), *arrays)`` for all shares at once.

        Threads that share sequences wait for each other, so all of them must be running.  If
        another loop has the threads, this one runs in the thread that called it.
        """
        first, last = shares[0], shares[-1]
        if len(shares) > 1 and self._lock.acquire(blocking=False):
            try:
                if self._together(function, shares, work, arrays):
                    return
            finally:
                self._lock.release()
        everything = Share(first.first, last.last, first.start, last.stop)
        function(*everything, 1, _UNUSED, work(everything), *arrays)

    def _together(
        self,
        function: Callable[..., Any],
        shares: Sequence[Share],
        work: Callable[[Share], Array],
        arrays: Sequence[Array],
    ) -> bool:
        """Do it in threads.  Return False, with nothing done, if threads can't be had."""
        pool, sync = self._workers(len(shares) - 1), np.zeros(1, np.int64)
        if pool is None:
            return False
        team = len(shares) if shares[0].stop == shares[1].stop else 1
        others: list[Future[Any]] = []
        try:
            for share in shares[1:]:
                job = pool.submit(function, *share, team, sync, work(share), *arrays)
                others.append(job)
            function(*shares[0], team, sync, work(shares[0]), *arrays)
        except BaseException as error:
            # An interrupt, say: the other threads would wait for this one for ever.
            sync[0] = _RELEASED
            if isinstance(error, RuntimeError) and not others:
                return False
            raise
        for other in others:
            other.result()
        return True

    def _workers(self, count: int) -> ThreadPoolExecutor | None:
        """Return a pool whose threads are all running; None if no more can be started."""
        if self._pool is None or self._size < count:
            pool, running = ThreadPoolExecutor(count, "xprnn"), threading.Barrier(count + 1)
            try:
                for _ in range(count):
                    pool.submit(running.wait)
            except RuntimeError:
                running.abort()
                pool.shutdown(wait=False)
                return None
            running.wait()
            if self._pool is not None:
                self._pool.shutdown()
            self._pool, self._size = pool, count
        return self._pool


def shares(steps: int, batch: int, U: Array, width: int) -> list[Share]:
    """Return what each thread owns.

    Groups of sequences, if U fits into each core's own cache: then no thread waits for another.
    Otherwise hidden units, in whole vectors, with the part of U that belongs to them; then the
    threads meet at every step.

    Parameters
    ----------
    steps, batch : int
    U : array, (G·H, H)
    width : int
        Number of entries of a vector.
    """
    hidden, work = U.shape[1], batch * U.size
    count = int(steps * work / START)
    if count > 1:
        count = min(count, _MOST, compute_threads())
    if count <= 1:
        return [Share(0, hidden, 0, batch)]
    groups = -(-batch // GROUP)
    if groups >= count and U.nbytes <= OWN_CACHE:
        bounds = [min(batch, groups * k // count * GROUP) for k in range(count + 1)]
        return [Share(0, hidden, *pair) for pair in itertools.pairwise(bounds)]
    blocks = -(-hidden // width)
    count = max(1, min(count, blocks, int(work / MEETING)))
    bounds = [min(hidden, blocks * k // count * width) for k in range(count + 1)]
    return [Share(*pair, 0, batch) for pair in itertools.pairwise(bounds)]


TEAM = Team()


def _forget() -> None:
    """Start anew in a forked process, which has only the thread that forked."""
    global TEAM  # noqa: PLW0603
    TEAM = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
