"""CuPy: arrays on a CUDA device."""

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from xprnn.backend import entry
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.kernels import (
    Fused,
    Launch,
    Limits,
    SharedLaunch,
    StepLaunch,
    StepProduct,
)
from xprnn.backend.libraries import cupy_bfloat16, cupy_fused, cupy_launches
from xprnn.backend.libraries.cupy_faults import in_words, no_room
from xprnn.backend.libraries.cupy_graphs import repeat
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, Namespace


class CuPyKernels:
    """The `Kernels` of CuPy."""

    def compiled(self, name: str, text: str) -> Launch:
        return cupy_fused.compiled(name, text)

    def contiguous(self, a: Array) -> Array:
        return importlib.import_module("cupy").ascontiguousarray(a)

    def repeat(
        self,
        steps: range,
        calls: Sequence[StepProduct | StepLaunch],
        given: Sequence[Array],
        made: Sequence[Array],
    ) -> None:
        repeat(steps, calls, given, made)

    def on_device_of(self, a: Array) -> AbstractContextManager[object]:
        device: AbstractContextManager[object] = a.device
        return device

    def limits(self, device: Device) -> Limits:
        return cupy_launches.limits(device.id)

    def compiled_with_room(self, name: str, text: str) -> SharedLaunch:
        return cupy_launches.with_room(name, text)

    def watched(self, what: str) -> tuple[int, int]:
        watch = cupy_launches.watch()
        watch.look()
        return watch.address, watch.ticket(what)

    def raise_given_up(self) -> None:
        # Nothing is watched before the first such kernel.
        if cupy_launches.watch.cache_info().currsize:
            cupy_launches.watch().look()


class CuPy(Library):
    """CuPy arrays; a device is a number, ``"cuda"``, ``"cuda:1"`` or a ``cupy.cuda.Device``."""

    name = "cupy"
    module = "cupy"
    install = 'pip install "xprnn[cuda13]" (or "xprnn[cuda12]", by the driver)'
    lowering = "cupy"
    host_call = "{}.get()"
    fused: ClassVar[Fused | None] = cupy_fused
    segments = False
    computes_in: ClassVar[Mapping[str, str]] = {"bfloat16": "float32"}

    def namespace(self) -> Namespace:
        return cupy_bfloat16.with_bfloat16(importlib.import_module("array_api_compat.cupy"))

    def is_array(self, a: object) -> bool:
        return isinstance(a, importlib.import_module("cupy").ndarray)

    def why_not(self, dtype: str) -> str:
        return cupy_bfloat16.why_not() if dtype == "bfloat16" else ""

    def device(self, spec: object) -> Device:
        cupy = importlib.import_module("cupy")
        given: Device = spec
        if type(spec) is cupy.cuda.Device and given.id in _proven:
            return given
        refuse_fork()
        count = self._count()
        if isinstance(spec, cupy.cuda.Device):
            number = given.id
        else:
            text = "cuda:0" if spec in (None, "cuda") else f"{spec}"
            digits = text.removeprefix("cuda:")
            number = int(digits) if digits.isdecimal() else -1
        if not 0 <= number < count:
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: CuPy has {known}")
        device = cupy.cuda.Device(number)
        if number not in _proven:
            self._prove(device)
        return device

    def _prove(self, device: Device) -> None:
        """Refuse a device that doesn't work; from then on processes that are forked are known."""
        cupy = importlib.import_module("cupy")
        try:
            with device:
                # It compiles a kernel, runs it, and asks cuBLAS for a product.
                a = cupy.arange(4, dtype=cupy.float32).reshape(2, 2)
                float(cupy.sum(a.dot(a, cupy.empty((2, 2), cupy.float32))))
        except Exception as error:
            reason = in_words(error, _version_of_cuda())
            raise RuntimeError(
                f"CuPy is installed, but device {device.id} fails: {reason}"
            ) from error
        if not _proven:
            entry.begin(self.entering)
        _proven.add(device.id)

    def entering(self, arguments: Iterable[object]) -> AbstractContextManager[object]:
        """Return a context in which the device of the first array among these is the current one.

        Raises
        ------
        RuntimeError
            If this process was forked from one that used CUDA.
        """
        refuse_fork()
        return _Entered(self, _device_among(arguments))

    def devices(self) -> tuple[str, ...]:
        return tuple(f"cuda:{number}" for number in range(self._count()))

    def device_name(self, device: Device) -> str:
        return f"cuda:{device.id}"

    def is_accelerator(self, device: Device) -> bool:
        del device
        return True

    def hardware(self, device: Device) -> str:
        properties = importlib.import_module("cupy").cuda.runtime.getDeviceProperties(device.id)
        return str(properties["name"].decode())

    def from_host(self, a: HostArray, device: Device) -> Array:
        with device:
            return self.namespace().asarray(np.ascontiguousarray(a).reshape(a.shape))

    def placed(self, a: Array, device: Device) -> Array:
        if a.device == device:
            return a
        with device:
            # CuPy copies to the current device, from whichever the array is on.
            return a.copy()

    def to_host(self, a: Array) -> HostArray:
        host: HostArray = a.get()
        self.raise_given_up()
        return host.astype("float32") if host.dtype.name == "bfloat16" else host

    def kernels(self) -> CuPyKernels:
        return CuPyKernels()

    def limits(self, device: Device) -> Limits:
        return cupy_launches.limits(device.id)

    def raise_given_up(self) -> None:
        self.kernels().raise_given_up()

    def synchronize(self, result: object = None) -> None:
        del result
        importlib.import_module("cupy").cuda.get_current_stream().synchronize()
        self.raise_given_up()

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        # Not looked at: reading the answer would make every update wait for the device.  In a
        # training, the next loss is NaN then.
        del arrays
        return False

    def times(self, a: Array, factor: float | Array) -> Array:
        # A Python float would make float32 of bfloat16.
        return (a * factor).astype(a.dtype, copy=False)

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        if count is None:
            return super().sum_by_index(rows, index)
        return cupy_fused.sum_by_index(rows, index, count)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return cupy_fused.scatter(a.copy(), index, values, axis, add=True)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        # Only the copy is worth saving: the memory pool makes new arrays cheap.
        return cupy_fused.scatter(a if into is a else a.copy(), index, values, axis, add=False)

    def add_to_entries(self, a: Array, columns: Array, values: Array) -> Array:
        rows = self.namespace().arange(a.shape[0], device=self.device_of(a))
        a[rows, columns] += values
        return a

    def exp_overwriting(self, a: Array) -> Array:
        return self.namespace().exp(a, out=a)

    def _count(self) -> int:
        cupy = importlib.import_module("cupy")
        try:
            count = int(cupy.cuda.runtime.getDeviceCount())
        except Exception as error:
            reason = in_words(error, _version_of_cuda())
            raise RuntimeError(
                f"CuPy is installed, but finds no usable CUDA device: {reason}"
            ) from error
        if count == 0:
            raise RuntimeError("CuPy is installed, but this machine has no CUDA device")
        return count


