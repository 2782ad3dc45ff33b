"""Clipping: keeping an exploding gradient from throwing the weights away."""

from functools import reduce

from xprnn import checks
from xprnn.backend import library_of, namespace_of
from xprnn.backend.types import Array, Namespace
from xprnn.engine.gradients import (
    GradientArray,
    clipped,
    component,
    largest_size,
    square_sum,
    times,
)
from xprnn.optim.protocol import Gradients


def global_norm(gradients: Gradients) -> Array:
    """Return the Euclidean norm of all gradients together, a zero-dimensional array.

    Finite whenever the norm itself can be held by the dtype, also where a square can't.

    Raises
    ------
    ValueError
        If there are no gradients.
    """
    if not gradients:
        raise ValueError("gradients is empty: expected at least one array")
    first = _first(gradients)
    library = library_of(first)
    xp = library.namespace()
    with library.quiet():
        norm = xp.sqrt(sum(square_sum(g) for g in gradients.values()))
    if norm.dtype != first.dtype:
        # Of wider numbers, of which no square was too large: there is no need to look at it, for
        # which a device would have to be waited for.
        return xp.astype(norm, first.dtype)
    if bool(xp.isfinite(norm)):
        return norm
    largest = reduce(xp.maximum, [largest_size(g) for g in gradients.values()])
    return largest * xp.sqrt(sum(square_sum(times(g, 1 / largest)) for g in gradients.values()))


def clip_by_norm(gradients: Gradients, limit: float) -> tuple[dict[str, GradientArray], Array]:
    """Scale all gradients together so that their norm is at most ``limit``.

    ::

        g ← g · min(1, limit / ‖g‖)

    The direction stays.

    Parameters
    ----------
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    limit : float
        Above zero.

    Returns
    -------
    clipped : dict of array, SparseGradient or FactoredGradient
    norm : array, zero-dimensional
        Before clipping.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, algorithm 1.
    """
    limit = checks.number("limit", limit, open_=True)
    norm = global_norm(gradients)
    # A limit that the dtype can't hold would be infinite, and infinite over infinite is NaN.
    limit = min(limit, float(_namespace(gradients).finfo(norm.dtype).max))
    if library_of(_first(gradients)).synchronous and bool(norm <= limit):
        # Most gradients of most trainings: a factor of 1 is no pass over them.
        return dict(gradients), norm
    # limit/max(norm, limit) is min(1, limit/norm) without a division by zero.
    factor = limit / _namespace(gradients).maximum(norm, limit)
    return {k: times(g, factor) for k, g in gradients.items()}, norm


def clip_by_value(gradients: Gradients, limit: float) -> dict[str, GradientArray]:
    """Move every entry into [-limit, limit]; the direction may change.

    A factored gradient becomes dense.

    Parameters
    ----------
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    limit : float
        Above zero.
    """
    limit = checks.number("limit", limit, open_=True)
    return {k: clipped(g, limit) for k, g in gradients.items()}


def _first(gradients: Gradients) -> Array:
    return component(next(iter(gradients.values())))


def _namespace(gradients: Gradients) -> Namespace:
    return namespace_of(_first(gradients))
