"""How many threads BLAS may use on the host."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Limit BLAS to so many threads, inside a ``with`` block.

    The products of a small network are too short to be shared: OpenBLAS gains nothing from a second
    thread, and where another process wants a core its threads wait for each other a time slice long
    (products of 0.4 ms were seen to take 4 to 16).  Without the package threadpoolctl, which the
    extra ``cli`` brings, nothing is limited.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=count, user_api="blas"):
        yield
