"""Padding: the steps beyond the end of each sequence."""

from xprnn.backend import Backend, describe
from xprnn.backend.host.arrays import np
from xprnn.backend.types import Array, Namespace


def check_lengths(lengths: object, steps: int, batch: int) -> tuple[int, ...] | None:
    """Return the number of steps of each sequence; None if no sequence has padding.

    Lengths are host integers, because they are needed before anything is computed.
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
    # Not __index__, which would copy a number from a device.
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in lengths):
        raise TypeError(f"lengths is {lengths!r}: expected integers")
    numbers = tuple(int(n) for n in lengths)
    if len(numbers) != batch:
        raise ValueError(f"lengths has {len(numbers)} entries: expected one per sequence, {batch}")
    for k, n in enumerate(numbers):
        if not 1 <= n <= steps:
            raise ValueError(f"lengths[{k}] is {n}: expected 1 to {steps}, the number of steps")
    return None if all(n == steps for n in numbers) else numbers


def padding_mask(backend: Backend, lengths: tuple[int, ...] | None, steps: int) -> Array | None:
    """Return which steps exist, (T, B, 1), False in the padding; None if all steps exist."""
    if lengths is None:
        return None
    return backend.asarray(np.arange(steps)[:, None, None] < np.array(lengths)[None, :, None])


def fill_padding(xp: Namespace, valid: Array | None, x: Array) -> Array:
    """Return an input whose padding is harmless, whatever the user put there.

    Floats become zero: a number that overflows would become NaN when the backward pass multiplies
    it by zero.  Tokens become the sequence's first one: another would count as seen, and get a row
    in the sparse gradient.
    """
    if valid is None:
        return x
    if x.ndim == 2:
        return xp.where(valid[..., 0], x, x[:1, ...])
    return xp.where(valid, x, xp.zeros_like(x))
