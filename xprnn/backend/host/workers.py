"""Threads that wait for work: the second and further ones of a computation.

To wake a sleeping thread takes 50 to 250 µs on a virtual machine, which is as long as many products
and time loops are.  A step of a network has several of them, one soon after the other, so a thread
that has done its part looks for the next one for some tens of microseconds before it sleeps
(`Spin`), and so does the thread that waits for the others to be done.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from xprnn.backend.host.arrays import np

Job = Callable[[], object]

_APART = 16
"""Entries of 8 bytes between two counters, so that they are in different cache lines."""


class Spin(Protocol):
    """Waits, for some tens of microseconds at most, without the interpreter's lock."""

    def __call__(self, address: int, count: int, /) -> object:
        """Return when the integer at an address has reached ``count``, or later than that."""
        ...


class _Worker:
    """A thread, and the place where it gets its jobs."""

    def __init__(self, number: int, spin: Spin | None) -> None:
        self.spin = spin
        self.pending = False
        self._job: Job | None = None
        self._error: BaseException | None = None
        self._count = 0
        # The locks say it for certain; the counters are for those who spin.
        self._given, self._done = threading.Lock(), threading.Lock()
        self._given.acquire()
        self._done.acquire()
        self._counters = np.zeros(2 * _APART, np.int64)
        self._at_given = self._counters.ctypes.data
        self._at_done = self._at_given + 8 * _APART
        # A daemon, so that it does not keep the process alive; `Workers.close` ends it in time.
        self.thread = threading.Thread(target=self._work, name=f"xprnn-{number}", daemon=True)
        self.thread.start()

    def begin(self, job: Job | None) -> None:
        """Let the thread do a job; None: end."""
        self._job, self.pending = job, True
        self._count += 1
        self._given.release()
        self._counters[0] = self._count

    def end(self) -> BaseException | None:
        """Wait until the job is done; return its exception."""
        if self.spin is not None:
            self.spin(self._at_done, self._count)
        self._done.acquire()
        return self._ended()

    def ready(self) -> bool:
        """Whether the thread has nothing to do.  After an interrupt it may still be at work."""
        if self.pending and self._done.acquire(blocking=False):
            self._ended()
        return not self.pending

    def _ended(self) -> BaseException | None:
        self.pending = False
        error, self._error = self._error, None
        return error

    def _work(self) -> None:
        count = 0
        while True:
            count += 1
            if self.spin is not None:
                self.spin(self._at_given, count)
            self._given.acquire()
            job, self._job = self._job, None
            if job is None:
                return
            try:
                job()
            except BaseException as error:
                self._error = error
            # Before it is done: a job refers to arrays, whose memory may be wanted at once.
            del job
            self._done.release()
            self._counters[_APART] = count


class Trials:
    """Whether several threads have been faster lately than one would have been.

    Where other processes have the cores, a second thread comes late, or takes the first one's core
    in order to spin there: handing half of a small network's loops over made a step take 1.4 times
    as long.  So the time is measured that the parts took together, and compared to what they would
    have taken one after the other, by the processor time of the first.  After a second loss in a
    row the next call is left to one thread, then the next two, four, and so on.
    """

    MOST = 64
    """Calls that are left to one thread, at most, before several are tried again."""

    def __init__(self) -> None:
        self.losses = self.skipped = 0

    def wanted(self) -> bool:
        """Whether to try it this time."""
        # Python threads may lose one of these updates; then one more call is tried, or one less.
        if self.skipped:
            self.skipped -= 1
            return False
        return True

    def tell(self, together: float, one: float, parts: int) -> None:
        """Take note of the time that the parts took together, and of the work in one of them."""
        if together < one * parts:
            self.losses = 0
        else:
            self.losses += 1
            self.skipped = min(self.MOST, 2 ** min(self.losses, 30) // 4)


class Workers:
    """The process's threads for computations."""

    def __init__(self) -> None:
        self.spin: Spin | None = None
        self.trials = Trials()
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._closed = False

    def run(self, jobs: Sequence[Job]) -> bool:
        """Call all jobs at the same time, the first in the calling thread, and wait for all.

        Returns
        -------
        bool
            False, with nothing done, if there are not enough threads: because none can be started,
            or because another Python thread's jobs have them.

        Raises
        ------
        BaseException
            What a job has raised: the calling thread's first.
        """
        if len(jobs) == 1 or not self._lock.acquire(blocking=False):
            return False
        try:
            return self._run(jobs)
        finally:
            self._lock.release()

    def run_if_faster(self, jobs: Sequence[Job]) -> bool:
        """Do the same as `run` with jobs that need not run at the same time, if it pays.

        All of them should have about as much to do.  It returns False, too, where that has taken
        longer lately than one job after the other would have (see `Trials`).
        """
        if not self.trials.wanted():
            return False
        work = 0.0

        def first() -> None:
            nonlocal work
            started = time.thread_time()
            jobs[0]()
            work = time.thread_time() - started

        size, started = len(self._workers), time.perf_counter()
        if not self.run([first, *jobs[1:]]):
            return False
        # To start a thread for the first time says nothing about the next time.
        if len(self._workers) == size:
            self.trials.tell(time.perf_counter() - started, work, len(jobs))
        return True

    def _run(self, jobs: Sequence[Job]) -> bool:
        workers = self._ready(len(jobs) - 1)
        if workers is None:
            return False
        for worker, job in zip(workers, jobs[1:], strict=True):
            worker.begin(job)
        jobs[0]()
        errors = [worker.end() for worker in workers]
        for error in errors:
            if error is not None:
                raise error
        return True

    def _ready(self, count: int) -> list[_Worker] | None:
        """Return workers that have nothing to do; None if there are not enough."""
        ready = [worker for worker in self._workers if worker.ready()]
        while len(ready) < count:
            if self._closed or len(self._workers) > 4 * count:
                return None
            try:
                worker = _Worker(len(self._workers) + 1, self.spin)
            except RuntimeError:  # no more can be started, as at the end of a process
                return None
            self._workers.append(worker)
            ready.append(worker)
        return ready[:count]

    @property
    def size(self) -> int:
        """The number of threads."""
        return len(self._workers)

    def use_spin(self, spin: Spin) -> None:
        """Let the threads spin from now on."""
        self.spin = spin
        for worker in self._workers:
            worker.spin = spin

    def close(self) -> None:
        """End the threads, at the end of the process."""
        self._closed = True
        for worker in self._workers:
            if worker.ready():
                worker.begin(None)
                worker.thread.join()
        self._workers = []

    def begin_anew(self) -> None:
        """Forget the threads, in a forked process, which has only the one that forked."""
        self._lock = threading.Lock()
        self._workers = []


WORKERS = Workers()

atexit.register(WORKERS.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS.begin_anew)
