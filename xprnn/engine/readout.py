"""The readout: a linear map from state to output.

::

    y = R h + r                                                       (1)
    dR = Σ dy hᵀ     dr = Σ dy     dh = Rᵀ dy                         from (1)

with the sums over all steps and sequences, each computed as one product.  Shapes: h (..., H),
y (..., O), R (O, H), r (O,).
"""

from typing import NamedTuple

from xprnn.backend import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.engine.gradients import FactoredGradient

MANY_OUTPUTS = 1024
"""The number of outputs from which dh is computed as (Rᵀ dyᵀ)ᵀ.

With few rows OpenBLAS needs half the time for this order.
"""

FACTORED = 4
"""dR is kept factored, as dy and h, if it has more than this many times their entries.

With a factor of 2, a training step that clips by the norm was measured to be slower: the norm costs
a product of all rows with each other, and dR is still to be multiplied out.
"""


class ReadoutGradient(NamedTuple):
    """The gradients of weight (O, H), bias (O,) and input (..., H)."""

    weight: Array | FactoredGradient
    bias: Array | None
    h: Array


def read_out(R: Array, r: Array | None, h: Array) -> Array:
    """Return y (..., O)."""
    library = library_of(R)
    y = library.product(library.rows(h), R.T, r)
    return library.reshaped(y, (*h.shape[:-1], R.shape[0]))


def read_out_backward(
    xp: Namespace, R: Array, r: Array | None, h: Array, dy: Array, *, factored: bool = False
) -> ReadoutGradient:
    """Return the gradients, given dy (..., O).

    With ``factored``, the gradient of the weight refers to dy and h themselves if they are small
    enough compared to it (see `FACTORED`): don't write into them while it is in use.
    """
    library = library_of(R)
    dy_rows, h_rows = library.rows(dy), library.rows(h)
    dy_columns = dy_rows.T
    count, (outputs, hidden) = dy_rows.shape[0], R.shape
    if outputs >= MANY_OUTPUTS:
        dh = library.product(R.T, dy_columns).T
    else:
        dh = library.product(dy_rows, R)
    small = FACTORED * count * (outputs + hidden) < outputs * hidden
    dR = FactoredGradient(dy_rows, h_rows) if factored and small else None
    return ReadoutGradient(
        library.product(dy_columns, h_rows) if dR is None else dR,
        None if r is None else xp.sum(dy_columns, axis=1),
        library.reshaped(dh, h.shape),
    )
