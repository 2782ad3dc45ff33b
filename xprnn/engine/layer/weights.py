"""The parameters of one layer in one direction, and their gradients."""

from typing import NamedTuple

from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.gradients import add


class Weights(NamedTuple):
    """The parameters of one layer in one direction, or their gradients.

    Attributes
    ----------
    W : array, (G·H, I)
    U : array, (G·H, H)
    b : array, (G·H,), or None
    """

    W: Array
    U: Array
    b: Array | None = None


class ExtendedWeights(NamedTuple):
    """The same, of a cell that has more.

    Attributes
    ----------
    W, U, b
        As in `Weights`.
    units : tuple of array, (H,) each
        The cell's per-unit parameters, in the order in which it names them; None for one that is
        zero because there are no biases.
    gains : tuple of array, (G·H,) each
        Of a cell with layer normalisation: that of W x, and that of U h.
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
    weights : Weights or ExtendedWeights
        W's is a `SparseGradient` if the input was integers.
    x : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    weights: Weights | ExtendedWeights
    x: Array | None
    state: Arrays


def plus(total: Weights | ExtendedWeights, share: Weights | ExtendedWeights) -> ExtendedWeights:
    """Return what several segments put on the weights."""
    total, share = ExtendedWeights(*total), ExtendedWeights(*share)

    def sum_(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None else add(a, b)

    return ExtendedWeights(
        sum_(total.W, share.W),
        sum_(total.U, share.U),
        sum_(total.b, share.b),
        tuple(map(sum_, total.units, share.units)),
        tuple(map(sum_, total.gains, share.gains)),
    )
