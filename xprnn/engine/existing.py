"""Which steps of a batch exist, as users say it: the sequences' lengths, or a mask.

Lengths are the short form of a mask whose steps exist up to each sequence's end.  A mask may also
leave out steps at the front and in between.  Where a step is missing the state is held, the output
is zero and no gradient arises, so every sequence is computed as if it were there alone, without its
missing steps.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from xprnn.backend import Backend, describe, find_library, library_of, on_host
from xprnn.backend.host.arrays import HostArray, changes_arithmetic, np
from xprnn.backend.types import Array
from xprnn.engine.lengths import check_lengths, fill_padding, padding_mask

Existing: TypeAlias = tuple[int, ...] | HostArray | None
"""The lengths of the sequences, or a mask (T, B) on the host; None: all steps exist."""


def check_existing(
    lengths: Sequence[int] | None,
    mask: object,
    steps: int,
    batch: int,
    backend: Backend | None = None,
) -> Existing:
    """Return which steps exist; a mask that lengths can say comes as lengths.

    Parameters
    ----------
    lengths : sequence of int or None
        See `xprnn.engine.lengths.check_lengths`.
    mask : array of bool, (T, B), or None
    steps, batch : int
        T and B.
    backend : Backend, optional
        A mask may also be an array of this backend's, on its device, from where it is read.

    Raises
    ------
    TypeError, ValueError
        If both are given, or one of them does not fit the input.
    """
    if mask is None:
        return check_lengths(lengths, steps, batch)
    if lengths is not None:
        raise ValueError(
            "lengths and mask are given: expected one of them (lengths are the mask whose steps "
            "exist up to each sequence's end)"
        )
    exists = _check_mask(mask, (steps, batch), backend)
    ends = np.sum(exists, axis=0)
    if not np.array_equal(exists, np.arange(steps)[:, None] < ends):
        return exists
    return check_lengths(ends.tolist(), steps, batch)


def _check_mask(mask: Any, shape: tuple[int, int], backend: Backend | None) -> HostArray:
    """Return a mask as a host array, known to be of bool and of the shape (T, B)."""
    library = find_library(mask)
    if library is None:
        nested = isinstance(mask, list | tuple) and not changes_arithmetic(type(mask))
        host = _nested(mask) if nested else None
        if host is None:
            raise TypeError(f"mask is {describe(mask)}: expected an array of bool, {shape}")
    elif library.traced(mask):
        raise TypeError(
            "mask is an argument of a function that is being compiled, so its values are unknown: "
            "expected an array on the host (with jax.jit, close over it)"
        )
    elif library.on_host(mask) or (backend is not None and backend.owns(mask)):
        host = library.to_host(library.plain(mask))
    else:
        raise TypeError(
            f"mask is {describe(mask)} on device {library.device_of(mask)}: expected an array on "
            f"the host (mask = {on_host('mask', mask)}) or on the network's device"
        )
    if host.dtype != np.bool_:
        hint = "" if host.dtype.kind not in "iuf" else " (mask != 0 makes one)"
        raise TypeError(f"mask is {describe(mask)}: expected an array of bool, {shape}{hint}")
    if host.shape != shape:
        raise ValueError(
            f"mask has shape {host.shape}: expected {shape}, steps and sequences of the input"
        )
    return host


def _nested(mask: Any) -> HostArray | None:
    """Return a nested list as a host array; None if it is ragged."""
    try:
        return np.asarray(mask)
    except ValueError:
        return None


def existing_steps(backend: Backend, existing: Existing, steps: int) -> Array | None:
    """Return which steps exist, (T, B, 1), False where one is missing; None if all exist."""
    if existing is None or isinstance(existing, tuple):
        return padding_mask(backend, existing, steps)
    return backend.library.from_host(existing[..., None], backend.device)


def mask_of(existing: Existing, steps: int) -> HostArray | None:
    """Return which steps exist as a mask, (T, B) on the host; None if all exist."""
    if isinstance(existing, tuple):
        return np.arange(steps)[:, None] < np.asarray(existing, dtype=np.int64)
    return existing


def fill_missing(backend: Backend, existing: Existing, valid: Array | None, x: Array) -> Array:
    """Return an input whose missing steps are harmless: see `xprnn.engine.lengths.fill_padding`.

    Missing tokens become one of the same sequence's, or, where it has none, of another's.
    """
    from_step_0 = isinstance(existing, tuple) and 0 not in existing
    if existing is None or x.ndim == 3 or from_step_0:
        return fill_padding(backend.xp, valid, x)
    steps, batch = x.shape
    xp, exists = backend.xp, mask_of(existing, steps)
    if exists is None or not exists.any():
        return xp.zeros_like(x)
    some = exists.any(axis=0)
    # Of each sequence its first token; of one without tokens that of the first that has some.
    source = np.where(some, np.arange(batch), np.argmax(some))
    first = np.argmax(exists, axis=0)[source] * batch + source
    index = np.where(exists, np.arange(steps * batch).reshape(steps, batch), first)
    taken = backend.library.from_host(index.reshape(steps * batch), backend.device)
    return xp.reshape(xp.take(xp.reshape(x, (steps * batch,)), taken, axis=0), (steps, batch))


def closed_up(existing: HostArray, a: Array) -> Array:
    """Return a (T, B, ...) with the steps of each sequence moved to the front, in their order."""
    steps, batch = existing.shape
    library = library_of(a)
    order = np.argsort(~existing, axis=0, kind="stable") * batch + np.arange(batch)
    index = library.from_host(order.reshape(steps * batch), library.device_of(a))
    xp = library.namespace()
    merged = xp.reshape(a, (steps * batch, *a.shape[2:]))
    return xp.reshape(library.taken(merged, index), a.shape)
