"""Opening a backend, and the attributes that it has then."""

import dataclasses

import array_api_compat.numpy
import numpy as np
import pytest

import xprnn
from tests.optional import optional
from xprnn import get_backend
from xprnn.backend import backend_of, describe, dtype_name, from_host, namespace_of, probe

torch = optional("torch")
jax = optional("jax")
array_api_strict = optional("array_api_strict")

NAMES = ("numpy", "torch", "jax", "array_api_strict")
NAMESPACES = {
    "numpy": "array_api_compat.numpy",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
    "array_api_strict": "array_api_strict",
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_is_what_was_asked_for(name, dtype):
    be = get_backend(name, dtype=dtype)
    assert be.name == name
    assert be.xp.__name__ == NAMESPACES[name]
    assert be.dtype_name == dtype
    ones = be.xp.ones(2, dtype=be.dtype, device=be.device)
    assert ones.dtype == be.dtype
    assert be.owns(ones)


def test_the_default_is_numpy_in_float32():
    be = get_backend()
    assert (be.name, be.device, be.dtype) == ("numpy", "cpu", np.dtype("float32"))
    assert be.xp is array_api_compat.numpy


@pytest.mark.parametrize("name", NAMES)
def test_the_default_dtype_is_float32(name):
    assert get_backend(name).dtype_name == "float32"


@pytest.mark.parametrize(
    ("name", "dtype", "word"),
    [
        ("numpy", np.float64, "float64"),
        ("numpy", np.dtype("float64"), "float64"),
        ("numpy", np.float16, "float16"),
        ("torch", torch.float64, "float64"),
        ("torch", torch.float16, "float16"),
        ("torch", np.float64, "float64"),
        ("jax", jax.numpy.float32, "float32"),
        ("jax", "float16", "float16"),
        ("array_api_strict", array_api_strict.float64, "float64"),
    ],
)
def test_a_dtype_may_be_an_object_of_any_library(name, dtype, word):
    be = get_backend(name, dtype=dtype)
    assert be.dtype_name == word
    assert be == get_backend(name, dtype=word)


def test_a_backend_is_frozen():
    be = get_backend("numpy")
    with pytest.raises(dataclasses.FrozenInstanceError, match="dtype"):
        be.dtype = np.float64


@pytest.mark.parametrize("name", NAMES)
def test_equal_backends_are_equal(name):
    be = get_backend(name, dtype="float64")
    assert be == get_backend(name, dtype="float64")
    assert hash(be) == hash(get_backend(name, dtype="float64"))
    assert be != get_backend(name, dtype="float32")
    assert be != name


def test_backends_of_other_libraries_or_devices_differ():
    assert len({get_backend(name) for name in (*NAMES, *NAMES)}) == len(NAMES)
    strict = get_backend("array_api_strict")
    assert strict != get_backend("array_api_strict", "device1")
    assert strict == get_backend("array_api_strict", "cpu")


def test_a_backend_can_be_reopened():
    be = get_backend("array_api_strict", "device1", "float64")
    assert get_backend(be) is be
    single = get_backend(be, dtype="float32")
    assert (single.dtype_name, single.device) == ("float32", be.device)
    moved = get_backend(be, device="device2")
    assert moved.device == array_api_strict.Device("device2")
    assert moved.dtype == be.dtype


@pytest.mark.parametrize(
    ("name", "spec", "device"),
    [
        ("numpy", "cpu", "cpu"),
        ("torch", "cpu", torch.device("cpu")),
        ("torch", torch.device("cpu"), torch.device("cpu")),
        ("jax", "cpu", jax.devices("cpu")[0]),
        ("jax", "cpu:0", jax.devices("cpu")[0]),
        ("jax", jax.devices("cpu")[0], jax.devices("cpu")[0]),
        ("array_api_strict", "cpu", array_api_strict.Device("CPU_DEVICE")),
        ("array_api_strict", "device1", array_api_strict.Device("device1")),
        (
            "array_api_strict",
            array_api_strict.Device("device2"),
            array_api_strict.Device("device2"),
        ),
    ],
)
def test_a_device_is_in_the_words_of_the_library(name, spec, device):
    assert get_backend(name, spec).device == device


def test_torch_uses_its_default_device():
    with torch.device("meta"):
        assert get_backend("torch").device == torch.device("meta")
    assert get_backend("torch").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("numpy", "cuda", "device is 'cuda': NumPy computes on 'cpu' only"),
        ("torch", "nonsense", "device is 'nonsense': torch can't use it: Expected one of cpu"),
        ("torch", 3.5, "device is 3.5: torch can't use it"),
        ("jax", "cpu:7", "device is 'cpu:7': JAX has 'cpu:0'"),
        ("jax", "cpu:x", "device is 'cpu:x': JAX has 'cpu:0'"),
        ("jax", "nonsense", "device is 'nonsense': JAX has 'cpu:0'"),
        ("array_api_strict", "x", "device is 'x': array-api-strict has 'CPU_DEVICE', 'device1'"),
        ("auto", "nonsense", "device is 'nonsense': (NumPy|CuPy)"),
    ],
)
def test_an_unknown_device_is_refused(name, spec, message):
    with pytest.raises(ValueError, match=message):
        get_backend(name, spec)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"unknown backend 'numpi': known are 'numpy', 'cupy'"):
        get_backend("numpi")


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", int, np.int32, 7, "complex64"])
def test_an_unknown_dtype_is_refused(dtype):
    with pytest.raises(
        ValueError, match=r"dtype is .*: numpy computes in float16, float32, float64"
    ):
        get_backend("numpy", dtype=dtype)


