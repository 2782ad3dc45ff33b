"""Cross-entropy of yes-or-no targets, the logistic function included."""

from dataclasses import dataclass

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class BinaryCrossEntropy(ElementwiseLoss):
    """The negative log-probability of yes-or-no targets; the output is their log-odds.

    ::

        p = σ(y)
        l = -target log p - (1 - target) log(1 - p)
          = max(y, 0) - target y + log(1 + exp(-|y|))                 (1)
        l' = σ(y) - target                                            from (1)

    Each entry of the output is a question of its own, so several answers may be yes.  A target
    between 0 and 1 is a probability.  The unit is the nat.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        See `xprnn.losses.elementwise.ElementwiseLoss`.

    Notes
    -----
    The same as ``torch.nn.BCEWithLogitsLoss``.  (1) holds for any y without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> float(BinaryCrossEntropy()(np.zeros((1, 1)), np.ones((1, 1))))    # log 2
    0.6931471805599453
    """

    def check_entries(self, target: Array, backend: Backend) -> None:
        if not backend.library.all_true((target >= 0) & (target <= 1)):
            raise ValueError(
                "target has an entry below 0 or above 1: expected 0 for no, 1 for yes, or a "
                "probability between them"
            )

    def each(self, xp: Namespace, y: Array, target: Array) -> tuple[Array, Array]:
        value = xp.maximum(y, 0.0) - target * y + xp.log1p(xp.exp(-xp.abs(y)))  # (1)
        # By tanh, because exp(-y) in 1/(1 + exp(-y)) can overflow.
        return value, 0.5 * xp.tanh(0.5 * y) + 0.5 - target  # from (1)
