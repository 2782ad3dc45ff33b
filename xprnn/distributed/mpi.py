"""Ranks that an MPI launcher has started, through mpi4py."""

import atexit
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.distributed.errors import LostRankError, mark_agreed

INSTALL = 'pip install "xprnn[mpi]" (mpi4py, and MPICH with its mpiexec)'
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables in which launchers say how many processes they have started."""
LIMIT = 600.0
"""Seconds that a rank waits for the others."""
SLOW = 30.0
"""Seconds after which a rank that the others wait for is named."""
BUSY, YIELDING = 2e-5, 5e-3
"""Seconds for which a waiting rank only asks; then for which it lets other processes run.

With more ranks than cores, the one that is waited for may need the core.
"""
NAP = 2e-4
LONG = 1 << 16
"""Bytes from which on a gathered array is moved without sleep, once all ranks are there."""
NOTE = 7919
"""The tag of the messages with which waiting ranks tell each other that they are alive."""

_log = logging.getLogger("xprnn")


class MPI:
    """The processes that ``mpiexec`` or ``srun`` has started together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        None: all processes.  It is duplicated, so other messages don't get in the way.
    limit : float
        Seconds that a rank waits for the others before it gives up.
    overlap : bool
        Add up large gradients of the upper layers while those of the lower ones are computed.  The
        bits are the same either way.  It was slower wherever it was measured, within one machine;
        see docs/distributed.md.
    compress : {"float16"}, optional
        Send the dense gradients of a training as float16, half the bytes; what rounding takes away
        is added to the next update's.  See `xprnn.distributed.compression`.

    Attributes
    ----------
    names : list of str
        Each rank in words, as `describe` gives it.

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is not installed.
    RuntimeError
        If the launcher has started more processes than the library knows of: it is of another MPI.

    Notes
    -----
    Arrays of a GPU go through the host's memory.
    """

    def __init__(
        self,
        comm: Any = None,
        *,
        limit: float = LIMIT,
        overlap: bool = False,
        compress: str | None = None,
    ) -> None:
        self.limit = checks.number("limit", limit, open_=True)
        self.compress = compress
        if compress is not None:
            checks.choice("compress", compress, ("float16",))
        mpi = library()
        if comm is None:
            check_launcher(mpi.COMM_WORLD.size, os.environ, mpi.Get_library_version())
        self._mpi, self._comm = mpi, (mpi.COMM_WORLD if comm is None else comm).Dup()
        # Sums that were started run beside other calls, so they need an order of their own.
        self._sums = self._comm.Dup()
        self.rank, self.size = int(self._comm.rank), int(self._comm.size)
        self._process, self._calls = os.getpid(), 0
        self._sent: list[tuple[HostArray, Any]] = []
        names = self._comm.allgather(f"rank {self.rank} (pid {os.getpid()} on {_host()})")
        self.names: list[str] = names
        here = sum(name.endswith(f" on {_host()})") for name in names)
        self._crowded = here > _cores()
        self.overlap = checks.boolean("overlap", overlap)

    def all_reduce(self, arrays: Sequence[HostArray]) -> None:
        self._check()
        if self._crowded:
            for array in arrays:
                self.move(self._comm.Iallreduce(self._mpi.IN_PLACE, array))
            return
        for array in arrays:
            self._comm.Allreduce(self._mpi.IN_PLACE, array)

    def start_all_reduce(self, arrays: Sequence[HostArray]) -> "StartedSums":
        self._check()
        return StartedSums(self, [self._sums.Iallreduce(self._mpi.IN_PLACE, a) for a in arrays])

    def gather(self, array: HostArray, counts: Sequence[int]) -> HostArray:
        self._check()
        whole = np.empty((sum(counts), *array.shape[1:]), dtype=array.dtype)
        each = int(np.prod(array.shape[1:], dtype=int))
        sizes = [count * each for count in counts]
        if whole.nbytes > LONG:
            self.wait_for(self._comm.Ibarrier())
            self.move(self._comm.Iallgatherv(array, [whole, sizes]))
            return whole
        # Also while another rank is late: only this wait has a limit, and all begins with it.
        self.wait_for(self._comm.Iallgatherv(array, [whole, sizes]))
        return whole

    def exchange(self, array: HostArray, counts: Sequence[int]) -> HostArray:
        self._check()
        mine, rest = counts[self.rank], array.shape[1:]
        found: HostArray = np.empty((self.size, mine, *rest), dtype=array.dtype)
        each = int(np.prod(rest, dtype=int))
        sent, received = [count * each for count in counts], [mine * each] * self.size
        self.wait_for(self._comm.Ibarrier())
        self.move(self._comm.Ialltoallv([array, sent], [found, received]))
        return found

    def broadcast(self, array: HostArray) -> None:
        self._check()
        self.wait_for(self._comm.Ibcast(array))

    def barrier(self) -> None:
        self._check()
        self.wait_for(self._comm.Ibarrier())

    def describe(self) -> str:
        return self.names[self.rank]

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked after MPI had started, and can't use it: expected a "
                'process that is spawned, as multiprocessing.get_context("spawn") makes them'
            )

    def move(self, request: Any) -> None:
        """Wait for a request of much data, in which all ranks take part by now.

        MPI moves data while it is called, so there is no sleep in between.
        """
        if not self._crowded:
            request.Wait()
            return
        while not request.Test():
            # A blocking call would keep the core that another rank needs.
            time.sleep(0)

    def wait_for(self, request: Any) -> None:
        """Wait for a request; name the ranks that keep the others waiting."""
        self._calls += 1
        start, named = time.perf_counter(), False
        while not request.Test():
            waited = time.perf_counter() - start
            if waited > BUSY or self._crowded:
                time.sleep(0 if waited < YIELDING else NAP)
            if waited > min(SLOW, self.limit / 2) and not named:
                named = True
                late = self._late()
                if late and self.rank == min(set(range(self.size)) - set(late)):
                    _log.warning(
                        "after %.0f s still waiting for %s", waited, ", ".join(late.values())
                    )
            if waited > self.limit:
                late = self._late()
                atexit.register(self._comm.Abort, 1)  # or the end would wait for them, too
                who = ", ".join(late.values()) or "another rank"
                error = LostRankError(
                    f"{who} did not answer for {self.limit:g} s: it has ended, or takes longer "
                    "than MPI(limit=...); a training with a checkpoint goes on from it when it is "
                    "started again to resume"
                )
                mark_agreed(error)  # there is nobody to tell
                raise error

    def _late(self) -> dict[int, str]:
        """Return the ranks that don't wait at the same call, with their names."""
        note = np.array([self._calls])
        others = [rank for rank in range(self.size) if rank != self.rank]
        for rank in others:
            self._sent.append((note, self._comm.Isend(note, rank, tag=NOTE)))
        here, until = {self.rank}, time.perf_counter() + min(5.0, self.limit / 4)
        while len(here) < self.size and time.perf_counter() < until:
            if self._comm.Iprobe(tag=NOTE):
                status, found = self._mpi.Status(), np.array([0])
                self._comm.Recv(found, tag=NOTE, status=status)
                # Older notes are of an earlier wait.
                if int(found[0]) == self._calls:
                    here.add(status.Get_source())
            else:
                time.sleep(NAP)
        return {rank: self.names[rank] for rank in others if rank not in here}