class _Entered:
    """A ``with`` block on a device, which says in words that the device has no more memory."""

    def __init__(self, library: CuPy, device: Device | None) -> None:
        # An object of its own, because not every kind of context can be entered twice.
        self.library, self.device = library, device and type(device)(device.id)

    def __enter__(self) -> None:
        if self.device is not None:
            self.device.__enter__()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if isinstance(error, MemoryError) and type(error).__name__ == "OutOfMemoryError":
                runtime = importlib.import_module("cupy").cuda.runtime
                no_room(error, *map(int, runtime.memGetInfo()))
        finally:
            if self.device is not None:
                self.device.__exit__(kind, error, trace)


_proven: set[int] = set()
"""The numbers of the devices that are known to work."""

_process: list[int] = []
"""The process that has used CUDA, if any has."""


def forget_devices() -> None:
    """Let every device be proven anew."""
    _proven.clear()
    _process.clear()
    entry.end()


def refuse_fork() -> None:
    """Refuse a process that was forked from one that used CUDA, where nothing of CUDA works."""
    if not _process:
        _process.append(os.getpid())
    elif _process[0] != os.getpid():
        raise RuntimeError(
            f"CUDA can't be used in process {os.getpid()}, which was forked from process "
            f"{_process[0]} after that had used it: start processes with multiprocessing's method "
            "'spawn', or use CUDA in the new process only"
        )


def _version_of_cuda() -> int | None:
    """Return the version of CUDA that CuPy was built for."""
    try:
        runtime = importlib.import_module("cupy_backends.cuda.api.runtime")
        return int(runtime._getCUDAMajorVersion())
    except (ImportError, AttributeError):
        return None


def _device_among(arguments: Iterable[object]) -> Device | None:
    """Return the device of the first array among arguments, or of the first backend."""
    cupy = importlib.import_module("cupy")
    for a in arguments:
        if isinstance(a, cupy.ndarray):
            return a.device
        if isinstance(a, Mapping):
            a = a.values()  # noqa: PLW2901
        elif not isinstance(a, tuple | list):
            # A network has a backend; a sparse gradient has values, a factored one two factors.
            device = getattr(getattr(a, "backend", a), "device", None)
            if isinstance(device, cupy.cuda.Device):
                return device
            a = (getattr(a, "values", None), getattr(a, "left", None))  # noqa: PLW2901
            if not isinstance(a[0], cupy.ndarray) and not isinstance(a[1], cupy.ndarray):
                continue
        found = _device_among(a)
        if found is not None:
            return found
    return None
