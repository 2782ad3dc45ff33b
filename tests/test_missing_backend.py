"""Libraries that are not installed, and a CuPy without a device (a stand-in: see `FakeCuPy`)."""

import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import xprnn
from xprnn import get_backend
from xprnn.backend import probe
from xprnn.backend.libraries.cupy import forget_devices
from xprnn.optim import global_norm


class FakeArray:
    """The part of a CuPy array that the backend uses."""

    def __init__(self, host: np.ndarray, device: int) -> None:
        self.host, self.shape, self.dtype = host, host.shape, host.dtype
        self.device = FakeDevice(device)

    def get(self) -> np.ndarray:
        return self.host

    def reshape(self, *shape: int) -> "FakeArray":
        return FakeArray(self.host.reshape(shape), FakeDevice.current)

    def dot(self, b: "FakeArray", out: "FakeArray") -> "FakeArray":
        del out
        return FakeArray(self.host.dot(b.host), FakeDevice.current)

    def __float__(self) -> float:
        return float(self.host)


class FakeDevice:
    """A context manager with a number, as CuPy's devices are."""

    current = 0

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> None:
        self.before, FakeDevice.current = FakeDevice.current, self.id

    def __exit__(self, *exception: object) -> None:
        FakeDevice.current = self.before

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeDevice) and other.id == self.id

    __hash__ = None


