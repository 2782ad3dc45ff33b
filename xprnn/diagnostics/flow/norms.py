"""Norms of vectors and gradients, in whatever range: where squares overflow or vanish, too."""

import math
from collections.abc import Mapping, Sequence

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, entries, largest_size, square_sum, times

TINY = 1e-250
"""The sum of squares above which what vanished in a square does not matter to it."""
LEAST = 1e-30
"""The same of a gradient, which may be of float32."""


def norm(a: HostArray, axis: int) -> HostArray:
    """Return the Euclidean norm of lengths along an axis, in whatever range."""
    if a.shape[axis] == 1:
        return a.squeeze(axis)
    with np.errstate(over="ignore"):
        squares: HostArray = np.sum(a * a, axis=axis)
    if squares.size and np.min(squares) > TINY and np.max(squares) < math.inf:
        return np.sqrt(squares)
    scale = np.max(a, axis=axis, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sqrt(np.sum((a / np.where(scale > 0, scale, 1.0)) ** 2, axis=axis))
        found: HostArray = np.squeeze(scale, axis=axis) * total
    return np.where(np.isinf(np.squeeze(scale, axis=axis)), np.inf, found)


def norms_of(backend: Backend, values: Sequence[GradientArray]) -> HostArray:
    """Return the norm of each array or gradient, (P,)."""
    library = backend.library
    arrays = [g if library.is_array(g) else entries(g) for g in values]
    totals = backend.to_numpy(library.square_sums(arrays)).tolist()
    return np.array(
        [
            math.sqrt(total) if LEAST < total < math.inf else _norm_from(total, g)
            for total, g in zip(totals, values, strict=True)
        ]
    )


def norm_of(g: GradientArray) -> float:
    """Return the norm of an array or a gradient, also where its square would overflow."""
    return _norm_from(float(square_sum(g)), g)


def _norm_from(total: float, g: GradientArray) -> float:
    """Return the norm of an array or a gradient, given the sum of its squares."""
    if math.isfinite(total) and total > LEAST:
        return math.sqrt(total)
    largest = float(largest_size(g))
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(square_sum(times(g, 1 / largest))))


def change(old: Mapping[str, Array], new: Mapping[str, Array]) -> HostArray:
    """Return the norm of each parameter's change, divided by its norm before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([np.float64(norm_of(new[k] - p)) / norm_of(p) for k, p in old.items()])


def aligned(travel: HostArray, start: HostArray, limit: HostArray, some: HostArray) -> HostArray:
    """Return the norm over sequences of what is left after k steps, (T,).

    Parameters
    ----------
    travel : host array, (T, B)
        Lengths, in the order in which the gradient travels.
    start, limit : host array of int, (B,)
        Where each sequence's gradient sets out, and how many steps there are.
    some : host array of bool, (B,)
        Which sequences have a gradient at all.
    """
    steps = len(travel)
    if not some.any():
        return np.zeros(steps)
    if some.all() and not start.any() and (limit == steps).all():
        return norm(travel, axis=1)
    left = np.full((steps, len(start)), math.nan)
    for b in np.flatnonzero(some):
        part = travel[start[b] : limit[b], b]
        left[: len(part), b] = part
    here = ~np.isnan(left) | ~some
    if np.all(here[:, some]):
        return norm(left[:, some], axis=1)
    decay, first = np.full(steps, math.nan), left[0, some]
    for k in range(steps):
        there = ~np.isnan(left[k, some])
        if there.any():
            began = norm(first[there], axis=0)
            share = norm(left[k, some][there], axis=0) / began if began else 0.0
            decay[k] = share * norm(first, axis=0)
    return decay
