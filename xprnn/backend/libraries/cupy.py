"""CuPy: arrays on a CUDA device."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, lru_cache

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.kernels import Launch, Limits, SharedLaunch, StepLaunch, StepProduct
from xprnn.backend.libraries import cupy_launches
from xprnn.backend.libraries.cupy_graphs import repeat
from xprnn.backend.libraries.in_place import add_in_place, put_in_place
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, Namespace


class CuPyKernels:
    """The `Kernels` of CuPy."""

    def compiled(self, name: str, text: str) -> Launch:
        return _compiled(name, text)

    def contiguous(self, a: Array) -> Array:
        return importlib.import_module("cupy").ascontiguousarray(a)

    def product(self, a: Array, b: Array, out: Array) -> object:
        # ``dot`` calls cuBLAS at once, where ``matmul`` is a generalised ufunc that examines its
        # operands in Python first.  Transposed operands are not copied; ``out`` must be contiguous.
        return a.dot(b, out)

    def repeat(self, steps: range, calls: Sequence[StepProduct | StepLaunch]) -> None:
        repeat(steps, calls)

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

    def namespace(self) -> Namespace:
        return importlib.import_module("array_api_compat.cupy")

    def is_array(self, a: object) -> bool:
        return isinstance(a, importlib.import_module("cupy").ndarray)

    def device(self, spec: object) -> Device:
        cupy = importlib.import_module("cupy")
        count = self._count()
        if isinstance(spec, cupy.cuda.Device):
            number = spec.id
        else:
            text = "cuda:0" if spec in (None, "cuda") else f"{spec}"
            digits = text.removeprefix("cuda:")
            number = int(digits) if digits.isdecimal() else -1
        if not 0 <= number < count:
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: CuPy has {known}")
        device = cupy.cuda.Device(number)
        try:
            with device:
                # This compiles and runs a kernel, which finds a driver that is too old.
                float(cupy.sum(cupy.arange(3, dtype=cupy.float32)))
        except Exception as error:
            raise RuntimeError(f"CuPy is installed, but device {number} fails: {error}") from error
        return device

    def devices(self) -> tuple[str, ...]:
        return tuple(f"cuda:{number}" for number in range(self._count()))

    def device_name(self, device: Device) -> str:
        return f"cuda:{device.id}"

    def hardware(self, device: Device) -> str:
        properties = importlib.import_module("cupy").cuda.runtime.getDeviceProperties(device.id)
        return str(properties["name"].decode())

    def from_host(self, a: HostArray, device: Device) -> Array:
        with device:
            return self.namespace().asarray(np.ascontiguousarray(a).reshape(a.shape))

    def to_host(self, a: Array) -> HostArray:
        host: HostArray = a.get()
        self.raise_given_up()
        return host

    def kernels(self) -> CuPyKernels:
        return CuPyKernels()

    def limits(self, device: Device) -> Limits:
        return cupy_launches.limits(device.id)

    def raise_given_up(self) -> None:
        self.kernels().raise_given_up()

    def synchronize(self) -> None:
        importlib.import_module("cupy").cuda.get_current_stream().synchronize()
        self.raise_given_up()

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        # Not looked at: reading the answer would make every update wait for the device.  In a
        # training, the next loss is NaN then.
        del arrays
        return False

    def square_sum(self, a: Array) -> Array:
        return square_sum()(a)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return add_in_place(a.copy(), index, values, axis)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        # Only the copy is worth saving: the memory pool makes new arrays cheap.
        return put_in_place(a if into is a else a.copy(), index, values, axis)

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
            raise RuntimeError(
                f"CuPy is installed, but finds no usable CUDA device: {error}. "
                "Check that `nvidia-smi` lists one and that CuPy was built for its CUDA version"
            ) from error
        if count == 0:
            raise RuntimeError("CuPy is installed, but this machine has no CUDA device")
        return count


@lru_cache(maxsize=1024)
def _compiled(name: str, text: str) -> Launch:
    # Not a RawModule, which would compile at once, and for the current device.
    launch: Launch = importlib.import_module("cupy").RawKernel(text, name)
    return launch


@cache
def square_sum() -> Callable[[Array], Array]:
    """Return a kernel that sums the squares of an array's entries in float64, in one launch."""
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
