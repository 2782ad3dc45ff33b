"""The parameters of one layer in one direction, and their gradients."""

from typing import NamedTuple

from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.gradients import add


class Weights(NamedTuple):
    """The parameters of one layer in one direction, or their gradients.

    A plain tuple ``(W, U)`` or ``(W, U, b)`` means the same to `unroll` and `unroll_backward`.

    Attributes
    ----------
    W : array, (G·H, I)
    U : array, (G·H, H)
    b : array, (G·H,), or None
    units : tuple of array, (H,) each
        The cell's per-unit parameters, in the order in which the cell names them; None for one
        that is zero because the layer has no biases.
    gains : tuple of array, (G·H,) each
        Of a cell with layer normalisation: the gain of W x, and the gain of U h.
    """

    W: Array
    U: Array
    b: Array | None = None
    units: tuple[Array | None, ...] = ()
    gains: tuple[Array, ...] = ()


class LayerGradient(NamedTuple):
    """The gradients of one layer.

    Attributes
    ----------
    weights : Weights
        Its W is a `SparseGradient` if the input was integers.
    x : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    weights: Weights
    x: Array | None
    state: Arrays


def plus(total: Weights, share: Weights) -> Weights:
    """Return the sum of two segments' gradients."""

    def sum_(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None else add(a, b)

    return Weights(
        sum_(total.W, share.W),
        sum_(total.U, share.U),
        sum_(total.b, share.b),
        tuple(map(sum_, total.units, share.units)),
        tuple(map(sum_, total.gains, share.gains)),
    )
