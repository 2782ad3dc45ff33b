"""Time loops as CUDA graphs on CuPy: captured once, then launched by one call.

A graph is bound to the addresses that it was captured with, so it serves a loop whose arrays are at
the same addresses.  In a training they come back: CuPy's memory pool hands out the same blocks for
the same requests.  A loop is captured when its addresses come for the second time; one whose
addresses don't come back is launched step by step.  Nothing is copied and no array is held, since
whatever the graph touches belongs to the arrays of the call that launches it.

CuPy refuses cuBLAS while a stream is being captured, so products go through a handle of our own, to
the library that CuPy has loaded.  With graphs on they always do, captured or not, and with one
workspace, so that cuBLAS chooses the same algorithms and the bits don't depend on which call it is.
"""

import ctypes
import importlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

from xprnn.backend.kernels import StepLaunch, StepProduct
from xprnn.backend.libraries.cupy_products import cupys_gemm, prepared, tf32_wanted

VARIABLE = "XPRNN_CUDA_GRAPH"
WORDS = ("on", "off")

FEWEST = 8
"""Steps below which a graph saves nothing."""
KEPT = 16
"""Graphs of a device and stream; the one that was not used for longest goes first."""
REMEMBERED = 128
"""Sets of addresses that were seen once."""

_OF_EACH_THREAD = 2
"""The address by which every thread means a default stream of its own."""

_log = logging.getLogger("xprnn")
Calls = Sequence[StepProduct | StepLaunch]


def graph_word() -> str:
    """Return the value of the environment variable ``XPRNN_CUDA_GRAPH``, by default ``on``.

    Raises
    ------
    ValueError
        If it is neither ``on`` nor ``off``.
    """
    word = os.environ.get(VARIABLE, "on")
    if word not in WORDS:
        raise ValueError(f"{VARIABLE} is {word!r}: expected one of {', '.join(map(repr, WORDS))}")
    return word


def repeat(steps: range, calls: Calls) -> None:
    """Make these calls at each of these steps: see `xprnn.backend.kernels.Kernels.repeat`."""
    if graph_word() == "on" and len(steps) >= FEWEST:
        graphs = graphs_here()
        if graphs is not None and graphs.run(steps, calls):
            return
    make(steps, calls, cupys_gemm)


def make(steps: range, calls: Calls, gemm: Callable[[], Any]) -> None:
    """Make the calls one after the other; ``gemm`` is asked for if there is a product."""
    functions = [
        prepared(call, gemm()) if isinstance(call, StepProduct) else _launching(call)
        for call in calls
    ]
    if len(functions) == 2:
        first, second = functions
        for t in steps:
            first(t)
            second(t)
        return
    for t in steps:
        for function in functions:
            function(t)


def _launching(call: StepLaunch) -> Callable[[int], object]:
    launch, grid, block, arguments = call
    return lambda t: launch(grid, block, (t, *arguments))


class Refusal:
    """Whether graphs have been refused in this process, which is said once."""

    def __init__(self) -> None:
        self.reason = ""

    def because(self, error: Exception) -> None:
        if not self.reason:
            self.reason = f"{type(error).__name__}: {error}"
            _log.warning(
                "CUDA graphs are not used, time loops are launched step by step: %s", self.reason
            )


refusal = Refusal()


def graphs_here() -> "Graphs | None":
    """Return the graphs of the current device and stream; None if they have been refused."""
    if refusal.reason:
        return None
    cuda = importlib.import_module("cupy").cuda
    try:
        stream = cuda.get_current_stream().ptr
        thread = threading.get_ident() if stream == _OF_EACH_THREAD else 0
        return _graphs(cuda.Device().id, stream, thread)
    except Exception as error:
        refusal.because(error)
        return None


@cache
def _graphs(device: int, stream: int, thread: int) -> "Graphs":
    del device, thread  # the current ones
    return Graphs(Blas(stream), stream)


class Graphs:
    """The graphs that are launched in one stream of a device.

    Parameters
    ----------
    blas : Blas
        With a workspace of its own, because graphs of two streams may run at the same time.
    stream : int
        Its address.
    """

    def __init__(self, blas: "Blas", stream: int) -> None:
        self.blas, self.stream = blas, stream
        self.captures = 0
        self._lock = threading.Lock()
        self._seen = OrderedDict[Hashable, None]()
        self._graphs = OrderedDict[Hashable, Any]()

    def run(self, steps: range, calls: Calls) -> bool:
        """Make the calls, or launch their graph; False if graphs turn out to be refused."""
        key = (steps, tf32_wanted(), *map(_identity, calls))
        with self._lock:
            graph = self._graphs.get(key)
            if graph is not None:
                self._graphs.move_to_end(key)
                graph.launch()
                return True
            if key not in self._seen:
                _remember(self._seen, key, None, REMEMBERED)
                # This compiles kernels, and loads what cuBLAS needs, before any capture.  An error
                # is the caller's: a loop that was begun can't be run again from the start.
                make(steps, calls, self.blas.gemm)
                return True
            try:
                graph = self._capture(steps, calls)
            except Exception as error:
                refusal.because(error)
                return False
            _remember(self._graphs, key, graph, KEPT)
            graph.launch()
            return True

    def _capture(self, steps: range, calls: Calls) -> Any:
        """Return the graph of the calls, none of which is made."""
        # The default stream can't be captured; a graph may be launched in any.
        stream = importlib.import_module("cupy").cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                self.blas.use(stream.ptr)
                make(steps, calls, self.blas.gemm)
            finally:
                # Also after an error, or the thread could capture nothing any more.
                graph = stream.end_capture()
                self.blas.use(self.stream)
        self.captures += 1
        return graph


def _identity(call: StepProduct | StepLaunch) -> Hashable:
    """Return what determines the work of a call: addresses, shapes, sizes, the kernel itself."""
    if isinstance(call, StepProduct):
        arrays = (call.a, call.b, call.out)
        return (
            *((a.data.ptr, a.shape) for a in arrays),
            str(call.a.dtype),
            call.transposed,
            call.tf32,
        )
    arguments = (a if isinstance(a, int | float) else a.data.ptr for a in call.arguments)
    return (call.launch, call.grid, call.block, *arguments)


def _remember(where: OrderedDict[Hashable, Any], key: Hashable, value: Any, most: int) -> None:
    where[key] = value
    while len(where) > most:
        where.popitem(last=False)


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
        self.library = _loaded_library()
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


def _loaded_library() -> Any:
    """Return the library of cuBLAS that CuPy has loaded."""
    # As an attribute: only so does CuPy load the library before the binding to it.
    assert importlib.import_module("cupy_backends.cuda.libs").cublas
    runtime = importlib.import_module("cupy").cuda.runtime
    # A library that is loaded is found by its name, wherever it is.
    return ctypes.CDLL(f"libcublas.so.{runtime.runtimeGetVersion() // 1000}")
