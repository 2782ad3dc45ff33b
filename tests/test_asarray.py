"""Bringing host data to a backend, and back."""

import numpy as np
import pytest

from tests.optional import optional
from xprnn import get_backend

torch = optional("torch")

NAMES = ("numpy", "torch", "jax", "array_api_strict")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_round_trip_is_exact(harness, dtype):
    be = harness.at(dtype).backend
    host = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype)
    array = be.asarray(host)
    assert be.owns(array)
    assert array.dtype == be.dtype
    back = be.to_numpy(array)
    assert isinstance(back, np.ndarray)
    assert back.dtype == dtype
    assert np.array_equal(back, host)


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (2.5, "float64", 2.5),
        ([1, 2.5], "float64", [1.0, 2.5]),
        (np.float32([[1.5]]), "float64", [[1.5]]),
        (np.float16([1.5]), "float64", [1.5]),
        ([3, 4], "int64", [3, 4]),
        ([True, False], "bool", [True, False]),
        (np.int8([3]), "int8", [3]),
        (np.zeros((0, 3)), "float64", []),
    ],
)
def test_floats_take_the_dtype_and_others_keep_theirs(harness, data, dtype, values):
    be = harness.backend
    array = be.asarray(data)
    assert be.owns(array)
    host = be.to_numpy(array)
    assert host.dtype == dtype
    assert host.tolist() == values


def test_a_dtype_can_be_given(harness):
    be = harness.backend
    for data in ([1, 2], be.asarray([1, 2]), be.asarray([1.0, 2.0])):
        array = be.asarray(data, "float32")
        assert be.owns(array)
        assert be.to_numpy(array).dtype == "float32"
        assert be.to_numpy(array).tolist() == [1, 2]
    assert be.to_numpy(be.asarray([1.0, 2.0], "int64")).dtype == "int64"
    assert be.asarray([1], be.dtype).dtype == be.dtype


def test_arrays_of_the_backend_pass(harness):
    be = harness.backend
    array = be.asarray([1.0, 2.0])
    assert be.to_numpy(be.asarray(array)).tolist() == [1, 2]
    single = harness.at("float32").backend
    assert single.asarray(array).dtype == single.dtype
    integers = be.asarray([1, 2])
    assert be.asarray(integers).dtype == integers.dtype


def test_arrays_move_between_the_devices_of_one_library():
    here, there = (get_backend("array_api_strict", name) for name in ("device1", "device2"))
    moved = there.asarray(here.asarray([1.0, 2.0]))
    assert there.owns(moved)
    assert there.to_numpy(moved).tolist() == [1, 2]


def test_an_array_with_read_only_memory_comes_in(harness):
    host = np.array([1.0, 2.0])
    host.flags.writeable = False
    assert harness.backend.to_numpy(harness.backend.asarray(host)).tolist() == [1, 2]


@pytest.mark.parametrize("name", ["torch", "jax", "array_api_strict"])
def test_host_data_are_copied_to_another_library(name):
    be, host = get_backend(name, dtype="float64"), np.array([1.0, 2.0])
    array = be.asarray(host)
    host[0] = 9
    assert be.to_numpy(array).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f8"])
def test_the_order_of_bytes_does_not_matter(harness, dtype):
    array = harness.backend.asarray(np.array([1.5, 2.5], dtype))
    assert harness.host(array).tolist() == [1.5, 2.5]


def test_any_strides_do(harness):
    host = np.arange(12.0).reshape(3, 4)
    array = harness.backend.asarray(host.T[::-1, ::2])
    assert harness.host(array).tolist() == host.T[::-1, ::2].tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (1 + 2j, r"expected real numbers, got numpy.ndarray of shape \(\) and dtype complex128"),
        ([1, "a"], r"expected real numbers, got numpy.ndarray of shape \(2,\) and dtype str"),
        ("words", "expected real numbers, got .* dtype str"),
        (None, "expected real numbers, got .* dtype object"),
        ([object()], "expected real numbers, got .* dtype object"),
        (np.array(["2020-01-01"], "datetime64[D]"), "expected real numbers, got .* dtype datetime"),
    ],
)
def test_what_is_no_number_is_refused(name, data, message):
    with pytest.raises(TypeError, match=message):
        get_backend(name).asarray(data)


@pytest.mark.parametrize("name", NAMES)
def test_ragged_lists_are_refused(name):
    with pytest.raises(ValueError, match=r"can't make an array of this list: .*inhomogeneous"):
        get_backend(name).asarray([[1.0, 2.0], [3.0]])


def test_complex_arrays_of_the_library_are_refused(harness):
    be = harness.backend
    with pytest.raises(TypeError, match=r"expected real numbers, got .* dtype complex64"):
        be.asarray(be.xp.ones(2, dtype=be.xp.complex64, device=be.device))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["complex64", "object", "str", "float8", complex, np.complex128])
def test_a_dtype_of_no_real_numbers_is_refused(name, dtype):
    be = get_backend(name)
    for data in ([1.0], be.asarray([1.0])):
        with pytest.raises(ValueError, match=r"dtype is .*: expected one of bool, .* float64"):
            be.asarray(data, dtype)


@pytest.mark.parametrize("foreign", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_another_backend_are_refused(name, foreign):
    array = get_backend(foreign).asarray([1.0])
    if foreign in (name, "numpy"):
        assert get_backend(name).to_numpy(get_backend(name).asarray(array)).tolist() == [1]
        return
    message = f"an array of the backend '{foreign}': take it to the host first, as .*a"
    with pytest.raises(TypeError, match=message):
        get_backend(name).asarray(array)


def test_to_numpy_takes_the_backends_own_arrays_only(harness):
    be = harness.backend
    with pytest.raises(TypeError, match=f"to_numpy takes an array of {be.name}, got list"):
        be.to_numpy([1.0])
    foreign = torch.ones(1) if be.name != "torch" else np.ones(1)
    with pytest.raises(TypeError, match=r"to_numpy takes an array of .*, got .* of shape \(1,\)"):
        be.to_numpy(foreign)


def test_to_numpy_takes_the_result_of_a_sum(harness):
    be = harness.backend
    assert be.to_numpy(be.xp.sum(be.asarray([1.0, 2.0]))).tolist() == 3


def test_to_numpy_detaches():
    be = get_backend("torch")
    assert be.to_numpy(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
