"""Large products by a BLAS: cut into parts, which threads share.

The second thread of a BLAS spins while it waits, and if another process needs its core, each
product waits for a time slice: in a time loop, an LSTM of 256 units that takes 0.2 s with one
thread was seen to take 0.7 to 13 s with two.  So BLAS has one thread, and the threads of
`xprnn.backend.host.workers` compute a part each.

How a product is cut depends on its shape alone, so that the bits are the same for any number of
threads: a BLAS may round an entry differently in a product of another shape.
"""

from collections.abc import Callable

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.types import Array


def parts(rows: int, depth: int, columns: int, least: int) -> int:
    """Return into how many parts a product is cut: a power of two.

    ``least`` is the smallest number of multiplications in a part.
    """
    work, length, count = rows * depth * columns, max(rows, columns), 1
    most = min(tuning.BLAS_PARTS, length // tuning.PART_LENGTH)
    while 2 * count <= most and 2 * count * least <= work:
        count *= 2
    return count


def multiply(a: Array, b: Array, out: Array, count: int) -> None:
    """Write a b to ``out``, in ``count`` parts of its longer side, while BLAS has one thread."""
    rows, columns = out.shape
    by_columns = columns > rows
    length = columns if by_columns else rows
    threads = min(count, compute_threads())

    def compute(thread: int) -> None:
        # Each thread has neighbouring parts.
        for k in range(count * thread // threads, count * (thread + 1) // threads):
            mine = slice(length * k // count, length * (k + 1) // count)
            if by_columns:
                np.matmul(a, b[:, mine], out=out[:, mine])
            else:
                np.matmul(a[mine], b, out=out[mine])

    if threads == 1:
        compute(0)
    else:
        share(compute, range(threads))


def step_dot(rows: int, b: Array) -> Callable[[Array, Array, Array], object]:
    """Return what writes the product of a matrix of ``rows`` rows and b to a third matrix.

    It is called in every step of a time loop, within a block of
    `xprnn.backend.host.threads.step_products`.
    """
    depth, columns = b.shape
    count = parts(rows, depth, columns, tuning.STEP_PART)
    if count == 1:
        return np.dot
    return lambda a, b, out: multiply(a, b, out, count)
