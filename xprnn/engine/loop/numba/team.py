"""Several threads in one compiled loop, and the part of the work that each of them owns."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.threads import compute_threads
from xprnn.backend.host.workers import WORKERS
from xprnn.backend.numba.waiting import let_workers_spin
from xprnn.backend.types import Array
from xprnn.engine.loop.numba.parts import GROUP

MEETING = 2e5
"""Multiplications per step and thread from which on it pays that threads meet at every step."""
START = 6e6
"""Multiplications per thread from which on it pays to start the thread."""
OWN_CACHE = 1.2e6
"""Bytes of U that fit into each core's own cache beside everything else."""
_MOST = 16
NO_MEETING = np.zeros(1, np.int64)
"""What a thread that meets no other takes for ``sync``."""
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


def run(
    function: Callable[..., Any],
    shares: Sequence[Share],
    work: Callable[[Share], Array],
    arrays: Sequence[Array],
) -> None:
    """Call ``function(*share, team, sync, work(share), *arrays)`` for all shares at once.

    Threads that share sequences wait for each other, so all of them must be running.  If there are
    no threads to be had, or if they have been slower lately, the loop runs in the thread that
    called.
    """
    first, last = shares[0], shares[-1]
    if len(shares) > 1:
        let_workers_spin()
        sync = np.zeros(1, np.int64)
        meets = first.stop == last.stop
        team = len(shares) if meets else 1
        jobs = [partial(function, *share, team, sync, work(share), *arrays) for share in shares]
        try:
            # The time of a thread that waits for others doesn't tell how much it has to do.
            if (WORKERS.run if meets else WORKERS.run_if_faster)(jobs):
                return
        except BaseException:
            # An interrupt, say: the other threads would wait for this one for ever.
            sync[0] = _RELEASED
            raise
    everything = first
    if last is not first:
        everything = Share(first.first, last.last, first.start, last.stop)
    function(*everything, 1, NO_MEETING, work(everything), *arrays)


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
    count = _count(steps * work)
    if count <= 1 or (-(-batch // GROUP) >= count and U.nbytes <= OWN_CACHE):
        return _by_sequences(count, batch, hidden)
    blocks = -(-hidden // width)
    count = max(1, min(count, blocks, int(work / MEETING)))
    bounds = [min(hidden, blocks * k // count * width) for k in range(count + 1)]
    return [Share(*pair, 0, batch) for pair in itertools.pairwise(bounds)]


def shares_of_sequences(steps: int, batch: int, U: Array) -> list[Share]:
    """Return what each thread owns if only sequences can be shared."""
    return _by_sequences(min(_count(steps * batch * U.size), -(-batch // GROUP)), batch, U.shape[1])


def is_too_short_to_share(work: int) -> bool:
    """Whether so many multiplications get one thread, however many there may be."""
    return int(work / START) <= 1


def _count(work: int) -> int:
    """Return how many threads so many multiplications are worth."""
    count = int(work / START)
    return count if count <= 1 else min(count, _MOST, compute_threads())


def _by_sequences(count: int, batch: int, hidden: int) -> list[Share]:
    """Return the shares of ``count`` threads, in whole groups of sequences."""
    if count <= 1:
        return [Share(0, hidden, 0, batch)]
    groups = -(-batch // GROUP)
    bounds = [min(batch, groups * k // count * GROUP) for k in range(count + 1)]
    return [Share(0, hidden, *pair) for pair in itertools.pairwise(bounds)]
