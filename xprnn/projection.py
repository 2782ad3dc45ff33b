"""The input's projection, for all steps at once.

::

    u = W x + b                                                       (1)
    dW = Σ du xᵀ     db = Σ du     dx = Wᵀ du                         from (1)

with the sums over all steps and sequences.  An integer stands for a one-hot vector x, so that W x
is a column of W and dW is zero in the columns that no token picked; the vectors are never made.

Shapes: x (T, B, I), or integers (T, B); u (T, B, G·H); W (G·H, I); b (G·H,).
"""

from typing import NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.sparse import GradientArray, sum_columns


class ProjectionGradient(NamedTuple):
    """The gradients of W, b and x; of x None if it holds integers."""

    W: GradientArray
    b: Array | None
    x: Array | None


def project(xp: Namespace, W: Array, b: Array | None, x: Array) -> Array:
    """Return u (T, B, G·H)."""
    steps, batch = x.shape[:2]
    if x.ndim == 2:
        u = xp.matrix_transpose(xp.take(W, xp.reshape(x, (steps * batch,)), axis=1))
    else:
        u = xp.reshape(x, (steps * batch, x.shape[2])) @ xp.matrix_transpose(W)
    if b is not None:
        u = u + b
    return xp.reshape(u, (steps, batch, W.shape[0]))


def project_backward(
    xp: Namespace, W: Array, b: Array | None, x: Array, du: Array
) -> ProjectionGradient:
    """Return the gradients, given that of u."""
    steps, batch, size = du.shape
    rows = xp.reshape(du, (steps * batch, size))
    db = None if b is None else xp.sum(rows, axis=0)
    if x.ndim == 2:
        tokens = xp.reshape(x, (steps * batch,))
        return ProjectionGradient(sum_columns(rows, tokens, W.shape[1]), db, None)
    x_rows = xp.reshape(x, (steps * batch, x.shape[2]))
    dW = xp.matrix_transpose(rows) @ x_rows
    return ProjectionGradient(dW, db, xp.reshape(rows @ W, x.shape))
