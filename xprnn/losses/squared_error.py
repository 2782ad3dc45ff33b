"""Half the squared error."""

import math
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend import Backend, Library, library_of, namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.losses.protocol import sum_dtype


@dataclass(frozen=True)
class SquaredError:
    """Half the squared difference of output and target.

    ::

        L = s Σ ½ (y - target)²                                       (1)
        dy = s (y - target)                                           from (1)

    over all entries (T·B·O of a sequence of outputs; with lengths, those of the steps that exist),
    with s = 1 for the sum and s = 1/entries for the mean.

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

    def entries(self, target: Array, valid: Array | None = None) -> int:
        return int(self.count(target, valid))

    def count(self, target: Array, valid: Array | None = None) -> int | Array:
        if valid is None:
            return math.prod(target.shape)
        xp = namespace_of(valid)
        return xp.sum(xp.astype(valid, xp.int32)) * int(target.shape[-1])

    @entry
    def __call__(self, output: Array, target: Array, valid: Array | None = None) -> Array:
        library = library_of(output)
        fused = self._fused(library, output, target, valid, gradient=False)
        if fused is not None:
            return fused[0]
        return self._value(library, *self._difference(library, output, target, valid))

    @entry
    def value_and_grad(
        self, output: Array, target: Array, valid: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        del overwrite  # an offer that this loss has no use for
        library = library_of(output)
        fused = self._fused(library, output, target, valid, gradient=True)
        if fused is not None:
            return fused
        difference, scale = self._difference(library, output, target, valid)
        value = self._value(library, difference, scale)
        return value, library.times(difference, scale)  # from (1)

    def _fused(
        self,
        library: Library,
        output: Array,
        target: Array,
        valid: Array | None,
        *,
        gradient: bool,
    ) -> tuple[Array, Array] | None:
        """Return value and gradient in few kernels, where the library has them."""
        if library.fused is None:
            return None
        rows, mean = library.rows, self.reduction == "mean"
        mask = None if valid is None else library.namespace().reshape(valid, (-1,))
        value, d = library.fused.square_loss(
            rows(output), rows(target), mask, mean=mean, gradient=gradient
        )
        return value, None if d is None else library.namespace().reshape(d, output.shape)

    def _value(self, library: Library, difference: Array, scale: float | Array) -> Array:
        xp = library.namespace()
        wide = xp.astype(difference, sum_dtype(xp, difference), copy=False)
        return 0.5 * scale * xp.sum(library.times(wide, wide))  # (1)

    def _difference(
        self, library: Library, output: Array, target: Array, valid: Array | None
    ) -> tuple[Array, float | Array]:
        """Return y - target, and s."""
        difference = library.minus(output, target)
        if valid is not None:
            xp = library.namespace()
            difference = library.zero_unless(valid, difference)
            if self.reduction == "mean" and library.traced(valid):
                steps = xp.sum(xp.astype(valid, sum_dtype(xp, output)))
                return difference, 1.0 / xp.maximum(steps * output.shape[-1], 1.0)
        # The loss of an empty batch is zero, not 0/0.
        count = 1 if self.reduction == "sum" else max(1, self.entries(target, valid))
        return difference, 1.0 / count
