"""The interface of a loss."""

from typing import Protocol, runtime_checkable

from xprnn.backend import HALVES, Backend, dtype_name
from xprnn.backend.types import Array, DType, Namespace


@runtime_checkable
class Loss(Protocol):
    """A number that says how far an output is from its target, and the gradient of that number.

    Attributes
    ----------
    reduction : {"mean", "sum"}
        How the losses of the target's entries are combined.
    """

    @property
    def reduction(self) -> str: ...

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        """Return the target in the form that the loss computes with; refuse one that doesn't fit.

        ``shape`` is the output's, so that a target can be checked before the output is computed.
        """
        ...

    def entries(self, target: Array, valid: Array | None = None) -> int:
        """Return the number of entries of a target that the loss sums or averages over."""
        ...

    def __call__(self, output: Array, target: Array, valid: Array | None = None) -> Array:
        """Return the value, a zero-dimensional array on the output's device.

        ``valid``, (T, B, 1) of bool, is the padding mask: a step where it is False has no loss and
        no entries.  It is passed only if there are lengths.
        """
        ...

    def value_and_grad(
        self, output: Array, target: Array, valid: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        """Return the value, and its gradient with respect to the output, zero in the padding.

        With ``overwrite`` the caller gives the output up, and the gradient may be written into it.
        """
        ...


@runtime_checkable
class CountsOnDevice(Protocol):
    """A loss that can count its entries without anybody waiting for the number."""

    def count(self, target: Array, valid: Array | None = None) -> int | Array:
        """Return what `Loss.entries` does, as a number on the device if it is found there."""
        ...


def mask_arguments(valid: Array | None) -> tuple[Array, ...]:
    """Return the arguments of a loss after output and target: the padding mask, if any."""
    return () if valid is None else (valid,)


def sum_dtype(xp: Namespace, a: Array) -> DType:
    """Return the dtype in which to sum the array's entries: its own, but float32 for 16 bits.

    A batch may have more entries than the largest number of float16, 65504; and in bfloat16 256 + 1
    is 256.
    """
    if a.dtype in (xp.float32, getattr(xp, "float64", None)):
        return a.dtype  # first, because NumPy computes a dtype's name anew for every question
    return xp.float32 if dtype_name(a.dtype) in HALVES else a.dtype
