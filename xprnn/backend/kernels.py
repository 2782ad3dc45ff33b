"""What a lowering to CUDA kernels needs from an array library; CuPy is the one that has it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from xprnn.backend.types import Array

Launch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""``launch(grid, block, arguments)``; integers are passed as 64 bits, arrays as pointers."""


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

    def on_device_of(self, a: Array) -> AbstractContextManager[object]:
        """Return a context in which kernels run on the device of ``a``."""
        ...
