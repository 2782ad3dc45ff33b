"""What is padding: the steps beyond the end of each sequence."""

from xprnn.backend import Backend, describe
from xprnn.backend.host.arrays import np
from xprnn.backend.types import Array, Namespace


def check_lengths(lengths: object, steps: int, batch: int) -> tuple[int, ...] | None:
    """Return the number of steps of every sequence; None if all are whole.

    Lengths are host integers: which step is the last must be known before anything is computed.
    """
    if lengths is None:
        return None
    if not isinstance(lengths, list | tuple | np.ndarray):
        raise TypeError(
            f"lengths is {describe(lengths)}: expected a list, a tuple or a NumPy array of ints "
            "(lengths stay on the host)"
        )
    if isinstance(lengths, np.ndarray) and lengths.ndim != 1:
        raise ValueError(f"lengths has shape {lengths.shape}: expected ({batch},)")
    # Not __index__, which would fetch a number from a device.
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in lengths):
        raise TypeError(f"lengths is {lengths!r}: expected integers")
    numbers = tuple(int(n) for n in lengths)
    if len(numbers) != batch:
        raise ValueError(f"lengths has {len(numbers)} entries: expected one per sequence, {batch}")
    for k, n in enumerate(numbers):
        if not 1 <= n <= steps:
            raise ValueError(f"lengths[{k}] is {n}: expected 1 to {steps}, the number of steps")
    return None if all(n == steps for n in numbers) else numbers


def within(backend: Backend, lengths: tuple[int, ...] | None, steps: int) -> Array | None:
    """Return which steps are within their sequence, (T, B, 1); None if all are."""
    if lengths is None:
        return None
    return backend.asarray(np.arange(steps)[:, None, None] < np.array(lengths)[None, :, None])


def only_within(xp: Namespace, valid: Array | None, x: Array) -> Array:
    """Return an input that holds nothing of its own beyond the sequences' ends.

    Zeros, because what overflows is NaN when it is multiplied by zero on the way back; and the
    sequence's first token, because any other would count as seen.
    """
    if valid is None:
        return x
    if x.ndim == 2:
        return xp.where(valid[..., 0], x, x[:1, ...])
    return xp.where(valid, x, xp.zeros_like(x))
