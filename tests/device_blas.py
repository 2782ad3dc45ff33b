"""A stand-in for cuBLAS, streams and CUDA graphs: matrices at addresses of the host, by columns.

It has CuPy's binding, ``cupy_backends.cuda.libs.cublas``, with that one's rules (none of its calls
while a stream is captured), and the C library that ``ctypes`` would find.  While a stream is
captured nothing is computed: what would be is written down, and done by the graph.
"""

import ctypes
from collections import Counter
from types import SimpleNamespace

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

NULL_STREAM = 0
TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: bfloat16}
COMPUTE = {68: np.float32, 77: np.float32, 70: np.float64}
OWN_HANDLE, CUPYS_HANDLE = 7, 5
SUCCESS, INVALID_VALUE = 0, 7


def matrix(address, dtype, rows, columns, ld):
    """Return a matrix of the host, stored by columns ``ld`` entries apart."""
    size = np.dtype(dtype).itemsize
    assert ld >= max(1, rows)
    held = (ctypes.c_char * (size * (ld * (columns - 1) + rows))).from_address(address)
    flat = np.frombuffer(held, dtype)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, ld * size))


def gemm(*arguments):
    """Compute C = alpha op(A) op(B) + beta C as cuBLAS defines it; return its status."""
    ta, tb, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, compute, way = (
        arguments
    )
    if way != -1 or type_a != type_b or type_b != type_c or compute not in COMPUTE:
        return INVALID_VALUE
    dtype, wide = TYPES[type_a], COMPUTE[compute]
    if (dtype == np.float64) != (wide == np.float64):
        return INVALID_VALUE
    one, zero = (matrix(p, wide, 1, 1, 1)[0, 0] for p in (alpha, beta))
    left = matrix(a, dtype, k, m, lda).T if ta else matrix(a, dtype, m, k, lda)
    right = matrix(b, dtype, n, k, ldb).T if tb else matrix(b, dtype, k, n, ldb)
    out = matrix(c, dtype, m, n, ldc)
    # As on a device, beta = 0 means that C is not read: it may be NaN.
    before = zero * out.astype(wide) if zero else 0
    out[...] = one * (left.astype(wide) @ right.astype(wide)) + before
    return SUCCESS


class Graph:
    """What was captured; ``launch`` does it."""

    def __init__(self, device, work):
        self.device, self.work = device, work

    def launch(self, stream=None):
        self.device.events["graph"] += 1
        for do in self.work:
            do()


class Stream:
    """A stream that can be captured."""

    def __init__(self, device, ptr):
        self.device, self.ptr, self.captured = device, ptr, None

    def __enter__(self):
        self.device.streams.append(self)
        return self

    def __exit__(self, *exception):
        assert self.device.streams.pop() is self

    done = True

    def synchronize(self):
        assert self.captured is None
        self.device.events["synchronize"] += 1

    def begin_capture(self, mode=None):
        assert self.ptr != NULL_STREAM, "cudaErrorStreamCaptureUnsupported"
        assert self.captured is None
        if self.device.refuses is not None:
            raise self.device.refuses
        self.captured = []

    def end_capture(self):
        work, self.captured = self.captured, None
        return Graph(self.device, work)


class Blas:
    """CuPy's binding and the C library, on one device."""

    def __init__(self, events=None):
        self.events = Counter() if events is None else events
        self.made = 0
        self.refuses = None
        """An error that begin_capture raises."""
        self.streams = [Stream(self, NULL_STREAM)]
        self.known = {NULL_STREAM: self.streams[0]}
        self.own_stream, self.workspace = NULL_STREAM, None
        self.binding = SimpleNamespace(gemmEx=self.gemm_of_cupy)

    def stream(self, non_blocking=False):
        """Return a new stream: ``cupy.cuda.Stream``."""
        self.made += 1
        found = self.known[100 + self.made] = Stream(self, 100 + self.made)
        return found

    @property
    def current(self):
        """The current stream."""
        return self.streams[-1]

    def do(self, work, stream=None):
        """Do work in a stream, or write it down for the graph."""
        captured = (stream or self.current).captured
        if captured is None:
            return work()
        captured.append(work)
        return SUCCESS

    def gemm_of_cupy(self, handle, *arguments):
        assert handle == CUPYS_HANDLE
        if self.current.captured is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")
        self.events["product"] += 1
        self.events[f"compute {arguments[-2]}"] += 1
        assert all(type(a) is int for a in arguments)
        assert gemm(*arguments) == SUCCESS

    # The C library, by its names, called through ctypes.

    def cublasCreate_v2(self, handle):
        handle._obj.value = OWN_HANDLE
        return SUCCESS

    def cublasSetStream_v2(self, handle, stream):
        assert handle.value == OWN_HANDLE
        self.own_stream, self.workspace = stream.value or NULL_STREAM, None
        return SUCCESS

    def cublasSetWorkspace_v2(self, handle, address, size):
        assert handle.value == OWN_HANDLE
        assert size.value % 2**20 == 0
        self.workspace = address.value
        return SUCCESS

    def cublasGemmEx(self, handle, *arguments):
        assert handle.value == OWN_HANDLE
        assert self.own_stream == self.current.ptr
        assert self.workspace, "cuBLAS would allocate memory within the capture"
        plain = [a.value if isinstance(a, ctypes.c_void_p) else a for a in arguments]
        addresses = [k for k, a in enumerate(arguments) if isinstance(a, ctypes.c_void_p)]
        # A Python integer would be cut to 32 bits.
        assert addresses == [5, 6, 9, 12, 13]
        self.events["product"] += 1
        self.events[f"compute {plain[-2]}"] += 1
        return self.do(lambda: gemm(*plain), self.known[self.own_stream])