class FakeCuPy:
    """Stands in for CuPy and its namespace in array-api-compat."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count: int | Exception = 2
        self.kernel_error: Exception | None = None
        self.sums = 0
        cupy, namespace = ModuleType("cupy"), ModuleType("array_api_compat.cupy")
        cupy.__version__ = "13.6"
        cupy.ndarray, cupy.float32 = FakeArray, np.float32
        cupy.arange = lambda n, dtype: FakeArray(np.arange(n, dtype=dtype), FakeDevice.current)
        cupy.empty = lambda shape, dtype: FakeArray(np.empty(shape, dtype), FakeDevice.current)
        cupy.sum = self.sum
        runtime = SimpleNamespace(getDeviceCount=self.device_count)
        cupy.cuda = SimpleNamespace(Device=FakeDevice, runtime=runtime)
        namespace.asarray = lambda a: FakeArray(np.array(a), FakeDevice.current)
        namespace.arange = lambda n, **_: np.arange(n)
        namespace.empty = lambda n, dtype, device=None: FakeArray(
            np.empty(n, dtype), FakeDevice.current
        )
        namespace.float16, namespace.float32, namespace.float64 = np.float16, np.float32, np.float64
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)

    def device_count(self) -> int:
        if isinstance(self.count, Exception):
            raise self.count
        return self.count

    def sum(self, a: FakeArray) -> FakeArray:
        self.sums += 1
        if self.kernel_error is not None:
            raise self.kernel_error
        return FakeArray(a.host.sum(), FakeDevice.current)


@pytest.fixture
def fake(monkeypatch):
    forget_devices()
    yield FakeCuPy(monkeypatch)
    forget_devices()


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("torch", "array_api_compat.torch", "pip install torch"),
        ("jax", "jax.numpy", "pip install jax"),
        ("array_api_strict", "array_api_strict", "pip install array-api-strict"),
        ("cupy", "array_api_compat.cupy", r'pip install "xprnn\[cuda13\]"'),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(monkeypatch, name, module, install):
    monkeypatch.setitem(sys.modules, module, None)
    message = f"the backend '{name}' is not installed .*: {install}"
    with pytest.raises(ImportError, match=message):
        get_backend(name)
    found = probe(name)
    assert (found.usable, found.version, found.devices) == (False, None, ())
    assert f"the backend '{name}' is not installed" in found.reason
    assert name not in xprnn.available_backends()


def test_auto_is_numpy_where_cupy_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    assert get_backend("auto", dtype="float64") == get_backend("numpy", dtype="float64")


def test_the_rest_works_where_an_import_is_barred(monkeypatch):
    for module in ("cupy", "torch", "jax", "array_api_strict"):
        monkeypatch.setitem(sys.modules, module, None)
    assert get_backend("numpy").asarray([1, 2]).tolist() == [1, 2]
    assert xprnn.available_backends() == ("numpy",)


def test_a_driver_that_fails_is_told_from_a_missing_library(fake):
    fake.count = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    message = "CuPy is installed, but finds no usable CUDA device: .*version 580 or newer"
    with pytest.raises(RuntimeError, match=message):
        get_backend("cupy")
    found = probe("cupy")
    assert not found.usable
    assert found.version == "13.6"
    assert "`nvidia-smi`" in found.reason
    assert get_backend("auto").name == "numpy"
    assert "cupy" not in xprnn.available_backends()


def test_a_machine_without_a_device(fake):
    fake.count = 0
    with pytest.raises(RuntimeError, match="CuPy is installed, but this machine has no CUDA dev"):
        get_backend("cupy")
    assert get_backend("auto").name == "numpy"


def test_a_device_that_runs_no_kernel(fake):
    fake.kernel_error = OSError("libnvrtc.so is missing")
    with pytest.raises(RuntimeError, match=r"device 0 fails: .*libnvrtc\.so is missing"):
        get_backend("cupy")
    assert get_backend("auto").name == "numpy"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        # As CuPy 14.2 says them, on machines that lack the one or the other.
        (RuntimeError("CuPy failed to load libcuda.so.1: OSError: libcuda.so.1"), "driver"),
        (RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is"), "too old"),
        (RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX"), "too old"),
        (RuntimeError("cudaErrorNoDevice: no CUDA-capable device"), "no CUDA device"),
        (RuntimeError("Failed to find CUDA headers"), "no CUDA headers .*: pip install .*cuda13"),
        (RuntimeError('Failure finding "libnvrtc.so.13": No such file'), "no NVRTC"),
        (ImportError('Failure finding "libcublasLt.so.13 or libcublasLt.so.12"'), "no cuBLAS"),
        (RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel"), "another kind of device: re"),
        (RuntimeError("cudaErrorInitializationError: initialization error"), "forked"),
        (PermissionError(13, "Permission denied", "/home/a/.cupy"), "can't be written: set CUPY_C"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_fails_is_said_in_words(fake, error, words):
    fake.kernel_error = error
    with pytest.raises(RuntimeError, match=f"device 0 fails: .*{words}"):
        get_backend("cupy")
    assert str(error) in probe("cupy").reason


def test_a_device_is_tried_once(fake):
    for _ in range(3):
        get_backend("cupy", "cuda:1")
    assert fake.sums == 1
    get_backend("cupy", "cuda:0")
    assert fake.sums == 2


def test_a_process_that_was_forked_after_cuda_began(fake, monkeypatch):
    be = get_backend("cupy")
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    for call in (lambda: get_backend("cupy", "cuda:1"), lambda: global_norm({"a": be})):
        with pytest.raises(RuntimeError, match=rf"forked from process {real} .*'spawn'"):
            call()


def test_auto_is_cupy_where_a_device_works(fake):
    be = get_backend("auto", dtype="float64")
    assert (be.name, be.device.id, be.dtype_name) == ("cupy", 0, "float64")
    found = probe("cupy")
    assert found == ("cupy", "13.6", ("cuda:0", "cuda:1"), "")
    assert found.usable
    assert xprnn.available_backends()[:2] == ("numpy", "cupy")


@pytest.mark.parametrize(
    ("spec", "number"),
    [(None, 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), (0, 0), (1, 1), (FakeDevice(1), 1)],
)
def test_a_cuda_device_has_many_names(fake, spec, number):
    be = get_backend("cupy", spec)
    assert be.device == FakeDevice(number)


@pytest.mark.parametrize("spec", ["cuda:2", "cuda:x", "cpu", "gpu:0", 2, -1, 1.5, FakeDevice(7)])
def test_an_unknown_cuda_device_is_refused(fake, spec):
    with pytest.raises(ValueError, match=r"device is .*: CuPy has 'cuda:0', 'cuda:1'"):
        get_backend("cupy", spec)


def test_arrays_go_to_the_device_asked_for_and_back(fake):
    be = get_backend("cupy", "cuda:1")
    array = be.asarray(np.array([[1.0, 2.0]]).T[::-1])
    assert be.owns(array)
    assert array.dtype == np.float32
    assert FakeDevice.current == 0
    assert be.to_numpy(array).tolist() == [[2], [1]]
    assert not get_backend("cupy", "cuda:0").owns(array)
    assert be.to_numpy(be.asarray(2.0)).shape == ()


def test_sums_into_entries(fake):
    """Tested on host arrays, because NumPy and CuPy index alike."""
    library, a = get_backend("cupy").library, np.zeros((3, 4))
    entries = library.add_to_entries(a, np.array([3, 0, 3]), np.array([1.0, 2.0, 3.0]))
    assert entries.tolist() == [[0, 0, 0, 1], [2, 0, 0, 0], [0, 0, 0, 3]]


def test_arrays_of_cupy_are_foreign_elsewhere(fake):
    array = get_backend("cupy").asarray([1.0])
    message = "got .*FakeArray of shape .* an array of the backend 'cupy': take it to the host"
    with pytest.raises(TypeError, match=message):
        get_backend("numpy").asarray(array)
