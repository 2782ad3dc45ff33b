"""A stand-in for CuPy at the level of its calls: NumPy arrays that behave as if on a device.

It has what `xprnn.backend.libraries.cupy` and the lowering touch, is stricter than CuPy where that
finds mistakes, and writes down what CuPy would do: which call launches a kernel, asks cuBLAS for a
product, copies, or waits for the device.  Kernels of our own are run by `tests.cuda_host`.

There may be several devices.  As with CuPy, new arrays are on the current one, whatever a function
is told with ``device=``, and arrays of another one can't be computed with.
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

from tests import cuda_fibres, cuda_host, device_nccl
from tests.device_blas import CUPYS_HANDLE, Blas, bfloat16

EVENTS: Counter = Counter()
"""How often: ``"launch"``, ``"product"``, ``"empty"``, ``"set"``, ``"upload"``, ``"read"``.

The last three are of memory set to zero, of arrays brought to the device, and of values brought to
the host, which waits for the device."""

NAMES: Counter = Counter()
"""What the launches were."""

KERNELS: dict[str, cuda_host.HostKernel] = {}
"""Compiled before, by their text."""

BLAS = Blas(EVENTS)
"""cuBLAS, streams and graphs."""

ARRAY_FUNCTIONS = {
    **dict.fromkeys((np.sum, np.max, np.min, np.all, np.any, np.prod, np.mean, np.var), 1),
    **dict.fromkeys((np.concatenate, np.stack, np.where, np.take, np.take_along_axis), 1),
    **dict.fromkeys((np.copyto, np.zeros_like, np.ones_like, np.full_like, np.round), 1),
    **dict.fromkeys((np.searchsorted, np.cumsum, np.reshape), 1),
    # Views.
    **dict.fromkeys((np.transpose, np.flip, np.broadcast_to, np.expand_dims, np.squeeze), 0),
    **dict.fromkeys((np.moveaxis, np.empty_like, np.shape, np.isdtype, np.unstack), 0),
    **dict.fromkeys((np.argsort, np.sort), 3),
}
"""How many kernels CuPy launches for a function."""

WAITING = {np.unique: 6}
"""Functions that wait for the device too, because they return as many entries as they find."""


BFLOAT16 = np.dtype(bfloat16) if bfloat16 else object()

WIDE = {np.sum, np.mean, np.var}
"""Functions whose sums of bfloat16 CuPy forms in float32 and rounds at the end; so are products."""

NOT_KEPT = {np.where, np.clip}
"""Functions that CuPy 14.2 has no kernels of bfloat16 for: it takes those of float32."""

ATTRIBUTES = {
    "MultiProcessorCount": 6,
    "MaxSharedMemoryPerBlockOptin": 20000,
    "ComputeCapabilityMajor": 9,
    "ComputeCapabilityMinor": 0,
}
"""A device so small that a few units and sequences need several blocks."""


class Device:
    """A device; the current one is the last that was entered."""

    entered: list[int] = []  # noqa: RUF012
    count = 1

    def __init__(self, number=None):
        self.id = current() if number is None else number
        self.attributes = ATTRIBUTES

    compute_capability = "90"

    def __enter__(self):
        Device.entered.append(self.id)
        return self

    def __exit__(self, *exception):
        Device.entered.pop()

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


def current():
    return Device.entered[-1] if Device.entered else 0


def launched(name, times=1):
    EVENTS["launch"] += times
    NAMES[name] += times


class DeviceArray(np.ndarray):
    """An array whose values come to the host only when they are asked for."""

    number = None

    def __array_finalize__(self, parent):
        # A view is where its array is.
        self.number = getattr(parent, "number", None)
        if self.number is None:
            self.number = current()

    @property
    def device(self):
        return Device(self.number)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        name = f"{ufunc.__name__}.{method}"
        inputs, given = _bare(name, inputs), _bare(name, out or ())
        if given:
            options["out"] = given
        # A device doesn't warn.
        with np.errstate(all="ignore"):
            result = getattr(ufunc, method)(*inputs, **options)
        if ufunc is np.matmul and method == "__call__":
            EVENTS["product"] += 1
            if all(a.dtype == BFLOAT16 for a in inputs):
                # NumPy returns float32 for it.
                result = result.astype(BFLOAT16)
        else:
            launched(name)
        return out[0] if out else on_device(result)

    def __array_function__(self, function, types, args, kwargs):
        name = function.__name__
        if function in WAITING:
            EVENTS["read"] += 1
        bare = zip(kwargs, _bare(name, kwargs.values()), strict=True)
        plain = _bare(name, args)
        narrow = any(getattr(a, "dtype", None) == BFLOAT16 for a in plain)
        if narrow and function in WIDE | NOT_KEPT:
            plain = tuple(widened(a) for a in plain)
        result = function(*plain, **dict(bare))
        if narrow and function in WIDE and "dtype" not in kwargs:
            result = result.astype(BFLOAT16)
        views = isinstance(result, np.ndarray) and any(
            isinstance(a, np.ndarray) and np.may_share_memory(result, a) for a in plain
        )
        if not views:
            # One that is not in the tables is to be looked up in CuPy first.
            launched(name, {**WAITING, **ARRAY_FUNCTIONS}[function])
        made = on_device(result)
        if views:
            made.number = next(a.number for a in args if isinstance(a, DeviceArray))
        return made

    def __getitem__(self, key):
        _index("getitem", key)
        found = super().__getitem__(key)
        # CuPy has no scalars.
        return on_device(found) if isinstance(found, np.generic) else found

    def __setitem__(self, key, value):
        _index("setitem", key)
        _bare("setitem", (self, value))
        launched("setitem")
        super().__setitem__(key, value)

    @property
    def data(self):
        """CuPy's pointer to the memory."""
        return SimpleNamespace(ptr=self.ctypes.data)

    def copy(self, order="C"):
        launched("copy")
        return on_device(np.array(self.view(np.ndarray), order=order))

    def get(self):
        EVENTS["read"] += 1
        return np.array(self.view(np.ndarray))

    def dot(self, b, out):
        EVENTS["product"] += 1
        for operand in (self, b):
            # CuPy would copy it.
            assert operand.flags.c_contiguous or operand.flags.f_contiguous
        assert out.flags.c_contiguous
        assert not np.may_share_memory(out.view(np.ndarray), self.view(np.ndarray))
        a, b = _bare("dot", (self, b))
        return np.dot(a, b, out=out.view(np.ndarray))


