"""The readout: a linear map from state to output.

::

    y = R h + r                                                       (1)
    dR = Σ dy hᵀ     dr = Σ dy     dh = Rᵀ dy                         from (1)

with the sums over all steps and sequences, each computed as one product.  Shapes: h (..., H),
y (..., O), R (O, H), r (O,).
"""

from functools import cache
from typing import NamedTuple, TypeGuard

from xprnn.backend import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.engine.gradients import FactoredGradient
from xprnn.losses import Loss, ReadsOut, mask_arguments

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


def reads_out(loss: Loss, rows: int, R: Array) -> TypeGuard[ReadsOut]:
    """Whether the loss of so many outputs is to compute them itself; R is the readout's weight."""
    # The library first, because torch.compile warns of a cached function.
    if library_of(R).readout_rows(rows, R) == 0:
        return False
    return _can_read_out(type(loss)) and loss.reads_out(rows, R)  # type: ignore[attr-defined]


@cache
def _can_read_out(kind: type) -> bool:
    # To ask a protocol takes microseconds.
    return issubclass(kind, ReadsOut)


def loss_of_readout(
    loss: ReadsOut,
    R: Array,
    r: Array | None,
    h: Array,
    target: Array,
    mask: Array | None,
    *,
    factored: bool,
) -> tuple[Array, ReadoutGradient]:
    """Return the loss of y and its gradients, without y; ``factored`` as in `read_out_backward`."""
    h_rows = library_of(h).rows(h)
    factored = factored and _is_small(h_rows.shape[0], R)
    arguments = mask_arguments(mask)
    value, found = loss.value_and_readout_grad(R, r, h, target, *arguments, of_output=factored)
    dR = FactoredGradient(found.output, h_rows) if factored else found.weight
    return value, ReadoutGradient(dR, found.bias, found.h)


def _is_small(count: int, R: Array) -> bool:
    """Whether the factors of dR, of so many rows, are small enough compared to it."""
    outputs, hidden = R.shape
    return bool(FACTORED * count * (outputs + hidden) < outputs * hidden)


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
    factored = factored and _is_small(dy_rows.shape[0], R)
    dR = FactoredGradient(dy_rows, h_rows) if factored else None
    if R.shape[0] >= MANY_OUTPUTS:
        dh = library.product(R.T, dy_columns).T
        dr = None if r is None else xp.sum(dy_columns, axis=1)
        weight = library.product(dy_columns, h_rows) if dR is None else dR
    else:
        pairs = [(dy_rows, R)] if dR is not None else [(dy_rows, R), (dy_columns, h_rows)]
        (dh, *made), dr = library.products_at_once(pairs, None if r is None else dy_rows)
        weight = made[0] if dR is None else dR
    return ReadoutGradient(weight, dr, library.reshaped(dh, h.shape))
