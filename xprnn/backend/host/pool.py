"""Memory for large host arrays that is kept from one array to the next.

A C library gives the memory of a large array back to the system as soon as the array is freed, and
the next array gets fresh memory, zeroed page by page as it is first written to.  A training step
frees its tape and makes an equal one in the next step; fetching those pages took half of the time
of an LSTM's step.  So `empty` takes memory from a pool of blocks, each a mapping of its own, and
the process's allocator stays as it is.

A block is never given back by anybody: it is idle when no array refers to it any more.  Every view
of an array refers to the object that owns its memory, here the block's ``memory``, so the number of
references to that object says whether the block is in use.  So nothing has to run when an array is
freed, and an array that a user keeps just keeps its block.  It also makes a lock unnecessary, and
with it the question what becomes of a lock when a process forks or Ctrl-C comes: a thread makes its
array first and then counts.  If two threads were to take the same block, at least one of them would
count both arrays, and give its own up.
"""

import math
import mmap
import os
import sys
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.limits import memory as memory_of_the_system
from xprnn.backend.types import DType

VARIABLE = "XPRNN_POOL"
"""The environment variable with the most memory that is kept, in MiB; 0: none."""

SMALLEST = 2**16
"""Bytes.  Smaller arrays are left to the C library, which keeps their memory by itself."""
_SHARE_OF_MEMORY = 4
"""One part in this many of the system's memory is the most that is kept, unless `VARIABLE` says."""
_WITHOUT_A_SIZE = 2**30
"""Bytes: the most that is kept where the system's memory is unknown."""
_SPARE = 4
"""A block may be larger than the array that takes it by one part in this many."""
_PATIENCE = 1024
"""A block that was idle while this many arrays were made goes back to the system."""
_PAGE = mmap.PAGESIZE
_LINE = 64
"""Bytes of a cache line."""
_HUGE = 2**22
"""Bytes of a block from which on the system is asked for huge pages, as NumPy does."""
_COUNTS_REFERENCES = (
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
)


class Kept(NamedTuple):
    """The memory in a pool.

    Attributes
    ----------
    blocks : int
    size : int
        Bytes of all blocks.
    idle : int
        Bytes of those that no array refers to.
    """

    blocks: int
    size: int
    idle: int


class _Block:
    """A mapping, and where in it arrays begin."""

    __slots__ = ("memory", "size", "start", "used")

    def __init__(self, size: int, start: int) -> None:
        if os.name == "posix":
            # Private: a forked process must not write into its parent's arrays.
            mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            mapping = mmap.mmap(-1, size)
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                mapping.madvise(mmap.MADV_HUGEPAGE)
        self.memory: HostArray = np.frombuffer(mapping, np.uint8)
        self.size = size
        self.start = start
        self.used = 0

    def references(self) -> int:
        """Return the number of references to the memory, in a way that always counts the same."""
        return sys.getrefcount(self.memory)


