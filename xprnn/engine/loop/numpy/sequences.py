"""A time loop cut by the sequences of its batch, which threads share.

Sequences need nothing of each other, so each thread goes through all steps of its own and waits for
no other before the end: NumPy lets go of the interpreter's lock within products and larger calls.

How a batch is cut depends on shapes alone, so that the bits are the same for any number of threads:
a BLAS may round an entry differently in a product of another shape.
"""

from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from typing import TypeVar

from xprnn.backend.host import tuning
from xprnn.backend.host.threads import compute_threads, share

ResultT = TypeVar("ResultT")


@lru_cache(maxsize=256)
def parts(batch: int, entries: int, itemsize: int) -> tuple[slice, ...]:
    """Return the sequences of each part; one part where cutting doesn't pay.

    Parameters
    ----------
    batch : int
        Sequences.
    entries : int
        Of the recurrent weights.
    itemsize : int
        Bytes of each of them.
    """
    count = 1
    if (
        batch * entries >= tuning.LOOP_SHARED
        and batch >= 2 * tuning.LOOP_ROWS
        and entries * itemsize <= tuning.LOOP_WEIGHTS
    ):
        count = 2
        while batch >= 2 * count * tuning.LOOP_ROWS:
            count *= 2
    return tuple([slice(batch * k // count, batch * (k + 1) // count) for k in range(count)])


def of_each(work: Callable[[slice], ResultT], cut: tuple[slice, ...]) -> list[ResultT]:
    """Return ``work(sequences)`` of every part, shared by threads."""
    threads = min(len(cut), compute_threads())
    if threads == 1:
        return [work(sequences) for sequences in cut]
    found: dict[int, list[ResultT]] = {}
    # Each with the caller's settings, such as what NumPy does about an overflow.
    contexts = [copy_context() for _ in range(threads)]

    def compute(thread: int) -> None:
        mine = cut[len(cut) * thread // threads : len(cut) * (thread + 1) // threads]
        found[thread] = contexts[thread].run(lambda: [work(sequences) for sequences in mine])

    share(compute, range(threads))
    return [result for thread in range(threads) for result in found[thread]]
