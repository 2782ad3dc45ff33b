"""A stand-in for CuPy: NumPy arrays that behave as if they were on a device.

It has what `xprnn.backend.libraries.cupy` and the lowering touch, is stricter than CuPy where that
finds mistakes, and writes down what is done.  Kernels are run by `tests.cuda_host`.
"""

import ctypes
import os
import sys
from collections import Counter
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from unittest import mock

import array_api_compat.numpy as host
import numpy as np

from tests import cuda_fibres, cuda_host
from tests.device_blas import CUPYS_HANDLE, Blas

EVENTS: Counter = Counter()
"""How often: ``"launch"``, ``"product"``, ``"empty"``, ``"read"`` (a value brought to the host)."""

KERNELS: dict[str, cuda_host.HostKernel] = {}
"""Compiled before, by their text."""

BLAS = Blas(EVENTS)
"""cuBLAS, streams and graphs."""


ATTRIBUTES = {
    "MultiProcessorCount": 6,
    "MaxSharedMemoryPerBlockOptin": 20000,
    "ComputeCapabilityMajor": 9,
    "ComputeCapabilityMinor": 0,
}
"""A device so small that a few units and sequences need several blocks."""


class Device:
    """The one device."""

    def __init__(self, number=0):
        self.id = number
        self.attributes = ATTRIBUTES

    compute_capability = "90"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def __eq__(self, other):
        return isinstance(other, Device)

    __hash__ = None


class DeviceArray(np.ndarray):
    """An array whose values come to the host only when they are asked for."""

    device = Device()

    @property
    def data(self):
        """CuPy's pointer to the memory."""
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self):
        EVENTS["read"] += 1
        return np.array(self.view(np.ndarray))

    def dot(self, b, out):
        EVENTS["product"] += 1
        for operand in (self, b):
            # CuPy would copy it.
            assert operand.flags.c_contiguous or operand.flags.f_contiguous
        assert out.flags.c_contiguous
        assert not np.may_share_memory(out, self)
        a, b = (operand.view(np.ndarray) for operand in (self, b))
        return np.dot(a, b, out=out.view(np.ndarray))


def _reading(name):
    def method(self, *args):
        EVENTS["read"] += 1
        return getattr(self.view(np.ndarray), name)(*args)

    return method


for _name in ("__bool__", "__float__", "__int__", "__index__", "tolist", "item"):
    setattr(DeviceArray, _name, _reading(_name))


def on_device(a):
    """Return an array, or several, as the device's."""
    if isinstance(a, np.ndarray | np.generic):
        return np.asarray(a).view(DeviceArray)
    if isinstance(a, tuple) and hasattr(a, "_fields"):
        return type(a)(*map(on_device, a))
    return type(a)(map(on_device, a)) if isinstance(a, tuple | list) else a


def _poisoned(shape, *, dtype=None, device=None):
    """Return an array of values that show up in a result where they are not overwritten."""
    EVENTS["empty"] += 1
    made = np.empty(shape, dtype)
    made[...] = True if made.dtype == bool else np.nan if made.dtype.kind == "f" else -1
    return on_device(made)


def _made(function):
    return lambda *args, **options: on_device(function(*args, **options))


class Namespace(ModuleType):
    """array-api-compat's namespace of CuPy."""

    def __getattr__(self, name):
        found = getattr(host, name)
        if not callable(found) or isinstance(found, type) or name in ("finfo", "isdtype"):
            return found

        def function(*args, **options):
            options.pop("device", None)
            for a in args if name != "asarray" else ():
                assert type(a) is not np.ndarray, f"{name} of an array of the host"
            return on_device(found(*args, **options))

        return function


SCHEDULE = {"schedule": "in order"}
"""How blocks that wait for each other take turns: see `tests.cuda_fibres`."""


class Together:
    """A kernel whose threads are all there at the same time."""

    def __init__(self, code):
        self.code, self.room = code, 48 * 1024

    def __call__(self, grid, block, arguments, *, shared_mem, enable_cooperative_groups):
        EVENTS["launch"] += 1
        assert shared_mem <= self.room
        assert enable_cooperative_groups == ("arrive(count)" in self.code)
        if enable_cooperative_groups:
            # CuPy makes a grid of one dimension smaller if it doesn't fit, with a mere warning.
            assert grid[1] > 1
            if grid[0] * grid[1] > ATTRIBUTES["MultiProcessorCount"]:
                raise ValueError("exceeds the limit")
        held = [a if isinstance(a, int) else a.view(np.ndarray) for a in arguments]
        kernel = KERNELS.get(self.code) or cuda_fibres.alone(self.code)
        kernel(grid, block, held, shared_mem, **SCHEDULE)


