"""Losses: one file per loss, with its value and its gradient."""

from xprnn import checks
from xprnn.losses.binary_cross_entropy import BinaryCrossEntropy
from xprnn.losses.cross_entropy import PADDING, CrossEntropy
from xprnn.losses.elementwise import ElementwiseLoss
from xprnn.losses.gaussian import GaussianNLL
from xprnn.losses.huber import Huber
from xprnn.losses.poisson import PoissonNLL
from xprnn.losses.protocol import (
    CountsOnDevice,
    Loss,
    ReadoutGradients,
    ReadsOut,
    Weighted,
    mask_arguments,
)
from xprnn.losses.squared_error import SquaredError
from xprnn.losses.weighting import check_weights, combined

LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "huber": Huber,
    "gaussian": GaussianNLL,
    "poisson": PoissonNLL,
}

__all__ = [
    "LOSSES",
    "PADDING",
    "BinaryCrossEntropy",
    "CountsOnDevice",
    "CrossEntropy",
    "ElementwiseLoss",
    "GaussianNLL",
    "Huber",
    "Loss",
    "PoissonNLL",
    "ReadoutGradients",
    "ReadsOut",
    "SquaredError",
    "Weighted",
    "check_weights",
    "combined",
    "get_loss",
    "mask_arguments",
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
    return checks.instance(
        "loss",
        loss,
        LOSSES,
        Loss,
        "a name or a loss instance, with the methods check, entries, __call__ and value_and_grad",
    )
