"""The parameters of one layer in one direction, and their gradients."""

from collections.abc import Mapping
from typing import NamedTuple

from xprnn.backend import library_of
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.gradients import add


class Weights(NamedTuple):
    """The parameters of one layer in one direction, or their gradients.

    A plain tuple ``(W, U)`` or ``(W, U, b)`` means the same to `unroll` and `unroll_backward`, and
    ``(W, None)`` or ``(W, None, b)`` for a cell that has no U.

    Attributes
    ----------
    W : array, (G·H, I)
    U : array, (G·H, H), or None
        None for a cell that does not read v, such as `MinGRU`.
    b : array, (G·H,), or None
    units : tuple of array, (H,) each
        The cell's per-unit parameters, in the order in which the cell names them; None for one
        that is zero because the layer has no biases.
    gains : tuple of array, (G·H,) each
        Of a cell with layer normalisation: the gain of W x, and the gain of U h.
    """

    W: Array
    U: Array | None
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


def check_same_weights(
    what: str, then: Mapping[str, Array | None], now: Mapping[str, Array | None]
) -> None:
    """Refuse a tape that other weights made; equal ones in other arrays are the same.

    Parameters
    ----------
    what : str
        What holds the tape, for the message.
    then, now : mapping of str to array or None
        The weights that made the tape, and the present ones, of the same names and shapes.
    """
    replaced = [
        name for name, a in now.items() if a is not then[name] and not _equal(a, then[name])
    ]
    if replaced:
        raise ValueError(
            f"{what} was made with other weights than those given now: {', '.join(replaced)} "
            "differ; expected a backward pass before an update, and the run of this network"
        )


def _equal(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return tuple(a.shape) == tuple(b.shape) and library_of(a).all_true(a == b)
