"""Kernels written in CUDA C, for libraries that can compile and launch them."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import Any, Protocol, TypeAlias

from xprnn.backend.types import Array

Launch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""``launch(grid, block, arguments)``; integers are passed as 64 bits, arrays as pointers."""


class Kernels(Protocol):
    """What a lowering to CUDA kernels needs of a library."""

    def compiled(self, name: str, text: str) -> Launch:
        """Return a kernel, compiled when it is launched for the first time on a device."""
        ...

    def contiguous(self, a: Array) -> Array:
        """Return the array in C's order, a copy if it is in another."""
        ...

    def product(self, a: Array, b: Array, out: Array) -> object:
        """Write a b, both of two axes, into ``out``."""
        ...

    def beside(self, a: Array) -> AbstractContextManager[object]:
        """Return a context in which kernels run on the device of ``a``."""
        ...


class CuPyKernels:
    """Those of CuPy."""

    def compiled(self, name: str, text: str) -> Launch:
        return _compiled(name, text)

    def contiguous(self, a: Array) -> Array:
        return importlib.import_module("cupy").ascontiguousarray(a)

    def product(self, a: Array, b: Array, out: Array) -> object:
        # cuBLAS straight away: matmul is a generalised ufunc there, which looks at its operands in
        # Python first.  Transposed matrices are not copied; the output must be contiguous.
        return a.dot(b, out)

    def beside(self, a: Array) -> AbstractContextManager[object]:
        device: AbstractContextManager[object] = a.device
        return device


@lru_cache(maxsize=1024)
def _compiled(name: str, text: str) -> Launch:
    # Not of a RawModule, which compiles at once, and for the device of that moment.
    launch: Launch = importlib.import_module("cupy").RawKernel(text, name)
    return launch


@cache
def square_sum() -> Callable[[Array], Array]:
    """Return a function that sums the squares of an array's entries, in float64, in one launch."""
    kernel: Callable[[Array], Array] = importlib.import_module("cupy").ReductionKernel(
        "T x",
        "float64 y",
        "static_cast<double>(x) * static_cast<double>(x)",
        "a + b",
        "y = a",
        "0",
        "xprnn_square_sum",
    )
    return kernel
