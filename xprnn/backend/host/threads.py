"""How many threads computations on the host may use, and how they share products.

The threads of a BLAS spin while they wait for each other.  Where anything else wants a core, one of
them waits a time slice long for another one that does not run: products of 0.4 ms were seen to take
4 to 16, and a layer of 10 ms took 160.  So small products are left to one thread, and large ones
are cut into parts, each a product for one thread that meets no other before its end.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_limit: ContextVar[int | None] = ContextVar("limit", default=None)


def compute_threads() -> int:
    """Return how many threads a computation on the host may use.

    What `blas_threads` says inside its ``with`` block; otherwise as many as there are cores for
    this process, or fewer where an environment variable for BLAS says so when this is first asked.
    """
    limit = _limit.get()
    return _allowed() if limit is None else limit


@cache
def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    for name in VARIABLES:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            count = min(count, int(text))
    return count


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Limit BLAS to so many threads, inside a ``with`` block.

    The products of a small network are too short to be shared: OpenBLAS gains nothing from a second
    thread, and where another process wants a core its threads wait for each other a time slice long
    (products of 0.4 ms were seen to take 4 to 16).  Without the package threadpoolctl, which the
    extra ``cli`` brings, BLAS is not limited; compiled time loops are (see `compute_threads`).
    """
    token = _limit.set(count)
    try:
        with _blas_limit(count):
            yield
    finally:
        _limit.reset(token)


def _blas_limit(count: int) -> AbstractContextManager[object]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=count, user_api="blas")
    return limits


class _OneThread:
    """A ``with`` block in which BLAS has one thread, at a microsecond's cost.

    The setting is the process's, and whoever makes it takes it back: a second Python thread that
    enters meanwhile leaves it alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._before: list[int] = []

    def __enter__(self) -> None:
        if self._owner is None and self._lock.acquire(blocking=False):
            self._owner = threading.get_ident()
            self._before = [blas.get() for blas in _libraries()]
            for blas in _libraries():
                blas.set(1)

    def __exit__(self, *_: object) -> None:
        if self._owner == threading.get_ident():
            for blas, count in zip(_libraries(), self._before, strict=True):
                blas.set(count)
            self._owner = None
            self._lock.release()


one_blas_thread = _OneThread()


class _Blas(NamedTuple):
    """What reads and sets the number of threads of a BLAS."""

    get: Callable[[], int]
    set: Callable[[int], object]


@cache
def _libraries() -> list[_Blas]:
    """Return every BLAS that is loaded when this is first asked; none without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    return [
        _blas(found) for found in ThreadpoolController().select(user_api="blas").lib_controllers
    ]


def _blas(found: Any) -> _Blas:
    if found.internal_api == "openblas" and found.threading_layer == "pthreads":
        # The functions themselves take a tenth of what threadpoolctl takes to look them up.
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            name = f"{prefix}openblas_{{}}_num_threads{suffix}"
            if hasattr(found.dynlib, name.format("set")):
                return _Blas(*(getattr(found.dynlib, name.format(word)) for word in _Blas._fields))
    return _Blas(found.get_num_threads, found.set_num_threads)


def can_limit_blas() -> bool:
    """Whether `one_blas_thread` does anything."""
    return bool(_libraries())


def share(work: Callable[[int], object], parts: Sequence[int]) -> None:
    """Call ``work(part)`` for every part, each in a thread of its own, and wait for all.

    Where no thread can be had, as at the end of a process, this one does it all.
    """
    first, *others = parts
    waiting = []
    for part in others:
        try:
            waiting.append(_pool(len(others)).submit(work, part))
        except RuntimeError:
            work(part)
    work(first)
    for done in waiting:
        done.result()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "xprnn-products")


if hasattr(os, "register_at_fork"):
    # After a fork only the thread that forked is there.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def blas() -> list[dict[str, Any]]:
    """Return name, version and threads of every BLAS library that is loaded.

    Without threadpoolctl, which knows them at run time, it is what NumPy was built with, and the
    threads are "unknown".
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        built: Any = np.show_config(mode="dicts")
        library = built["Build Dependencies"]["blas"]
        return [{"name": library["name"], "version": library.get("version"), "threads": "unknown"}]
    return [
        {
            "name": library["internal_api"],
            "version": library.get("version"),
            "threads": library["num_threads"],
        }
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
