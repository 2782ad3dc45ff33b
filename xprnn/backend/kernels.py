"""What a lowering to CUDA kernels needs from an array library; CuPy is the one that has it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

from xprnn.backend.types import Array

Launch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""``launch(grid, block, arguments)``; integers are passed as 64 bits, arrays as pointers."""


class StepProduct(NamedTuple):
    """A matrix product at every step of a time loop: out = a(t) b, or a(t) bᵀ.

    Attributes
    ----------
    a : array, (T, B, K) or (B, K)
        Of all steps, of which step t takes ``a[t]``; or the same array at every step.
    b : array, (K, N), or (N, K) if ``transposed``
    out : array, (B, N)
    transposed : bool
    """

    a: Array
    b: Array
    out: Array
    transposed: bool = False


class StepLaunch(NamedTuple):
    """A kernel at every step of a time loop, whose first argument is t.

    Attributes
    ----------
    launch : Launch
    grid, block : tuple of int
    arguments : tuple
        Those after t.
    """

    launch: Launch
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]


class Kernels(Protocol):
    """Compiles kernels in CUDA C, and makes the calls between them that work on arrays."""

    def compiled(self, name: str, text: str) -> Launch:
        """Return the kernel ``name`` of a source text, compiled at its first launch on a device."""
        ...

    def contiguous(self, a: Array) -> Array:
        """Return the array in row-major order, as a copy if it has another order."""
        ...

    def product(self, a: Array, b: Array, out: Array) -> object:
        """Write the matrix product a b into ``out``."""
        ...

    def repeat(self, steps: range, calls: Sequence[StepProduct | StepLaunch]) -> None:
        """Make these calls, one after the other, at each of these steps.

        All arrays are contiguous and on the current device, which isn't waited for.
        """
        ...

    def on_device_of(self, a: Array) -> AbstractContextManager[object]:
        """Return a context in which kernels run on the device of ``a``."""
        ...
