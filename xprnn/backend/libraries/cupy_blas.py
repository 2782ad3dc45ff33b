"""A cuBLAS handle of our own, through ctypes, to the library that CuPy has loaded.

CuPy refuses its own handle while a stream is being captured.
"""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

from xprnn.backend.kernels import StepProduct
from xprnn.backend.libraries.cupy_products import prepared


class Blas:
    """A cuBLAS handle of our own on the current device, used through ctypes, and known to work.

    Parameters
    ----------
    stream : int
        The address of the stream to launch in.

    Raises
    ------
    OSError
        If the library that CuPy has loaded isn't found.
    RuntimeError
        If cuBLAS refuses a call.
    """

    def __init__(self, stream: int) -> None:
        cupy = importlib.import_module("cupy")
        self.library = loaded_library()
        handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", self.library.cublasCreate_v2(ctypes.byref(handle)))
        self.handle = handle
        hopper = int(cupy.cuda.Device().compute_capability) >= 90
        self.workspace: Any = cupy.empty((32 if hopper else 4) * 2**20, dtype="uint8")
        self.use(stream)
        tried = cupy.ones((1, 1), dtype="float32")
        prepared(StepProduct(tried, tried, cupy.empty((1, 1), dtype="float32")), self.gemm())(0)

    def use(self, stream: int) -> None:
        """Launch in a stream from now on."""
        handle, library = self.handle, self.library
        status = library.cublasSetStream_v2(handle, ctypes.c_void_p(stream))
        self._check("cublasSetStream", status)
        # Choosing a stream takes the workspace away.
        size = ctypes.c_size_t(self.workspace.nbytes)
        address = ctypes.c_void_p(self.workspace.data.ptr)
        status = library.cublasSetWorkspace_v2(handle, address, size)
        self._check("cublasSetWorkspace", status)

    def gemm(self) -> Callable[..., object]:
        """Return ``gemmEx`` with this handle."""
        handle, function, check = self.handle, self.library.cublasGemmEx, self._check
        pointer = ctypes.c_void_p

        def call(
            operation_a: int,
            operation_b: int,
            m: int,
            n: int,
            k: int,
            alpha: int,
            a: int,
            type_a: int,
            lda: int,
            b: int,
            type_b: int,
            ldb: int,
            beta: int,
            c: int,
            type_c: int,
            ldc: int,
            compute: int,
            algorithm: int,
        ) -> None:
            status = function(
                *(handle, operation_a, operation_b, m, n, k, pointer(alpha)),
                *(pointer(a), type_a, lda, pointer(b), type_b, ldb, pointer(beta)),
                *(pointer(c), type_c, ldc, compute, algorithm),
            )
            if status:
                check("cublasGemmEx", status)

        return call

    @staticmethod
    def _check(name: str, status: int) -> None:
        if status:
            raise RuntimeError(f"{name} failed with cuBLAS's status {status}")


def loaded_library() -> Any:
    """Return the library of cuBLAS that CuPy has loaded."""
    # As an attribute: only so does CuPy load the library before the binding to it.
    assert importlib.import_module("cupy_backends.cuda.libs").cublas
    runtime = importlib.import_module("cupy").cuda.runtime
    # A library that is loaded is found by its name, wherever it is.
    return ctypes.CDLL(f"libcublas.so.{runtime.runtimeGetVersion() // 1000}")
