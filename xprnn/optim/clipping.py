"""Clipping: a limit to gradients, so that an exploding one does not ruin the weights."""

from collections.abc import Callable
from functools import reduce

from xprnn import checks
from xprnn.backend import library_of, namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array, Namespace
from xprnn.engine.architecture import layer_of
from xprnn.engine.gradients import (
    FactoredGradient,
    GradientArray,
    SparseGradient,
    clipped,
    component,
    copied,
    entries,
    largest_size,
    multiplied_out,
    square_sum,
    times,
)
from xprnn.optim.arguments import check_mapping, check_not_nan
from xprnn.optim.protocol import Gradients


@entry
def global_norm(gradients: Gradients) -> Array:
    """Return the Euclidean norm of all gradients together, a zero-dimensional array.

    It is finite whenever the dtype can represent the norm, even where the square of an entry
    overflows.

    Raises
    ------
    TypeError, ValueError
        If it is not a mapping, there are no gradients, or one has entries that are NaN (on backends
        where the norm's value is at hand).
    """
    check_mapping("gradients", gradients)
    if not gradients:
        raise ValueError("gradients is empty: expected at least one array")
    first = _first(gradients)
    library = library_of(first)
    if library.fused is not None:
        return library.fused.norm_and_factor(_entries(gradients), 1.0)[0]
    xp = library.namespace()
    with library.quiet():
        norm = xp.sqrt(sum(square_sum(g) for g in gradients.values()))
    if norm.dtype != first.dtype:
        # The sum was taken in a wider dtype, where no square overflows.  Not to look at its value
        # spares waiting for the device.
        return xp.astype(norm, first.dtype)
    traced = library.traced(norm)
    if not traced and bool(xp.isfinite(norm)):
        return norm
    check_not_nan(gradients)
    largest = reduce(xp.maximum, [largest_size(g) for g in gradients.values()])
    scaled = [square_sum(times(g, 1 / largest)) for g in gradients.values()]
    safe = largest * xp.sqrt(sum(scaled))
    return xp.where(xp.isfinite(norm), norm, safe) if traced else safe


@entry
def clip_by_norm(gradients: Gradients, limit: float) -> tuple[dict[str, GradientArray], Array]:
    """Scale all gradients together so that their norm is at most ``limit``.

    ::

        g ← g · min(1, limit / ‖g‖)

    The direction of the gradient stays the same.

    Parameters
    ----------
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    limit : float
        Above zero.

    Returns
    -------
    clipped : dict of array, SparseGradient or FactoredGradient
        New arrays, even if nothing was clipped.
    norm : array, zero-dimensional
        The norm before clipping.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, algorithm 1.
    """
    limit = checks.number("limit", limit, open_=True)
    clipped, norm = limit_norm(gradients, limit)
    return {k: _separate(g, gradients[k]) for k, g in clipped.items()}, norm


@entry
def limit_norm(gradients: Gradients, limit: float) -> tuple[dict[str, GradientArray], Array]:
    """Do the same for a caller who does not use ``gradients`` any more: they may be the result."""
    check_mapping("gradients", gradients)
    if not gradients:
        raise ValueError("gradients is empty: expected at least one array")
    library = library_of(_first(gradients))
    if library.fused is not None:
        # A factored gradient becomes dense, because every form is needed in the end.
        gradients = {k: multiplied_out(g) for k, g in gradients.items()}
        values = _entries(gradients)
        norm, factor = library.fused.norm_and_factor(values, limit)
        scaled = library.fused.scaled(values, factor)
        return dict(zip(gradients, map(_like, gradients.values(), scaled), strict=True)), norm
    norm = global_norm(gradients)
    # A limit above the dtype's range would become infinite, and infinity over infinity is NaN.
    limit = min(limit, float(library.namespace().finfo(norm.dtype).max))
    if library.synchronous and bool(norm <= limit):
        # The usual case: a factor of 1 needs no pass over the gradients.
        return dict(gradients), norm
    # limit / max(norm, limit) is min(1, limit / norm), but never divides by zero.
    factor = limit / _namespace(gradients).clip(norm, min=limit)
    return {k: times(g, factor) for k, g in gradients.items()}, norm