class StartedSums:
    """Sums of `MPI` that have been started."""

    def __init__(self, communicator: MPI, requests: list[Any]) -> None:
        self._communicator, self._requests = communicator, requests

    def poke(self) -> None:
        for request in self._requests:
            request.Test()

    def wait(self) -> None:
        for request in self._requests:
            self._communicator.move(request)


def library() -> Any:
    """Import mpi4py, which starts MPI.

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is not installed; the message says what to install.
    """
    try:
        from mpi4py import MPI as mpi  # noqa: N811
    except ImportError as error:
        raise ImportError(f"MPI needs mpi4py ({error}): {INSTALL}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ImportError(f"mpi4py finds no MPI library ({reason}): {INSTALL}") from error
    return mpi


def check_launcher(size: int, variables: Mapping[str, str], version: str) -> None:
    """Refuse to train as many processes that don't know of each other.

    Raises
    ------
    RuntimeError
        If the launcher has started more processes than there are ranks.
    """
    for name in LAUNCHERS:
        started = variables.get(name, "")
        if started.isdecimal() and int(started) > size:
            raise RuntimeError(
                f"the launcher has started {started} processes ({name}), but MPI knows {size}: the "
                f"launcher and the library, {version.splitlines()[0].strip()}, are of different "
                "kinds; expected the mpiexec that belongs to the library, or srun --mpi=pmi2 or "
                "pmix, as the library was built for"
            )


def _host() -> str:
    return socket.gethostname()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
