"""How many threads BLAS may use on the host."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

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
