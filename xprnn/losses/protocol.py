"""What the engine asks of a loss."""

from typing import Protocol, runtime_checkable

from xprnn.backend import Backend, dtype_name
from xprnn.backend.types import Array, DType, Namespace


@runtime_checkable
class Loss(Protocol):
    """A number that says how far an output is from its target, and that number's gradient.

    Attributes
    ----------
    reduction : {"mean", "sum"}
        Over the entries of the target.
    """

    @property
    def reduction(self) -> str: ...

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        """Return the target as the loss computes with it; refuse one that can't fit.

        ``shape`` is the output's, which need not have been computed yet.
        """
        ...

    def entries(self, target: Array, valid: Array | None = None) -> int:
        """Return how many entries of a target the loss is summed or averaged over."""
        ...

    def __call__(self, output: Array, target: Array, valid: Array | None = None) -> Array:
        """Return the value, a zero-dimensional array on the output's device.

        ``valid``, (T, B, 1) of bool, says which steps are within their sequence: the others have no
        loss, and count for no entries.  It is only passed where there are lengths.
        """
        ...

    def value_and_grad(
        self, output: Array, target: Array, valid: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        """Return the value, and its gradient with respect to the output, zero where not valid.

        With ``overwrite`` the caller gives the output up, so that the gradient may take its place.
        """
        ...


def where_valid(valid: Array | None) -> tuple[Array, ...]:
    """Return the argument that a loss is to be called with after output and target, if any."""
    return () if valid is None else (valid,)


def sum_dtype(xp: Namespace, a: Array) -> DType:
    """Return the dtype to sum the array's entries in: its own, but float32 for float16.

    Half precision has no numbers above 65504, and a batch has more entries than that.
    """
    if a.dtype in (xp.float32, xp.float64):
        return a.dtype  # without a name, which NumPy makes anew whenever it is asked
    return xp.float32 if dtype_name(a.dtype) == "float16" else a.dtype
