"""The interface of a loss."""

from typing import NamedTuple, Protocol, runtime_checkable

from xprnn.backend import HALVES, Backend, dtype_name
from xprnn.backend.types import Array, DType, Namespace


@runtime_checkable
class Loss(Protocol):
    """A number that says how far an output is from its target, and the gradient of that number.

    Attributes
    ----------
    reduction : {"mean", "sum", "none"}
        How the losses of the target's entries are combined.  With ``"none"`` they are not, and a
        gradient is that of their sum.
    """

    @property
    def reduction(self) -> str: ...

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        """Return the target in the form that the loss computes with; refuse one that doesn't fit.

        ``shape`` is the output's, so that a target can be checked before the output is computed.
        """
        ...

    def entries(self, target: Array, mask: Array | None = None) -> int | float:
        """Return the number of entries of a target that the loss sums or averages over.

        With weights it is the sum of the entries' weights.
        """
        ...

    def __call__(self, output: Array, target: Array, mask: Array | None = None) -> Array:
        """Return the value, a zero-dimensional array on the output's device.

        ``mask``, (T, B, 1) of bool, is the padding mask: a step where it is False has no loss and
        no entries.  It is passed only if there is padding.  To a loss with ``takes_weights`` it may
        be weights instead, floats of at least 0 in the shape (T, B, 1) or (B, 1), or in the
        target's, and zero in the padding: the loss of each entry counts as many times.
        """
        ...

    def value_and_grad(
        self, output: Array, target: Array, mask: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        """Return the value, and its gradient with respect to the output, zero in the padding.

        With ``overwrite`` the caller gives the output up, and the gradient may be written into it.
        """
        ...


@runtime_checkable
class CountsOnDevice(Protocol):
    """A loss that can count its entries without anybody waiting for the number."""

    def count(self, target: Array, mask: Array | None = None) -> int | Array:
        """Return what `Loss.entries` does, as a number on the device if it is found there."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """A loss that can weigh the entries of its target: see `Loss.__call__`."""

    @property
    def takes_weights(self) -> bool: ...


class ReadoutGradients(NamedTuple):
    """The gradients of a loss of a readout's output.

    Attributes
    ----------
    h : array, (..., H)
        Of what is read.
    output : array, (N, V), or None
        Of the output, if it was asked for instead of the weight's.
    weight : array, (V, H), or None
    bias : array, (V,), or None
        None without a bias.
    """

    h: Array
    output: Array | None
    weight: Array | None
    bias: Array | None


@runtime_checkable
class ReadsOut(Protocol):
    """A loss that can compute a linear readout together with itself, in blocks."""

    def reads_out(self, rows: int, R: Array) -> bool:
        """Whether it is faster, or takes less memory, than readout and loss one after the other.

        ``rows`` is the number of outputs, and R the readout's weight, (V, H).
        """
        ...

    def readout_value(
        self, R: Array, r: Array | None, h: Array, target: Array, mask: Array | None = None
    ) -> Array:
        """Return the value of the output R h + r: see `Loss.__call__`."""
        ...

    def value_and_readout_grad(
        self,
        R: Array,
        r: Array | None,
        h: Array,
        target: Array,
        mask: Array | None = None,
        *,
        of_output: bool,
    ) -> tuple[Array, ReadoutGradients]:
        """Return what `Loss.value_and_grad` would of the output R h + r, and the gradients.

        With ``of_output`` they are those of the output, and not of R.
        """
        ...


def mask_arguments(mask: Array | None) -> tuple[Array, ...]:
    """Return the arguments of a loss after output and target: the mask or weights, if any."""
    return () if mask is None else (mask,)


def sum_dtype(xp: Namespace, a: Array) -> DType:
    """Return the dtype in which to sum the array's entries: its own, but float32 for 16 bits.

    A batch may have more entries than the largest number of float16, 65504; and in bfloat16 256 + 1
    is 256.
    """
    if a.dtype in (xp.float32, getattr(xp, "float64", None)):
        return a.dtype  # first, because NumPy computes a dtype's name anew for every question
    return xp.float32 if dtype_name(a.dtype) in HALVES else a.dtype