class Pool:
    """A pool of memory for arrays.

    Parameters
    ----------
    limit : int
        The most bytes in all its blocks together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # In the order of their sizes.  Replaced as a whole, never changed: where two threads
        # replace it at the same time, a block of one may be left out, and is freed with its array.
        self._blocks: tuple[tuple[int, ...], tuple[_Block, ...]] = ((), ())
        self._arrays = 0  # made so far, by any thread; need not be exact
        self._made = 0
        self._unused = _Block(_PAGE, 0).references()

    def empty(self, shape: tuple[int, ...], dtype: DType, size: int) -> HostArray | None:
        """Return an array of ``size`` bytes; None if the limit or the system does not allow it."""
        self._arrays = now = self._arrays + 1
        if not now % _PATIENCE:
            self._drop(now - _PATIENCE)
        needed = size + _PAGE  # wherever in its first page it begins
        sizes, blocks = self._blocks
        largest, one = needed + needed // _SPARE, self._unused + 1
        for k in range(bisect_left(sizes, needed), len(sizes)):
            if sizes[k] > largest:
                break
            block = blocks[k]
            if block.references() == self._unused:
                array = np.ndarray(shape, dtype, block.memory, block.start)
                if block.references() == one:
                    block.used = now
                    return array
        return self._from_new(shape, dtype, needed)

    def _from_new(self, shape: tuple[int, ...], dtype: DType, needed: int) -> HostArray | None:
        size = -(-needed // _PAGE) * _PAGE
        held = sum(self._blocks[0])
        if held + size > self.limit:
            held -= self._drop(self._arrays, until=held + size - self.limit)
            if held + size > self.limit:
                return None
        self._made += 1
        try:
            # Arrays that begin at the same place in their pages compete for the same cache lines.
            block = _Block(size, self._made * 13 * _LINE % (_PAGE // 2))
        except (OSError, ValueError):
            return None
        block.used = self._arrays
        array = np.ndarray(shape, dtype, block.memory, block.start)
        self._replace([*self._blocks[1], block])
        return array

    def _drop(self, before: int, until: int | None = None) -> int:
        """Free idle blocks not used since an array's number, the oldest first; return the bytes.

        With ``until``, only as many as are needed to free that many bytes.
        """
        freed, kept = 0, list(self._blocks[1])
        for block in sorted(kept, key=lambda block: block.used):
            if block.used > before or (until is not None and freed >= until):
                break
            # One more reference by the name, one by the list: neither is to the memory.
            if block.references() == self._unused:
                kept.remove(block)
                freed += block.size
        self._replace(kept)
        return freed

    def _replace(self, blocks: list[_Block]) -> None:
        blocks.sort(key=lambda block: block.size)
        self._blocks = tuple([block.size for block in blocks]), tuple(blocks)

    def release(self) -> int:
        """Forget all blocks: idle ones go back to the system at once, others with their arrays.

        Return the bytes of the idle ones.
        """
        idle, self._blocks = self.kept().idle, ((), ())
        return idle

    def kept(self) -> Kept:
        """Return how much memory is in the pool."""
        sizes, blocks = self._blocks
        idle = sum([block.size for block in blocks if block.references() == self._unused])
        return Kept(len(blocks), sum(sizes), idle)


@cache
def pool() -> Pool:
    """Return the process's pool.

    Raises
    ------
    ValueError
        If the environment variable is not a number of MiB.
    """
    if not _COUNTS_REFERENCES:
        return Pool(0)
    given = os.environ.get(VARIABLE)
    if given is not None:
        if not given.isdecimal():
            raise ValueError(f"{VARIABLE} is {given!r}: expected a number of MiB, 0 for no pool")
        return Pool(int(given) * 2**20)
    system = memory_of_the_system()
    return Pool(_WITHOUT_A_SIZE if system is None else system // _SHARE_OF_MEMORY)


def empty(shape: Sequence[int], dtype: DType) -> HostArray:
    """Return a new array, in row-major order, with arbitrary entries: ``np.empty`` from the pool.

    Parameters
    ----------
    shape : sequence of int
    dtype : numpy.dtype
        Not of objects.
    """
    size = math.prod(shape) * dtype.itemsize
    if size >= SMALLEST:
        kept = pool().empty(tuple(shape), dtype, size)
        if kept is not None:
            return kept
    return np.empty(shape, dtype)


def copied(a: HostArray, dtype: DType = None) -> HostArray:
    """Return a copy in row-major order, of NumPy's own class: ``np.array(a, dtype, order="C")``."""
    if a.nbytes < SMALLEST:
        return np.array(a, dtype, order="C")
    copy = empty(a.shape, a.dtype if dtype is None else dtype)
    copy[...] = a
    return copy


def zeros(shape: Sequence[int], dtype: DType) -> HostArray:
    """Return zeros: ``np.zeros`` from the pool."""
    if math.prod(shape) * dtype.itemsize < SMALLEST:
        return np.zeros(shape, dtype)
    made = empty(shape, dtype)
    made.fill(0)
    return made


def release_memory() -> int:
    """Give the memory that is kept for the next arrays back to the system.

    On the backend ``"numpy"``, the memory of arrays of 64 KiB and more is kept when they are freed;
    the environment variable ``XPRNN_POOL`` limits how much.  Arrays that are in use stay as they
    are, and their memory goes back to the system with them.  The same happens whenever a network is
    freed.

    Returns
    -------
    int
        The number of bytes that went back at once.
    """
    return pool().release()
