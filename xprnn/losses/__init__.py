"""Losses: one file each, its value and its gradient."""

from xprnn.losses.cross_entropy import PADDING, CrossEntropy
from xprnn.losses.protocol import Loss, where_valid
from xprnn.losses.squared_error import SquaredError

LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "cross_entropy": CrossEntropy,
}

__all__ = [
    "LOSSES",
    "PADDING",
    "CrossEntropy",
    "Loss",
    "SquaredError",
    "get_loss",
    "where_valid",
]


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss of that name with its default options, or the loss itself.

    Raises
    ------
    ValueError
        If there is no loss of that name.
    TypeError
        If it is neither a name nor a loss.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            known = ", ".join(repr(name) for name in LOSSES)
            raise ValueError(f"unknown loss {loss!r}: known are {known}")
        return LOSSES[loss]()
    if type(loss) in LOSSES.values():
        # What the question below takes as long to answer as a small network its forward pass.
        return loss
    if isinstance(loss, type) or not isinstance(loss, Loss):
        raise TypeError(
            f"loss is {loss!r}: expected a name or a loss instance, with "
            "the methods check, entries, __call__ and value_and_grad"
        )
    return loss