def widened(a):
    """Return an array of bfloat16 in float32, and anything else as it is."""
    return a.astype(np.float32) if getattr(a, "dtype", None) == BFLOAT16 else a


def _index(name, key):
    """Count what indexing launches, and for a mask that CuPy waits for its number of entries."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, np.ndarray):
            _bare(name, (part,))
            launched(f"{name} by array", 1)
            EVENTS["read"] += part.dtype == bool


def _bare(name, arrays):
    """Return arrays as NumPy's own, once they are known to be the current device's."""
    made = []
    for a in arrays:
        if isinstance(a, tuple | list) and any(isinstance(x, np.ndarray) for x in a):
            made.append(type(a)(_bare(name, a)))
            continue
        if isinstance(a, DeviceArray):
            assert a.number == current(), (
                f"{name} of an array of device {a.number}, while {current()} is the current one"
            )
            a = a.view(np.ndarray)  # noqa: PLW2901
        else:
            assert type(a) is not np.ndarray, f"{name} of an array of the host"
        made.append(a)
    return tuple(made)


def _reading(name):
    def method(self, *args):
        EVENTS["read"] += 1
        return getattr(self.view(np.ndarray), name)(*args)

    return method


def _launching(name):
    def method(self, *args, **options):
        _bare(name, (self,))
        bare = self.view(np.ndarray)
        narrow = name == "sum" and bare.dtype == BFLOAT16
        result = getattr(widened(bare) if narrow else bare, name)(*args, **options)
        result = result.astype(BFLOAT16) if narrow else result
        if not (isinstance(result, np.ndarray) and np.may_share_memory(result, bare)):
            launched(name)
        return on_device(result)

    return method


for _name in ("__bool__", "__float__", "__int__", "__index__", "tolist", "item"):
    setattr(DeviceArray, _name, _reading(_name))
for _name in ("astype", "sum", "max", "min", "all", "any", "take"):
    setattr(DeviceArray, _name, _launching(_name))


def on_device(a):
    """Return an array, or several, as the current device's."""
    if isinstance(a, np.ndarray | np.generic):
        made = np.asarray(a).view(DeviceArray)
        made.number = current()
        return made
    if isinstance(a, tuple) and hasattr(a, "_fields"):
        return type(a)(*map(on_device, a))
    return type(a)(map(on_device, a)) if isinstance(a, tuple | list) else a


