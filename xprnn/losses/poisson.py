"""The negative log-likelihood of counts."""

from dataclasses import dataclass

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class PoissonNLL(ElementwiseLoss):
    """The negative log-likelihood of counts that have a Poisson distribution.

    ::

        λ = exp(y), the expected count
        l = λ - target y                                              (1)
        l' = λ - target                                               from (1)

    without log(target!), which does not depend on the output.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        See `xprnn.losses.elementwise.ElementwiseLoss`.

    Notes
    -----
    The same as ``torch.nn.PoissonNLLLoss()``.

    Examples
    --------
    >>> import numpy as np
    >>> float(PoissonNLL()(np.zeros((1, 1)), np.array([[3.0]])))
    1.0
    """

    def check_entries(self, target: Array, backend: Backend) -> None:
        if not backend.library.all_true(target >= 0):
            raise ValueError("target has a negative entry: expected counts, at least 0")

    def each(self, xp: Namespace, y: Array, target: Array) -> tuple[Array, Array]:
        expected = xp.exp(y)
        return expected - target * y, expected - target  # (1)