CLIP_BY = ("network", "layer", "parameter")
"""What has a norm of its own: all parameters together, those of a layer, or each parameter."""


@entry
def clip_by_layer(
    gradients: Gradients, limit: float
) -> tuple[dict[str, GradientArray], dict[str, Array]]:
    """Scale the gradients of each layer together so that their norm is at most ``limit``.

    A layer is what `layer_of` says of the gradients' names: both directions of it, with W, U, b and
    what else the cell has, are one; the readout is one, and so is the embedding.  The direction of
    a layer's gradient stays the same, that of the whole gradient may change: a layer whose gradient
    explodes does not slow down the others.

    Parameters
    ----------
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    limit : float
        Above zero.

    Returns
    -------
    clipped : dict of array, SparseGradient or FactoredGradient
        New arrays, even if nothing was clipped, in the order of ``gradients``.
    norms : dict of array, zero-dimensional
        Each layer's norm before clipping, by the layer's name.
    """
    limit = checks.number("limit", limit, open_=True)
    clipped, norms = _limit_each(gradients, limit, layer_of)
    return {k: _separate(g, gradients[k]) for k, g in clipped.items()}, norms


@entry
def limit_norms(
    gradients: Gradients, limit: float, by: str
) -> tuple[dict[str, GradientArray], Array]:
    """Do the same for one of `CLIP_BY`, for a caller who does not use ``gradients`` any more.

    Returns
    -------
    limited : dict of array, SparseGradient or FactoredGradient
    norm : array, zero-dimensional
        The largest norm that was limited, before that.
    """
    if by == "network":
        return limit_norm(gradients, limit)
    limited, norms = _limit_each(gradients, limit, layer_of if by == "layer" else str)
    return limited, reduce(_namespace(gradients).maximum, norms.values())


def _limit_each(
    gradients: Gradients, limit: float, group_of: Callable[[str], str]
) -> tuple[dict[str, GradientArray], dict[str, Array]]:
    """Limit the norm of each group of gradients; return them and the groups' norms."""
    check_mapping("gradients", gradients)
    if not gradients:
        raise ValueError("gradients is empty: expected at least one array")
    groups: dict[str, dict[str, GradientArray]] = {}
    for name, g in gradients.items():
        groups.setdefault(group_of(name), {})[name] = g
    limited: dict[str, GradientArray] = {}
    norms: dict[str, Array] = {}
    for group, members in groups.items():
        clipped, norms[group] = limit_norm(members, limit)
        limited |= clipped
    return {name: limited[name] for name in gradients}, norms


@entry
def clip_by_value(gradients: Gradients, limit: float) -> dict[str, GradientArray]:
    """Clip every entry to [-limit, limit]; the direction of the gradient may change.

    A factored gradient becomes dense.

    Parameters
    ----------
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    limit : float
        Above zero.
    """
    limit = checks.number("limit", limit, open_=True)
    check_mapping("gradients", gradients)
    check_not_nan(gradients)
    return {k: _separate(clipped(g, limit), g) for k, g in gradients.items()}


def _separate(g: GradientArray, given: GradientArray) -> GradientArray:
    """Return g, copied where it shares memory with the gradient that was given."""
    return copied(g) if g is given or isinstance(g, SparseGradient | FactoredGradient) else g


def _entries(gradients: Gradients) -> list[Array]:
    return [entries(g).T if _by_columns(g) else entries(g) for g in gradients.values()]


def _by_columns(g: GradientArray) -> bool:
    """Whether the entries of g are in memory order when they are transposed."""
    return isinstance(g, SparseGradient) and g.axis == 1


def _like(g: GradientArray, values: Array) -> GradientArray:
    """Return a gradient of the form of g with other values."""
    if isinstance(g, SparseGradient):
        values = values.T if _by_columns(g) else values
        return SparseGradient(g.indices, values, g.shape, g.axis)
    return values


def _first(gradients: Gradients) -> Array:
    return component(next(iter(gradients.values())))


def _namespace(gradients: Gradients) -> Namespace:
    return namespace_of(_first(gradients))
