"""The input's projection, for all steps at once.

::

    a = W x                                                           (1)
    u = a + b, or γ N(a) + b                                          (2)

    db = Σ du, and da from du by (2); dW = Σ da xᵀ, dx = Wᵀ da        from (1)

with the sums over all steps and sequences, and a normalisation N where the layer has one.  An
integer stands for a one-hot vector x, so that W x is a column of W and dW is zero in the columns
that no token picked; the vectors are never made.

Shapes: x (T, B, I), or integers (T, B); u (T, B, G·H); W (G·H, I); b and γ (G·H,).
"""

from typing import NamedTuple

from xprnn.backend import primitives_of
from xprnn.backend.types import Array, Namespace
from xprnn.normalization import Normalized, normalize, normalize_backward
from xprnn.sparse import GradientArray, sum_columns


class Projection(NamedTuple):
    """u (T, B, G·H), and N(a) (T·B, G·H) if the layer normalises."""

    u: Array
    normalized: Normalized | None


class ProjectionGradient(NamedTuple):
    """The gradients of W, b, γ and x; of x None if it holds integers."""

    W: GradientArray
    b: Array | None
    gain: Array | None
    x: Array | None


def project(
    xp: Namespace, W: Array, b: Array | None, x: Array, gain: Array | None = None
) -> Projection:
    """Return the projected input."""
    steps, batch = x.shape[:2]
    if x.ndim == 2:
        picked = xp.reshape(x, (steps * batch,))
        if steps * batch < W.shape[1]:
            u = xp.matrix_transpose(xp.take(W, picked, axis=1))
        else:
            # Rows of Wᵀ lie in the order that the time loop reads: worth a copy of W, if there are
            # more steps than columns.
            u = xp.take(xp.matrix_transpose(W), picked, axis=0)
    else:
        rows = xp.reshape(x, (steps * batch, x.shape[2]))
        u = primitives_of(W).product(rows, xp.matrix_transpose(W))
    normalized = None
    if gain is not None:
        normalized = normalize(xp, u)
        u = gain * normalized.n
    if b is not None:
        u += b
    return Projection(xp.reshape(u, (steps, batch, W.shape[0])), normalized)


def project_backward(
    xp: Namespace,
    W: Array,
    b: Array | None,
    x: Array,
    du: Array,
    gain: Array | None = None,
    normalized: Normalized | None = None,
) -> ProjectionGradient:
    """Return the gradients, given that of u."""
    count = x.shape[0] * x.shape[1]
    db = None if b is None else xp.sum(xp.reshape(du, (count, du.shape[2])), axis=0)
    da, d_gain = _before_gain(xp, du, gain, normalized)
    if x.ndim == 2:
        dW = sum_columns(da, xp.reshape(x, (count,)), W.shape[1])
        return ProjectionGradient(dW, db, d_gain, None)
    product = primitives_of(W).product
    dW = product(xp.matrix_transpose(da), xp.reshape(x, (count, x.shape[2])))
    return ProjectionGradient(dW, db, d_gain, xp.reshape(product(da, W), x.shape))


def input_gradient(
    xp: Namespace, W: Array, x: Array, du: Array, gain: Array | None, normalized: Normalized | None
) -> Array | None:
    """Return the gradient of x alone; None if it holds integers."""
    if x.ndim == 2:
        return None
    da, _ = _before_gain(xp, du, gain, normalized)
    return xp.reshape(primitives_of(W).product(da, W), x.shape)


def _before_gain(
    xp: Namespace, du: Array, gain: Array | None, normalized: Normalized | None
) -> tuple[Array, Array | None]:
    """Return da (T·B, G·H), and dγ."""
    rows = xp.reshape(du, (du.shape[0] * du.shape[1], du.shape[2]))
    if gain is None or normalized is None:
        return rows, None
    da, d_gain = normalize_backward(xp, normalized, gain, rows)  # from (2)
    return da, xp.sum(d_gain, axis=0)