def _poisoned(shape, dtype=None, *, device=None):
    """Return an array of values that show up in a result where they are not overwritten."""
    EVENTS["empty"] += 1
    made = np.empty(shape, dtype)
    floats = made.dtype.kind == "f" or made.dtype == BFLOAT16
    made[...] = True if made.dtype == bool else np.nan if floats else 119
    return on_device(made)


def _zeros(shape, dtype=None, *, device=None):
    EVENTS["set"] += 1
    return on_device(np.zeros(shape, dtype))


def _arange(*args, dtype=None, device=None):
    launched("arange")
    return on_device(np.arange(*args, dtype=dtype))


def _asarray(a, /, *, dtype=None, device=None, copy=None):
    if isinstance(a, DeviceArray):
        _bare("asarray", (a,))
        if copy or (dtype is not None and a.dtype != dtype):
            launched("asarray")
            return on_device(np.array(a.view(np.ndarray), dtype))
        return a
    EVENTS["upload"] += 1
    return on_device(np.array(a, dtype))


def _clip(x, /, min=None, max=None):  # noqa: A002 - the standard's names
    """array_api_compat's way: an assignment through a mask for each bound."""
    (bare,) = _bare("clip", (x,))
    bounds = [bound for bound in (min, max) if bound is not None]
    launched("clip", 6 * len(bounds))
    EVENTS["read"] += 2 * len(bounds)
    return on_device(np.clip(widened(bare), *_bare("clip", (min, max))))


def _argsort(a, axis=-1):
    launched("argsort", 3)
    (a,) = _bare("argsort", (a,))
    return on_device(np.argsort(a, axis, kind="stable"))


def _of_the_standard(name):
    """Return a function of array-api-compat's namespace of CuPy, or what else it has."""
    found = getattr(host, name)
    if not callable(found) or isinstance(found, type) or name in ("finfo", "isdtype"):
        return found

    def function(*args, **options):
        options.pop("device", None)
        if name == "take":
            options["mode"] = "wrap"  # as CuPy's
        _bare(name, [a for a in args if isinstance(a, np.ndarray)])
        return found(*args, **options)

    return function


SCHEDULE = {"schedule": "in order"}
"""How blocks that wait for each other take turns: see `tests.cuda_fibres`."""


