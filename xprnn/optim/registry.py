"""Optimizers by name."""

from xprnn import checks
from xprnn.optim.adagrad import Adagrad
from xprnn.optim.adam import Adam
from xprnn.optim.adamw import AdamW
from xprnn.optim.protocol import Optimizer
from xprnn.optim.rmsprop import RMSprop
from xprnn.optim.rprop import Rprop
from xprnn.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rprop": Rprop,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer of that name with its default options, or the optimizer itself.

    Raises
    ------
    ValueError
        If there is no optimizer of that name.
    TypeError
        If it is neither a name nor an optimizer.
    """
    expected = (
        "a name or an instance with the methods init and update, such as xprnn.optim.SGD(0.01)"
    )
    return checks.instance("optimizer", optimizer, OPTIMIZERS, Optimizer, expected)
