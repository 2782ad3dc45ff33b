"""The readout: a linear map from state to output.

::

    y = R h + r                                                       (1)
    dR = Σ dy hᵀ     dr = Σ dy     dh = Rᵀ dy                         from (1)

with the sums over all steps and sequences, each one product.  Shapes: h (..., H), y (..., O),
R (O, H), r (O,).
"""

from typing import NamedTuple

from xprnn.backend import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.engine.gradients import FactoredGradient

VOCABULARY = 1024
"""Outputs that are many: more than units, as a rule."""

FEWER = 4
"""How many times less entries than dR its factors dy and h must have to be kept as they are.

With half as many a step that clips by the norm was measured to be slower: the norm costs the
products of all rows with each other, and dR has still to be made.
"""


class ReadoutGradient(NamedTuple):
    """The gradients of weight (O, H), bias (O,) and input (..., H)."""

    weight: Array | FactoredGradient
    bias: Array | None
    h: Array


def read_out(xp: Namespace, R: Array, r: Array | None, h: Array) -> Array:
    """Return y (..., O)."""
    library = library_of(R)
    y = library.product(library.rows(h), R.T, r)
    return xp.reshape(y, (*h.shape[:-1], R.shape[0]))


def read_out_backward(
    xp: Namespace, R: Array, r: Array | None, h: Array, dy: Array, *, factored: bool = False
) -> ReadoutGradient:
    """Return the gradients, given that of y (..., O).

    With ``factored`` that of the weight is dy and h themselves where they have `FEWER` times less
    entries: don't write into either as long as it is in use.
    """
    library = library_of(R)
    dy_rows, h_rows = library.rows(dy), library.rows(h)
    dy_columns = dy_rows.T
    count, (outputs, hidden) = dy_rows.shape[0], R.shape
    # As (Rᵀ dyᵀ)ᵀ with a vocabulary: OpenBLAS needs half the time for this order and few rows.
    turned = outputs >= VOCABULARY
    dh = library.product(R.T, dy_columns).T if turned else library.product(dy_rows, R)
    fewer = FEWER * count * (outputs + hidden) < outputs * hidden
    dR = FactoredGradient(dy_rows, h_rows) if factored and fewer else None
    return ReadoutGradient(
        library.product(dy_columns, h_rows) if dR is None else dR,
        None if r is None else xp.sum(dy_columns, axis=1),
        xp.reshape(dh, h.shape),
    )