class Together:
    """A kernel whose threads are all there at the same time."""

    def __init__(self, code):
        self.code, self.room = code, 48 * 1024

    def __call__(self, grid, block, arguments, *, shared_mem, enable_cooperative_groups):
        launched("together")
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
        self.code, self.name = code, name
        self.kernel = Together(code)

    def _allow(self, shared_bytes):
        assert shared_bytes <= ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]
        self.kernel.room = shared_bytes

    max_dynamic_shared_size_bytes = property(fset=_allow)

    def __call__(self, grid, block, arguments):
        launched(self.name)
        across, down = block
        assert 0 < across * down <= 1024
        assert 0 < grid[0] < 2**31
        assert 0 < grid[1] < 2**16
        for a in arguments:
            assert isinstance(a, int | float | DeviceArray)
        _bare(self.name, [a for a in arguments if isinstance(a, DeviceArray)])
        kernel = KERNELS.get(self.code) or cuda_host.alone(self.code)
        BLAS.do(lambda: kernel(grid, block, arguments))


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
    from xprnn.backend.libraries import cupy_fused, cupy_graphs, cupy_launches

    library.forget_devices()
    cupy_fused.compiled.cache_clear()
    cupy_graphs._graphs.cache_clear()
    cupy_graphs.refusal.reason = ""
    for kept in (cupy_launches.with_room, cupy_launches.limits, cupy_launches.watch):
        kept.cache_clear()


def stand_in():
    """Return the modules, by their names."""
    cupy, namespace = ModuleType("cupy"), ModuleType("array_api_compat.cupy")
    for name in dir(host):
        if name == "__array_namespace_info__" or not name.startswith("__"):
            setattr(namespace, name, _of_the_standard(name))
    cupy.__version__, cupy.ndarray = "14.2", DeviceArray
    for name in ("float32", "float64", "int64", "uint64"):
        setattr(cupy, name, getattr(np, name))
    cupy.empty, cupy.zeros, cupy.arange, cupy.argsort = _poisoned, _zeros, _arange, _argsort
    cupy.ones = lambda shape, dtype=None: on_device(np.ones(shape, dtype))
    cupy.empty_like, cupy.copyto, cupy.sum = np.empty_like, np.copyto, np.sum
    cupy.asarray, cupy.ascontiguousarray, cupy.RawKernel = _asarray, _ascontiguous, RawKernel
    properties = {"name": b"stand-in", "multiProcessorCount": 2, "major": 9, "minor": 0}
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=BLAS.stream,
        alloc_pinned_memory=_pinned,
        device=SimpleNamespace(get_cublas_handle=lambda: CUPYS_HANDLE),
        runtime=SimpleNamespace(
            getDevice=current,
            getDeviceCount=lambda: Device.count,
            getDeviceProperties=lambda number: properties,
            memGetInfo=lambda: (2**20, 2**34),
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
        ),
        get_current_stream=lambda: BLAS.current,
        nccl=device_nccl,
    )
    namespace.empty, namespace.zeros, namespace.arange = _poisoned, _zeros, _arange
    namespace.asarray, namespace.argsort, namespace.clip = _asarray, _argsort, _clip
    bindings = ModuleType("cupy_backends.cuda.libs")
    bindings.cublas = BLAS.binding
    return {
        "cupy": cupy,
        "array_api_compat.cupy": namespace,
        "cupy_backends.cuda.libs": bindings,
    }


def _ascontiguous(a):
    if a.flags.c_contiguous:
        return a
    launched("ascontiguousarray")
    return on_device(np.ascontiguousarray(*_bare("ascontiguousarray", (a,))).reshape(a.shape))


@contextmanager
def device_arrays(devices=1):
    """Put the stand-in in the place of CuPy."""
    from xprnn.backend import prefer
    from xprnn.backend.libraries import cupy_blas
    from xprnn.backend.libraries import cupy_graphs as graphs
    from xprnn.backend.registry import LIBRARIES

    modules = stand_in()
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    EVENTS.clear()
    NAMES.clear()
    Device.count = devices
    forget()
    BLAS.refuses = None
    loaded, cupy_blas.loaded_library = cupy_blas.loaded_library, lambda: BLAS
    try:
        # Off unless a test is about it: what is counted should not depend on the calls before.
        with prefer(LIBRARIES["cupy"]), mock.patch.dict(os.environ, {graphs.VARIABLE: "off"}):
            yield
    finally:
        cupy_blas.loaded_library = loaded
        forget()
        Device.count = 1
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
