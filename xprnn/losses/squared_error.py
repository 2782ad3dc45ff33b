"""Half the squared error."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn import checks
from xprnn.backend import Backend, Library, library_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.losses.protocol import sum_dtype
from xprnn.losses.weighting import REDUCTIONS, are_weights, count_entries, share


@dataclass(frozen=True)
class SquaredError:
    """Half the squared difference of output and target.

    ::

        L = s Σ ½ (y - target)²                                       (1)
        dy = s (y - target)                                           from (1)

    over all entries (T·B·O of a sequence of outputs; with lengths, those of the steps that exist),
    with s = 1 for the sum and s = 1/entries for the mean.  With weights w each entry counts w times
    in both, and in the number of entries.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        ``"none"``: the value is that of each entry, and the gradient that of their sum.

    Raises
    ------
    ValueError
        If the reduction is none of them.

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

    takes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.choice("reduction", self.reduction, REDUCTIONS)

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        target = checks.array("target", target, backend, shape)
        checks.finite("target", target, backend)
        return target

    def entries(self, target: Array, mask: Array | None = None) -> int | float:
        counted = self.count(target, mask)
        return float(counted) if are_weights(mask) else int(counted)

    def count(self, target: Array, mask: Array | None = None) -> int | Array:
        return count_entries(mask, target, int(target.shape[-1]))

    @entry
    def __call__(self, output: Array, target: Array, mask: Array | None = None) -> Array:
        library = library_of(output)
        fused = self._fused(library, output, target, mask, gradient=False)
        if fused is not None:
            return fused[0]
        difference, scale = self._difference(library, output, target, mask)
        weights = mask if are_weights(mask) else None
        return self._value(library, difference, scale, weights)

    @entry
    def value_and_grad(
        self, output: Array, target: Array, mask: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        del overwrite  # an offer that this loss has no use for
        library = library_of(output)
        fused = self._fused(library, output, target, mask, gradient=True)
        if fused is not None:
            return fused
        difference, scale = self._difference(library, output, target, mask)
        weights = mask if are_weights(mask) else None
        value = self._value(library, difference, scale, weights)
        if weights is not None:
            difference = difference * weights
        return value, library.times(difference, scale)  # from (1)

    def _fused(
        self,
        library: Library,
        output: Array,
        target: Array,
        mask: Array | None,
        *,
        gradient: bool,
    ) -> tuple[Array, Array] | None:
        """Return value and gradient in few kernels, where the library has them."""
        if library.fused is None or self.reduction == "none" or are_weights(mask):
            return None
        rows, mean = library.rows, self.reduction == "mean"
        places = None if mask is None else library.namespace().reshape(mask, (-1,))
        value, d = library.fused.square_loss(
            rows(output), rows(target), places, mean=mean, gradient=gradient
        )
        return value, None if d is None else library.namespace().reshape(d, output.shape)

    def _value(
        self, library: Library, difference: Array, scale: float | Array, weights: Array | None
    ) -> Array:
        xp = library.namespace()
        wide = xp.astype(difference, sum_dtype(xp, difference), copy=False)
        squares = library.times(wide, wide)
        if weights is not None:
            squares = squares * weights
        return 0.5 * squares if self.reduction == "none" else 0.5 * scale * xp.sum(squares)  # (1)

    def _difference(
        self, library: Library, output: Array, target: Array, mask: Array | None
    ) -> tuple[Array, float | Array]:
        """Return y - target, and s."""
        difference = library.minus(output, target)
        mean = self.reduction == "mean"
        if mask is not None:
            xp = library.namespace()
            if are_weights(mask):
                return difference, share(xp, self.count(target, mask)) if mean else 1.0
            difference = library.zero_unless(mask, difference)
            if mean and library.traced(mask):
                steps = xp.sum(xp.astype(mask, sum_dtype(xp, output)))
                return difference, 1.0 / xp.maximum(steps * output.shape[-1], 1.0)
        # The loss of an empty batch is zero, not 0/0.
        count = max(1, self.entries(target, mask)) if mean else 1
        return difference, 1.0 / count
