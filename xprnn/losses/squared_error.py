"""Half the squared error."""

import math
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend import Backend, namespace_of
from xprnn.backend.types import Array
from xprnn.losses.protocol import sum_dtype


@dataclass(frozen=True)
class SquaredError:
    """Half the squared difference of output and target.

    ::

        L = s Σ ½ (y - target)²                                       (1)
        dy = s (y - target)                                           from (1)

    over all entries (T·B·O of a sequence of outputs), with s = 1 for the sum and s = 1/entries for
    the mean.

    Parameters
    ----------
    reduction : {"mean", "sum"}

    Raises
    ------
    ValueError
        If the reduction is neither.

    Notes
    -----
    ``torch.nn.MSELoss`` has no ½, so its value and its gradient are twice these.

    Examples
    --------
    >>> import numpy as np
    >>> float(SquaredError()(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])))
    1.0
    """

    reduction: str = "mean"

    def __post_init__(self) -> None:
        checks.choice("reduction", self.reduction, ("mean", "sum"))

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        target = checks.array("target", target, backend, shape)
        checks.finite("target", target, backend)
        return target

    def entries(self, target: Array) -> int:
        return math.prod(target.shape)

    def __call__(self, output: Array, target: Array) -> Array:
        return self._value(output, output - target)

    def value_and_grad(
        self, output: Array, target: Array, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        del overwrite  # one difference is all there is to hold
        difference = output - target
        return self._value(output, difference), difference * self._scale(output)  # from (1)

    def _value(self, output: Array, difference: Array) -> Array:
        xp = namespace_of(output)
        difference = xp.astype(difference, sum_dtype(xp, output), copy=False)
        squares = xp.sum(difference * difference)
        return 0.5 * self._scale(output) * squares  # (1)

    def _scale(self, output: Array) -> float:
        # An empty batch has a loss of zero, not of 0/0.
        return 1.0 if self.reduction == "sum" else 1.0 / max(1, math.prod(output.shape))
