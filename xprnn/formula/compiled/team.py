"""Several threads in one compiled loop: each owns some hidden units, and they meet once a step."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from xprnn.backend.host import np
from xprnn.backend.threads import compute_threads
from xprnn.backend.types import Array

WORK = 1e5
"""Multiplications per step and thread that are worth a meeting."""
_MOST = 16
_RELEASED = 2**62
"""So many have come that nobody waits any longer."""


class Team:
    """The process's threads for compiled loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def run(
        self,
        function: Callable[..., Any],
        shares: Sequence[tuple[int, int]],
        arrays: Sequence[Array],
    ) -> None:
        """Call ``function(first, last, team, sync, *arrays)`` for every share, all at once.

        The shares' threads wait for each other, so all of them must run: where another loop has
        the threads already, this one does without.
        """
        if len(shares) > 1 and self._lock.acquire(blocking=False):
            try:
                if self._together(function, shares, arrays):
                    return
            finally:
                self._lock.release()
        function(shares[0][0], shares[-1][1], 1, np.zeros(1, np.int64), *arrays)

    def _together(
        self,
        function: Callable[..., Any],
        shares: Sequence[tuple[int, int]],
        arrays: Sequence[Array],
    ) -> bool:
        """Do the same in threads; False if there are none, and nothing has been done."""
        pool, sync = self._workers(len(shares) - 1), np.zeros(1, np.int64)
        if pool is None:
            return False
        others: list[Future[Any]] = []
        try:
            for share in shares[1:]:
                other = pool.submit(function, *share, len(shares), sync, *arrays)
                others.append(other)
            function(*shares[0], len(shares), sync, *arrays)
        except BaseException as error:
            # An interrupt, say: the others would wait for ever for who isn't coming.
            sync[0] = _RELEASED
            if isinstance(error, RuntimeError) and not others:
                return False
            raise
        for other in others:
            other.result()
        return True

    def _workers(self, count: int) -> ThreadPoolExecutor | None:
        """Return a pool whose threads all run; None where there can be no more threads."""
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


def shares(hidden: int, width: int, work: float) -> list[tuple[int, int]]:
    """Return which hidden units each thread owns: whole vectors of them.

    Parameters
    ----------
    hidden : int
    width : int
        Entries of a vector.
    work : float
        Multiplications per step.
    """
    blocks = -(-hidden // width)
    count = max(1, min(compute_threads(), blocks, int(work / WORK), _MOST))
    bounds = [min(hidden, blocks * k // count * width) for k in range(count + 1)]
    return list(itertools.pairwise(bounds))


TEAM = Team()


def _forget() -> None:
    """After a fork only the thread that forked is there."""
    global TEAM  # noqa: PLW0603
    TEAM = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
