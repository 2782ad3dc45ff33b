"""What losses share that compare each entry of an output with one of the target."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn import checks
from xprnn.backend import Backend, library_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array, Namespace
from xprnn.losses.protocol import sum_dtype
from xprnn.losses.weighting import REDUCTIONS, are_weights, count_entries, share


@dataclass(frozen=True)
class ElementwiseLoss:
    """A loss of one entry at a time, with its padding, weights and reduction.

    ::

        L = s Σ w l(y, target)                                        (1)
        dy = s w l'(y, target)                                        from (1)

    over the entries of the target, with s = 1 for the sum and s = 1/Σ w for the mean; w is 1 where
    there are no weights, and 0 in the padding.  A subclass has l and its derivative.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        ``"none"``: the value is w l of each entry, in the target's shape, and the gradient that of
        their sum.

    Raises
    ------
    ValueError
        If the reduction is none of them.
    """

    reduction: str = "mean"

    takes_weights: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    """How many entries of the output there are for one of the target."""

    def __post_init__(self) -> None:
        checks.choice("reduction", self.reduction, REDUCTIONS)

    def each(self, xp: Namespace, y: Array, target: Array) -> tuple[Array, Array]:
        """Return l and its derivative with respect to y, for each entry."""
        raise NotImplementedError(f"{type(self).__name__}.each: expected the loss of an entry")

    def check_entries(self, target: Array, backend: Backend) -> None:
        """Refuse a target with entries that the loss is not defined for."""
        del target, backend

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        if shape[-1] % self.outputs:
            raise ValueError(
                f"the output has {shape[-1]} entries for a place: {type(self).__name__} takes "
                f"{self.outputs} for each entry of the target, so expected an even number"
            )
        shape = (*shape[:-1], shape[-1] // self.outputs)
        target = checks.array("target", target, backend, shape)
        checks.finite("target", target, backend)
        self.check_entries(target, backend)
        return target

    def entries(self, target: Array, mask: Array | None = None) -> int | float:
        counted = self.count(target, mask)
        return float(counted) if are_weights(mask) else int(counted)

    def count(self, target: Array, mask: Array | None = None) -> int | Array:
        return count_entries(mask, target, int(target.shape[-1]))

    @entry
    def __call__(self, output: Array, target: Array, mask: Array | None = None) -> Array:
        return self.value_and_grad(output, target, mask)[0]

    @entry
    def value_and_grad(
        self, output: Array, target: Array, mask: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        del overwrite  # an offer that this loss has no use for
        library = library_of(output)
        xp = library.namespace()
        wide = sum_dtype(xp, output)
        y, wanted = (xp.astype(a, wide, copy=False) for a in (output, target))
        value, derivative = self.each(xp, y, wanted)
        scale: float | Array = 1.0
        if mask is not None and are_weights(mask):
            w = xp.astype(mask, wide, copy=False)
            value = value * w
            wider = self.outputs > 1 and w.shape[-1] > 1
            derivative = derivative * (xp.concat([w] * self.outputs, axis=-1) if wider else w)
        elif mask is not None:
            value, derivative = (library.zero_unless(mask, a) for a in (value, derivative))
        if self.reduction == "mean":
            total = self.count(target, mask)
            if isinstance(total, int):
                # The loss of an empty batch is zero, not 0/0.
                scale = 1 / max(1, total)
            else:
                scale = share(xp, xp.astype(total, wide, copy=False))
            derivative = derivative * scale  # from (1)
        if self.reduction != "none":
            value = scale * xp.sum(value)  # (1)
        return value, xp.astype(derivative, output.dtype, copy=False)
