"""How fast the card copies memory and multiplies matrices, measured: what times are shares of."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ci.gpu.record import TRIAL

COPIED = 2**20 if TRIAL else 2**29
"""Bytes of the array that is copied."""
SIDE = 32 if TRIAL else 8192
"""Of the square matrices that are multiplied."""
FLOAT16, BFLOAT16, FLOAT32 = 2, 14, 0
COMPUTE_FLOAT32, COMPUTE_TF32 = 68, 77
"""cuBLAS's numbers for its types."""
TYPES = {
    "float32": ("float32", FLOAT32, COMPUTE_FLOAT32),
    "tf32": ("float32", FLOAT32, COMPUTE_TF32),
    "float16": ("float16", FLOAT16, COMPUTE_FLOAT32),
    # Arrays of zeros, whatever dtype CuPy calls them: it has bfloat16 not everywhere.
    "bfloat16": ("uint16", BFLOAT16, COMPUTE_FLOAT32),
}


def _best(work: Callable[[], object], calls: int = 5) -> float:
    """Return the seconds of the fastest call."""
    stream = importlib.import_module("cupy").cuda.get_current_stream()
    times = []
    for _ in range(calls + 1):
        stream.synchronize()
        started = time.perf_counter()
        work()
        stream.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def bandwidth() -> float:
    """Return the bytes a second of a copy on the device, reads and writes both counted."""
    cupy = importlib.import_module("cupy")
    source = cupy.zeros(COPIED // 4, dtype="float32")
    target = cupy.empty_like(source)
    return 2 * COPIED / _best(lambda: cupy.copyto(target, source))


def product_rate(precision: str) -> float:
    """Return the floating-point operations a second of a large product of square matrices."""
    cupy = importlib.import_module("cupy")
    blas: Any = importlib.import_module("cupy_backends.cuda.libs").cublas
    dtype, kind, compute = TYPES[precision]
    a, b, c = (cupy.zeros((SIDE, SIDE), dtype=dtype) for _ in range(3))
    handle = cupy.cuda.device.get_cublas_handle()
    factors = np.asarray([1, 0], "float32")
    one, zero = factors.ctypes.data, factors.ctypes.data + factors.itemsize

    def multiply() -> None:
        blas.gemmEx(
            *(handle, 0, 0, SIDE, SIDE, SIDE, one, a.data.ptr, kind, SIDE, b.data.ptr, kind, SIDE),
            *(zero, c.data.ptr, kind, SIDE, compute, -1),
        )

    return 2 * SIDE**3 / _best(multiply)
