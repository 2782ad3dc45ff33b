"""The products within a time loop on CuPy: cuBLAS by addresses, which are computed once.

``a.dot(b, out)`` spends 9 µs in Python and C++ before it calls cuBLAS; CuPy's own binding, given
addresses, spends 0.4 µs (on the host, with CuPy 14).

cuBLAS stores matrices by columns, these arrays are stored by rows, so what it sees is the transpose
of each.  To it, C = A B is Cᵀ = Bᵀ Aᵀ: the operands change places, and B, which it sees as Bᵀ,
isn't transposed; for C = A Bᵀ it is.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend.host.arrays import np
from xprnn.backend.kernels import StepProduct

Gemm: TypeAlias = Callable[..., object]
"""cuBLAS's ``gemmEx``, with its arguments after the handle."""

_NORMAL, _TRANSPOSED, _DEFAULT_ALGORITHM = 0, 1, -1


class _Type(NamedTuple):
    """How cuBLAS multiplies arrays of a dtype, in its numbers.

    Attributes
    ----------
    stored : int
        Of the entries (cudaDataType).
    compute : int
        Of sums (cublasComputeType_t).
    """

    stored: int
    compute: int


_TYPES = {
    "float16": _Type(2, 68),
    "bfloat16": _Type(14, 68),
    "float32": _Type(0, 68),
    "float64": _Type(1, 70),
}
_TF32 = 77

# One and zero, which cuBLAS reads at an address, in the type of the sums.
_FACTORS = {70: np.asarray([1, 0], "float64"), 68: np.asarray([1, 0], "float32")}


def cupys_gemm() -> Gemm:
    """Return ``gemmEx`` through CuPy's binding, with CuPy's handle for the current device."""
    # As an attribute: only so does CuPy load the library before the binding to it.
    blas: Any = importlib.import_module("cupy_backends.cuda.libs").cublas
    handle = importlib.import_module("cupy").cuda.device.get_cublas_handle()
    gemm = blas.gemmEx

    def call(*arguments: int) -> object:
        return gemm(handle, *arguments)

    return call


def prepared(product: StepProduct, gemm: Gemm) -> Callable[[int], object]:
    """Return a function that makes the product of step t.

    Parameters
    ----------
    product : StepProduct
        Of contiguous arrays of one dtype.
    gemm : callable
    """
    a, b, out, transposed, tf32 = product
    (rows, inner), columns = a.shape[-2:], out.shape[1]
    stored, compute = _TYPES[str(a.dtype)]
    factors = _FACTORS[compute].ctypes.data
    zero = factors + _FACTORS[compute].itemsize
    if str(a.dtype) == "float32" and (tf32 or tf32_wanted()):
        compute = _TF32
    start, stride = a.data.ptr, a.strides[0] if a.ndim == 3 else 0
    operation = _TRANSPOSED if transposed else _NORMAL
    before = (operation, _NORMAL, columns, rows, inner, factors, b.data.ptr, stored, b.shape[1])
    after = (stored, inner, zero, out.data.ptr, stored, columns, compute, _DEFAULT_ALGORITHM)

    def multiply(t: int) -> object:
        return gemm(*before, start + t * stride, *after)

    return multiply


def tf32_wanted() -> bool:
    """Return whether float32 products may round their operands to TF32, as CuPy's own do."""
    return os.environ.get("CUPY_TF32", "0") not in {"", "0"}
