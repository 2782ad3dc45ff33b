"""Padding: the steps beyond the end of each sequence."""

from collections.abc import Mapping, Set
from typing import Any

from xprnn.backend import Backend, describe, find_library, library_of, on_host
from xprnn.backend.host.arrays import changes_arithmetic, np
from xprnn.backend.types import Array, Namespace


def check_lengths(lengths: object, steps: int, batch: int) -> tuple[int, ...] | None:
    """Return the number of steps of each sequence; None if no sequence has padding.

    Lengths are host integers, because they are needed before anything is computed: a sequence or
    an array of any library, as long as nothing has to be copied from a device.
    """
    if lengths is None:
        return None
    library = find_library(lengths)
    if library is not None:
        shape = tuple(lengths.shape)  # type: ignore[attr-defined]
        if len(shape) != 1:
            raise ValueError(f"lengths has shape {shape}: expected ({batch},)")
        if not library.on_host(lengths):
            raise TypeError(
                f"lengths is {describe(lengths)} on device {library.device_of(lengths)}: expected "
                f"integers on the host (lengths = {on_host('lengths', lengths)})"
            )
        entries = library.to_host(library.plain(lengths))
    elif (
        isinstance(lengths, str | bytes | Mapping | Set)
        or not hasattr(lengths, "__len__")
        or changes_arithmetic(type(lengths))
    ):
        raise TypeError(
            f"lengths is {describe(lengths)}: expected a list, a tuple or an array of ints on the "
            "host, one for each sequence"
        )
    else:
        entries = list(lengths)  # type: ignore[call-overload]
    numbers = tuple(map(_integer, entries))
    if None in numbers:
        raise TypeError(f"lengths is {lengths!r}: expected integers")
    if len(numbers) != batch:
        raise ValueError(f"lengths has {len(numbers)} entries: expected one per sequence, {batch}")
    for k, n in enumerate(numbers):
        if not 0 <= n <= steps:
            raise ValueError(f"lengths[{k}] is {n}: expected 0 to {steps}, the number of steps")
    return None if all(n == steps for n in numbers) else numbers


def _integer(n: Any) -> Any:
    """Return one length as an int; None if it is no integer, or not on the host."""
    if isinstance(n, int | np.integer):
        return None if isinstance(n, bool) else int(n)
    # Not __index__, which would copy a number from a device.
    library = find_library(n)
    if library is None or n.ndim or not library.on_host(n):
        return None
    host = library.to_host(n)
    return int(host) if host.dtype.kind in "iu" else None


def padding_mask(backend: Backend, lengths: tuple[int, ...] | None, steps: int) -> Array | None:
    """Return which steps exist, (T, B, 1), False in the padding; None if all steps exist."""
    if lengths is None:
        return None
    xp, device = backend.xp, backend.device
    each, ends = xp.arange(steps, device=device), xp.asarray(lengths, device=device)
    return each[:, None, None] < ends[None, :, None]


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
    return library_of(x).zero_unless(valid, x)


def fill_target(backend: Backend, valid: Array | None, target: object) -> Any:
    """Return a target whose padding is zero, whatever the user put there.

    What is no array of the backend, or not (T, B, ...), is returned unchanged: the loss refuses it.
    """
    if valid is None or not backend.owns(target):
        return target
    a = backend.library.plain(target)
    if a.ndim < 2 or tuple(a.shape[:2]) != tuple(valid.shape[:2]):
        return target
    where = (
        valid if a.ndim == 3 else backend.xp.reshape(valid, valid.shape[:2] + (1,) * (a.ndim - 2))
    )
    return backend.library.zero_unless(where, a)
