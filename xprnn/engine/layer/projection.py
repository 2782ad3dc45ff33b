"""The projection of the input, for all steps at once.

::

    a = W x                                                           (1)
    u = a + b, or γ N(a) + b                                          (2)

    db = Σ du, and da from du                                         from (2)
    dW = Σ da xᵀ, dx = Wᵀ da                                          from (1)

with the sums over all steps and sequences, and a normalisation N where the layer has one.  An
integer x stands for a one-hot vector, which is never formed: W x is a column of W, and dW is zero
in the columns that no integer picked.

Shapes: x (T, B, I), or integers (T, B); u (T, B, G·H); W (G·H, I); b and γ (G·H,).
"""

from typing import NamedTuple

from xprnn.backend import Backend, Library
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, sum_columns
from xprnn.engine.loop.wide import narrowed, widened
from xprnn.engine.normalization import Normalized, normalize, normalize_backward


class Projection(NamedTuple):
    """u (T, B, G·H), and N(a) (T·B, G·H) if the layer normalises."""

    u: Array
    normalized: Normalized | None


class ProjectionGradient(NamedTuple):
    """The gradients of W, b, γ and x; the last is None if x holds integers, or isn't wanted.

    ``beside`` is the product that was to be formed at the same time, if there was one.
    """

    W: GradientArray
    b: Array | None
    gain: Array | None
    x: Array | None
    beside: Array | None


def project(
    backend: Backend, W: Array, b: Array | None, x: Array, gain: Array | None = None
) -> Projection:
    """Return the projected input."""
    if gain is None:
        u, normalized = _affine(backend, W, b, x), None
    else:
        a = _affine(backend, W, None, x)
        normalized = normalize(backend.xp, widened(backend.library, a))
        u = gain * normalized.n
        if b is not None:
            u += b
        u, normalized = narrowed(backend.library, (u, normalized), a)
    shape = x.shape
    return Projection(backend.library.reshaped(u, (shape[0], shape[1], W.shape[0])), normalized)


def _affine(backend: Backend, W: Array, b: Array | None, x: Array) -> Array:
    """Return W x + b, (T·B, G·H)."""
    library = backend.library
    if x.ndim == 3:
        return library.product(library.rows(x), W.T, b)
    steps, batch = x.shape
    tokens = library.reshaped(x, (steps * batch,))
    if steps * batch >= W.shape[1]:
        # The time loop reads rows of Wᵀ in memory order.  With at least as many tokens as columns
        # a transposed copy of W pays, and b is added to each column once.
        return library.taken(W.T if b is None else library.plus(W.T, b), tokens)
    u = library.taken(W, tokens, axis=1).T
    if b is not None:
        u += b
    return u


def project_backward(
    backend: Backend,
    W: Array,
    b: Array | None,
    x: Array,
    du: Array,
    beside: tuple[Array, Array] | None,
    gain: Array | None = None,
    normalized: Normalized | None = None,
    *,
    of_input: bool = True,
) -> ProjectionGradient:
    """Return the gradients, given that of u as (T·B, G·H); of x only if ``of_input``.

    ``beside`` are the factors of a product that is formed at the same time, that of dU; None: none.
    """
    library = backend.library
    da, d_gain = _before_gain(backend, du, gain, normalized)
    if x.ndim == 2:
        first = _alone(library, beside)
        dW = sum_columns(da, library.reshaped(x, (da.shape[0],)), W.shape[1])
        # Each row of da is in one of the sums, so fewer rows have the same sum.
        db = None if b is None else library.sum_rows(dW.values.T if da is du else du)
        return ProjectionGradient(dW, db, d_gain, None, first)
    x_rows = library.rows(x)
    if x_rows.shape[1] == 1 and b is not None and da is du:
        first = _alone(library, beside)
        d_weight, db, dx = library.products_and_sum(da, x_rows, W if of_input else None)
    else:
        pairs = [] if beside is None else [beside]
        pairs.append((da.T, x_rows))
        if of_input:
            pairs.append((da, W))
        made, db = library.products_at_once(pairs, None if b is None else du)
        first = None if beside is None else made.pop(0)
        d_weight, dx = made[0], made[1] if of_input else None
    dx = None if dx is None else library.reshaped(dx, x.shape)
    return ProjectionGradient(d_weight, db, d_gain, dx, first)


def _alone(library: Library, pair: tuple[Array, Array] | None) -> Array | None:
    """Return the product of a pair, if there is one."""
    return None if pair is None else library.products_at_once([pair], None)[0][0]


def input_gradient(
    backend: Backend,
    W: Array,
    x: Array,
    du: Array,
    gain: Array | None,
    normalized: Normalized | None,
) -> Array | None:
    """Return the gradient of x alone; None if x holds integers."""
    if x.ndim == 2:
        return None
    library = backend.library
    da, _ = _before_gain(backend, library.rows(du), gain, normalized)
    return library.reshaped(library.product(da, W), x.shape)


def _before_gain(
    backend: Backend, du: Array, gain: Array | None, normalized: Normalized | None
) -> tuple[Array, Array | None]:
    """Return da (T·B, G·H), given du of the same shape, and dγ."""
    if gain is None or normalized is None:
        return du, None
    xp, library = backend.xp, backend.library
    wide = widened(library, (normalized, gain, du))
    da, d_gain = normalize_backward(xp, *wide)  # from (2)
    made: tuple[Array, Array] = narrowed(library, (da, xp.sum(d_gain, axis=0)), du)
    return made