class RawKernel:
    """Source that is compiled when it is launched."""

    def __init__(self, code, name):
        assert f" {name}(" in code
        self.code = code
        self.kernel = Together(code)

    def _allow(self, shared_bytes):
        assert shared_bytes <= ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]
        self.kernel.room = shared_bytes

    max_dynamic_shared_size_bytes = property(fset=_allow)

    def __call__(self, grid, block, arguments):
        EVENTS["launch"] += 1
        across, down = block
        assert 0 < across * down <= 1024
        assert 0 < grid[0] < 2**31
        assert 0 < grid[1] < 2**16
        for a in arguments:
            assert isinstance(a, int | DeviceArray)
        kernel = KERNELS.get(self.code) or cuda_host.alone(self.code)
        BLAS.do(lambda: kernel(grid, block, arguments))


class ReductionKernel:
    """The only one in use: a sum of squares in float64."""

    def __init__(self, given, result, term, *rest):
        assert (given, result) == ("T x", "float64 y")
        assert term == "static_cast<double>(x) * static_cast<double>(x)"
        assert rest == ("a + b", "y = a", "0", "xprnn_square_sum")

    def __call__(self, a):
        # A device doesn't warn.
        with np.errstate(over="ignore"):
            return on_device(np.sum(np.square(a.view(np.ndarray), dtype=np.float64)))


def _pinned(size):
    """Return memory as CuPy does: a buffer with an address."""

    class Memory(bytearray):
        pass

    memory = Memory(size)
    memory.ptr = ctypes.addressof((ctypes.c_char * size).from_buffer(memory))
    return memory


def forget():
    """Forget what was made for CuPy or for the stand-in: neither may get what is the other's."""
    from xprnn.backend.libraries import cupy as library
    from xprnn.backend.libraries import cupy_launches

    library._compiled.cache_clear()
    library.square_sum.cache_clear()
    for kept in (cupy_launches.with_room, cupy_launches.limits, cupy_launches.watch):
        kept.cache_clear()


@contextmanager
def device_arrays():
    """Put the stand-in in the place of CuPy."""
    from xprnn.backend import prefer
    from xprnn.backend.libraries import cupy_graphs as graphs
    from xprnn.backend.registry import LIBRARIES

    cupy, namespace = ModuleType("cupy"), Namespace("array_api_compat.cupy")
    cupy.__version__, cupy.ndarray, cupy.float32 = "14.0", DeviceArray, np.float32
    cupy.arange = lambda n, dtype: on_device(np.arange(n, dtype=dtype))
    cupy.sum = lambda a: on_device(np.sum(a))
    cupy.ascontiguousarray = lambda a: on_device(np.ascontiguousarray(a).reshape(a.shape))
    cupy.RawKernel, cupy.ReductionKernel = RawKernel, ReductionKernel
    for name in ("ones", "zeros", "empty", "empty_like"):
        setattr(cupy, name, _made(getattr(np, name)))
    cupy.copyto = np.copyto
    properties = {"name": b"stand-in", "multiProcessorCount": 2, "major": 9, "minor": 0}
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=BLAS.stream,
        alloc_pinned_memory=_pinned,
        device=SimpleNamespace(get_cublas_handle=lambda: CUPYS_HANDLE),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDevice=lambda: 0,
            getDeviceProperties=lambda number: properties,
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
        ),
        get_current_stream=lambda: BLAS.current,
    )
    namespace.empty = _poisoned
    bindings = ModuleType("cupy_backends.cuda.libs")
    bindings.cublas = BLAS.binding
    modules = {
        "cupy": cupy,
        "array_api_compat.cupy": namespace,
        "cupy_backends.cuda.libs": bindings,
    }
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    EVENTS.clear()
    forget()
    BLAS.refuses = None
    loaded, graphs._loaded_library = graphs._loaded_library, lambda: BLAS
    graphs._graphs.cache_clear()
    graphs.refusal.reason = ""
    try:
        # Off unless a test is about it: what is counted should not depend on the calls before.
        with prefer(LIBRARIES["cupy"]), mock.patch.dict(os.environ, {graphs.VARIABLE: "off"}):
            yield
    finally:
        graphs._loaded_library = loaded
        graphs._graphs.cache_clear()
        graphs.refusal.reason = ""
        forget()
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
