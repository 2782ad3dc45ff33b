"""The readout: a linear map from state to output.

::

    y = R h + r                                                       (1)
    dR = Σ dy hᵀ     dr = Σ dy     dh = Rᵀ dy                         from (1)

with the sums over all steps and sequences, each one product.  Shapes: h (..., H), y (..., O),
R (O, H), r (O,).
"""

import math
from typing import NamedTuple

from xprnn.backend import primitives_of
from xprnn.backend.types import Array, Namespace


class ReadoutGradient(NamedTuple):
    """The gradients of weight (O, H), bias (O,) and input (..., H)."""

    weight: Array
    bias: Array | None
    h: Array


def read_out(xp: Namespace, R: Array, r: Array | None, h: Array) -> Array:
    """Return y (..., O)."""
    y = primitives_of(R).product(_rows(xp, h), R.T)
    if r is not None:
        y += r
    return xp.reshape(y, (*h.shape[:-1], R.shape[0]))


def read_out_backward(
    xp: Namespace, R: Array, r: Array | None, h: Array, dy: Array
) -> ReadoutGradient:
    """Return the gradients, given that of y (..., O)."""
    dy_columns = _rows(xp, dy).T
    # As (Rᵀ dyᵀ)ᵀ, because OpenBLAS needs half the time for this order when there are few rows and
    # a vocabulary of outputs, and as much when there are not.
    product = primitives_of(R).product
    dh = product(R.T, dy_columns).T
    return ReadoutGradient(
        product(dy_columns, _rows(xp, h)),
        None if r is None else xp.sum(dy_columns, axis=1),
        xp.reshape(dh, h.shape),
    )


def _rows(xp: Namespace, a: Array) -> Array:
    """Merge all axes but the last: one product is faster than one a step."""
    # The count is spelled out because -1 has no meaning for an empty batch.
    return xp.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