def test_float16_is_refused_where_there_is_none():
    message = r"dtype is 'float16': array_api_strict computes in float32, float64 \(float16 is not"
    with pytest.raises(ValueError, match=message):
        get_backend("array_api_strict", dtype="float16")


def test_what_is_installed_is_available():
    available = xprnn.available_backends()
    assert available[0] == "numpy"
    assert set(NAMES) <= set(available)
    for name in available:
        assert get_backend(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_says_what_there_is(name):
    found = probe(name)
    assert (found.name, found.usable, found.reason) == (name, True, "")
    assert found.version[0].isdigit()
    for device in found.devices:
        assert get_backend(name, device).name == name


def test_the_backend_of_an_array(harness):
    for dtype in ("float32", "float64"):
        be = harness.at(dtype).backend
        assert backend_of(be.asarray([1.0])) == be
        assert namespace_of(be.asarray([1.0])).__name__ == be.xp.__name__


def test_the_backend_of_a_scalar():
    assert backend_of(np.float64(1)) == get_backend("numpy", dtype="float64")


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ([1.0], "expected a floating array of numpy, cupy, .*, got list"),
        (np.ones(2, int), r"expected a floating array .*, got numpy.ndarray of shape \(2,\) and"),
        (torch.ones(2, dtype=torch.bool), r"got torch.Tensor of shape \(2,\) and dtype bool"),
    ],
)
def test_what_is_no_floating_array_has_no_backend(a, message):
    with pytest.raises(TypeError, match=message):
        backend_of(a)


def test_what_is_no_array_has_no_namespace():
    message = "expected an array of numpy, .*, got an object of type list"
    with pytest.raises(TypeError, match=message):
        namespace_of([1.0])


def test_host_data_can_be_put_beside_an_array(harness):
    beside = from_host(np.array([3, 1]), beside=harness.array([1.5]))
    assert harness.backend.owns(beside)
    assert harness.backend.xp.isdtype(beside.dtype, "integral")
    assert harness.backend.to_numpy(beside).tolist() == [3, 1]


def test_an_array_knows_its_owner():
    on_cpu, on_device1 = (get_backend("array_api_strict", d) for d in ("cpu", "device1"))
    assert on_device1.owns(on_device1.asarray([1.0]))
    assert not on_cpu.owns(on_device1.asarray([1.0]))
    assert not get_backend("numpy").owns(on_cpu.asarray([1.0]))
    assert not on_cpu.owns([1.0])


def test_a_jax_array_on_several_devices_is_on_none():
    class Spread:
        def devices(self):
            return {"gpu:0", "gpu:1"}

    library = get_backend("jax").library
    assert library.device_of(Spread()) == {"gpu:0", "gpu:1"}


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        ("float32", "float32"),
        (float, "float"),
        (np.float32, "float32"),
        (np.dtype(">f8"), "float64"),
        (torch.int64, "int64"),
        (jax.numpy.float32, "float32"),
        (array_api_strict.bool, "bool"),
    ],
)
def test_a_dtype_in_words(dtype, word):
    assert dtype_name(dtype) == word


@pytest.mark.parametrize(
    ("a", "words"),
    [
        (3, "int"),
        ([1.0], "list"),
        (np.ones((2, 3)), "numpy.ndarray of shape (2, 3) and dtype float64"),
        (torch.ones(2), "torch.Tensor of shape (2,) and dtype float32"),
        (
            array_api_strict.ones(2),
            "array_api_strict.Array of shape (2,) and dtype float64",
        ),
    ],
)
def test_a_description(a, words):
    assert describe(a) == words
