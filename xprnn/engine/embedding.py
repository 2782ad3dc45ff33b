"""An embedding: one vector per token.

::

    e(t) = E[x(t)]                                                    (1)
    dE[k] = Σ de(t) over all t with x(t) = k                          from (1)

Shapes: tokens x (T, B), E (I, K), e (T, B, K).
"""

from xprnn.backend.registry import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.engine.gradients import SparseGradient, sum_rows


def look_up(xp: Namespace, E: Array, x: Array) -> Array:
    """Return e (T, B, K)."""
    steps, batch = x.shape
    rows = library_of(E).taken(E, xp.reshape(x, (steps * batch,)))
    return xp.reshape(rows, (steps, batch, E.shape[1]))


def look_up_backward(xp: Namespace, E: Array, x: Array, de: Array) -> SparseGradient:
    """Return the gradient of E, which has only the rows that were looked up."""
    count = x.shape[0] * x.shape[1]
    return sum_rows(xp.reshape(de, (count, E.shape[1])), xp.reshape(x, (count,)), E.shape[0])
