"""How much each place of a target counts: the padding mask, and weights.

A loss gets them as one argument, ``mask``: truth values, (T, B, 1), say which steps exist; floats
are weights, which are zero where there is padding.
"""

import math

from xprnn import checks
from xprnn.backend import Backend, dtype_name, library_of, namespace_of
from xprnn.backend.types import Array, Namespace
from xprnn.losses.protocol import Loss, Weighted, sum_dtype

REDUCTIONS = ("mean", "sum", "none")


def check_weights(
    loss: Loss,
    weights: object,
    places: tuple[int, ...],
    target: Array,
    backend: Backend,
    *,
    some: bool = True,
) -> Array:
    """Return weights that broadcast against the entries of a target.

    Parameters
    ----------
    loss : Loss
    weights : array
        In one of the shapes (B,), a weight for each sequence; ``places``, one for each output; or
        that of the target, one for each entry.
    places : tuple of int
        (T, B), or (B,) for one output for each sequence.
    target : array
        As the loss's `check` has returned it.
    backend : Backend
    some : bool
        Whether one of them has to be positive.

    Returns
    -------
    array
        (T, B, 1) or (B, 1), or of the target's shape.

    Raises
    ------
    TypeError
        If the loss takes no weights, or they are not floats of the backend.
    ValueError
        If their shape is another, or one is negative, infinite or NaN, or all are zero.
    """
    if not isinstance(loss, Weighted) or not loss.takes_weights:
        raise TypeError(f"the loss {loss} takes no weights: expected one with takes_weights = True")
    checks.of_backend("weights", weights, backend)
    shape = tuple(weights.shape)  # type: ignore[attr-defined]
    known = dict.fromkeys([places[-1:], places, tuple(target.shape)])
    if shape not in known:
        raise ValueError(
            f"weights has shape {shape}: expected {' or '.join(map(str, known))}, a weight for "
            "each sequence, output or entry"
        )
    found = checks.array("weights", weights, backend, shape)
    checks.finite("weights", found, backend)
    library, xp = backend.library, backend.xp
    if not library.all_true(found >= 0):
        low = -xp.max(-found)
        raise ValueError(f"weights has {float(low):g} in it: expected numbers of at least 0")
    if some and math.prod(shape) and not library.all_true(xp.max(found) > 0):
        raise ValueError("weights are all zero: expected at least one that is not")
    if shape == places[-1:] and len(places) > 1:
        found = xp.broadcast_to(found, places)
        shape = places
    return found[..., None] if shape == places else found


def combined(valid: Array | None, weights: Array | None) -> Array | None:
    """Return the one argument of a loss: weights that are zero in the padding, or the mask."""
    if weights is None or valid is None:
        return valid if weights is None else weights
    return library_of(weights).zero_unless(valid, weights)


def are_weights(mask: Array | None) -> bool:
    """Whether the argument ``mask`` of a loss holds weights, and not truth values."""
    return mask is not None and dtype_name(mask.dtype) != "bool"


def total_weight(xp: Namespace, mask: Array, entries: int) -> Array:
    """Return the sum of weights over the entries of a target, each place having so many."""
    wide = sum_dtype(xp, mask)
    # One for a place stands for all its entries.
    each = entries if mask.shape[-1] == 1 else 1
    return xp.sum(xp.astype(mask, wide, copy=False)) * each


def share(xp: Namespace, total: Array) -> Array:
    """Return 1 / total, or zero where nothing counts: then the loss is zero."""
    none = xp.astype(total == 0, total.dtype)
    return (1 - none) / (total + none)


def count_entries(mask: Array | None, target: Array, entries: int) -> int | Array:
    """Return how many entries of a target count, or the sum of their weights."""
    if mask is None:
        return math.prod(target.shape)
    xp = namespace_of(mask)
    if are_weights(mask):
        return total_weight(xp, mask, entries)
    return xp.sum(xp.astype(mask, xp.int32)) * entries
