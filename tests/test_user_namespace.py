"""User namespaces: opened by their import path, and used through the standard alone."""

import copy
import inspect
import pickle
import re
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import xprnn
from tests import namespaces
from xprnn import RNN, fit, get_backend
from xprnn.backend import (
    FUNCTIONS,
    MissingFunctionError,
    backend_of,
    dtype_name,
    from_host,
    library_of,
    namespace_of,
    prefer,
    probe,
)
from xprnn.data import minibatches
from xprnn.engine.gradients import SparseGradient, sum_columns
from xprnn.losses import CrossEntropy

VAULT = "tests.namespaces:vault"
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")


def test_a_namespace_is_opened_by_its_path():
    be = get_backend("tests.namespaces:same", dtype="float64")
    assert (be.name, be.dtype_name) == ("tests.namespaces:same", "float64")
    assert be.xp is namespaces.same
    assert be.asarray([1, 2.5]).dtype == array_api_strict.float64
    assert be.owns(be.asarray([1.0]))
    assert be == get_backend("tests.namespaces:same", dtype="float64")
    assert be != get_backend("array_api_strict", dtype="float64")


def test_a_module_may_be_the_namespace():
    be = get_backend("array_api_strict:")
    assert be.xp is array_api_strict
    assert be.library.version() == array_api_strict.__version__
    found = probe("array_api_strict:")
    assert (found.usable, found.version) == (True, array_api_strict.__version__)


def test_a_namespace_may_be_an_attribute_of_an_attribute():
    assert get_backend("tests:namespaces.same").xp is namespaces.same


def test_a_version_is_that_of_the_standard_if_there_is_no_other():
    assert get_backend("array_api_compat.torch:").library.version().startswith("array API 20")


@pytest.mark.parametrize("spec", [VAULT, "tests.namespaces:same"])
def test_a_backend_of_it_can_be_copied_and_pickled(spec):
    be = get_backend(spec, dtype="float64")
    assert pickle.loads(pickle.dumps(be)) == be
    assert copy.deepcopy(be) is be


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nosuch:xp", ImportError, r"the namespace 'nosuch:xp': can't import 'nosuch' \(ModuleNot"),
        ("tests.nosuch:xp", ImportError, r"can't import 'tests.nosuch' \(ModuleNotFoundError: No "),
        (":xp", ImportError, r"the namespace ':xp': can't import '' \(ValueError: "),
        ("tests.namespaces:nosuch", ValueError, "the module 'tests.namespaces' has no 'nosuch'"),
        ("json:", ValueError, "'json:' is no array API namespace: it lacks __array_namespace_info"),
        (
            "tests.namespaces:no_floats",
            ValueError,
            "is no array API .*: it lacks float32 and ",
        ),
        ("math:pi", ValueError, r"clip and \d+ more$"),
        (
            "tests.namespaces:lists",
            ValueError,
            "'tests.namespaces:lists' makes objects of type list, which lack attributes of the "
            "standard's arrays: T, dtype, ndim, shape",
        ),
        (
            "tests.namespaces:empty_fails",
            ValueError,
            r"'tests.namespaces:empty_fails' can't make an array: empty\(\(0, 0\)\) fails: out of ",
        ),
        ("numpi", ValueError, "unknown backend 'numpi': .* and 'module:namespace' for a namespace"),
    ],
)
def test_what_can_not_be_opened(spec, error, message):
    with pytest.raises(error, match=message):
        get_backend(spec)
    found = probe(spec)
    assert not found.usable
    assert re.search(message, found.reason)


def test_a_module_with_an_error_is_named(tmp_path, monkeypatch):
    (tmp_path / "faulty_module.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"can't import 'faulty_module' \(SyntaxError: "):
        get_backend("faulty_module:xp")


def test_a_namespace_that_was_repaired_can_be_opened(monkeypatch):
    with pytest.raises(ValueError, match="has no 'repaired'"):
        get_backend("tests.namespaces:repaired")
    monkeypatch.setattr(namespaces, "repaired", namespaces.same, raising=False)
    assert get_backend("tests.namespaces:repaired").xp is namespaces.same


def test_what_a_namespace_lacks_is_named_where_it_is_needed():
    be = get_backend("tests.namespaces:no_log", dtype="float64")
    assert be.library.missing == {"exp": "has no 'exp'", "log": "has no 'log'"}
    net = RNN(2, 3, 2, backend=be, rng=0)
    x = be.asarray(np.ones((4, 2, 2)))
    value, _ = net.value_and_grad(x, x)
    ones = np.ones((4, 2, 2))
    want, _ = RNN(2, 3, 2, dtype="float64", rng=0).value_and_grad(ones, ones)
    assert float(value) == pytest.approx(float(want), rel=1e-14)
    message = r"'tests\.namespaces:no_log' has no 'exp': cross-entropy and sampling can't run"
    with prefer(be.library), pytest.raises(MissingFunctionError, match=message) as caught:
        net.value_and_grad(x, be.asarray(np.zeros((4, 2), int)), loss="cross_entropy")
    assert caught.value.function == "exp"
    assert not hasattr(be.xp, "float8")


def test_a_function_that_is_declared_impossible_is_missing():
    library = get_backend("tests.namespaces:fixed_shapes").library
    assert set(library.missing) == {"unique_inverse"}
    assert "no data-dependent shapes" in library.missing["unique_inverse"]
    assert get_backend("tests.namespaces:same").library.missing == {}


def test_a_dtype_that_the_device_lacks_is_refused():
    with pytest.raises(ValueError, match=r"single computes in float32$"):
        get_backend("tests.namespaces:single", dtype="float64")
    assert get_backend("tests.namespaces:single").dtype_name == "float32"
    with pytest.raises(ValueError, match="array_api_strict computes in float32 on device no_x64"):
        get_backend("array_api_strict@no_x64", dtype="float64")


@pytest.mark.parametrize("device", ["no_float64", "no_x64", "device2"])
def test_a_network_trains_on_a_device_that_lacks_dtypes(device):
    be = get_backend(f"array_api_strict@{device}")
    assert be.library.device_name(be.device) == device
    tokens = np.random.default_rng(0).integers(0, 5, size=(6, 4))
    losses = []
    for backend in (be, get_backend()):
        net = RNN(5, 4, 5, backend=backend, cell="gru", rng=0)
        x = backend.asarray(tokens)
        history = fit(
            net, minibatches(x, x, 2, rng=0), loss="cross_entropy", epochs=2, optimizer="rprop"
        )
        losses.append(history.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert pickle.loads(pickle.dumps(be)) == be


def test_integers_take_a_dtype_that_the_device_has():
    be = get_backend("array_api_strict@no_x64")
    assert dtype_name(be.asarray([1, 2]).dtype) == "int32"
    with pytest.raises(ValueError, match=r"integers of int64 do not fit on device .*no_x64.*int32"):
        be.asarray([2**40])


def test_scalars_may_have_a_class_of_their_own():
    be = get_backend("tests.namespaces:scalars", dtype="float64")
    total = be.xp.sum(be.asarray([1.0, 2.0]))
    assert type(total) is namespaces.Scalar
    assert be.owns(total)
    assert namespace_of(total) is namespaces.scalars
    net = RNN(2, 3, 2, backend=be, rng=0)
    x = be.asarray(np.ones((4, 2, 2)))
    assert type(net.value_and_grad(x, x)[0]) is namespaces.Scalar


def test_dtypes_are_compared_and_devices_may_be_any_object():
    be = get_backend("tests.namespaces:rooms", dtype="float64")
    assert be.dtype_name == "float64"
    assert be.device == namespaces.Room(0)
    second = get_backend("tests.namespaces:rooms@room 1", dtype="float64")
    assert second.device == namespaces.Room(1)
    assert second == get_backend("tests.namespaces:rooms", namespaces.Room(1), "float64")
    assert pickle.loads(pickle.dumps(second)) == second
    assert hash(second) != hash(be)
    net = RNN(2, 3, 2, backend=second, rng=0)
    x = second.asarray(np.ones((4, 2, 2)))
    value, gradient = net.value_and_grad(x, x)
    same = RNN(2, 3, 2, dtype="float64", rng=0)
    want = same.value_and_grad(np.ones((4, 2, 2)), np.ones((4, 2, 2)))
    assert float(value) == pytest.approx(float(want[0]), rel=1e-14)
    got = second.to_numpy(gradient.parameters["weight_hh_l0"])
    np.testing.assert_allclose(got, want[1].parameters["weight_hh_l0"], rtol=0, atol=1e-14)


def test_a_device_is_given_once():
    with pytest.raises(ValueError, match="device is given twice: 'device1' in the name, and 'dev"):
        get_backend("array_api_strict@device1", "device2")


def test_values_are_read_whole():
    """Entry by entry, an array of 100,000 numbers takes seconds."""

    class Unread(namespaces.Sealed):
        def asnumpy(self):
            return np.asarray(self._held)

        def __getitem__(self, key):
            raise AssertionError("read entry by entry")

    library = get_backend(VAULT, dtype="float64").library
    for dtype in (*DTYPES, "complex64", "complex128"):
        held = array_api_strict.asarray(np.arange(6).reshape(2, 3).astype(dtype))
        host = library.to_host(Unread(held))
        assert (host.dtype.name, host.tolist()) == (dtype, np.asarray(held).tolist())


def test_complex_numbers_come_back():
    for spec in (VAULT, "numpy:", "tests.namespaces:same"):
        be = get_backend(spec, dtype="float64")
        there = be.library.from_host(np.asarray([1 + 2j, 3]), be.device)
        assert be.library.to_host(there).tolist() == [1 + 2j, 3]


def test_a_lazy_array_is_computed():
    be = get_backend("tests.namespaces:deferred", dtype="float64")
    array = be.asarray([1.0, 2.0])
    assert be.to_numpy(array).tolist() == [1, 2]
    assert be.library.all_finite(array)
    assert not be.library.all_finite(be.asarray([np.inf]))


def test_an_array_whose_values_can_not_be_read_is_named(monkeypatch):
    monkeypatch.setattr(namespaces.Deferred, "compute", None)
    be = get_backend("tests.namespaces:deferred", dtype="float64")
    with pytest.raises(
        TypeError, match=r"the values of an array of .* can't be read, neither by __"
    ):
        be.to_numpy(be.asarray([1.0]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("elsewhere", r"asarray\(.*, device=.*CPU_DEVICE.*\) returned an array .* on device .*2"),
        ("wide_asarray", r"asarray\(\.\.\., dtype=float32, .*\) returned an array of dtype .*64"),
    ],
)
def test_an_asarray_that_ignores_what_it_is_told_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        get_backend(f"tests.namespaces:{spec}").asarray([1.0])


def test_a_dtype_that_is_silently_another_is_refused():
    message = r"dtype is 'float64': tests\.namespaces:narrow creates float32 arrays for it"
    with pytest.raises(ValueError, match=message):
        get_backend("tests.namespaces:narrow", dtype="float64")
    assert get_backend("tests.namespaces:narrow").dtype_name == "float32"


def test_devices():
    be = get_backend("tests.namespaces:same", "array_api_strict.Device('device1')")
    assert be.device == array_api_strict.Device("device1")
    assert get_backend("tests.namespaces:same", array_api_strict.Device("device2")).device == (
        array_api_strict.Device("device2")
    )
    assert be.owns(be.asarray([1.0]))
    assert not be.owns(get_backend("tests.namespaces:same").asarray([1.0]))
    assert be.to_numpy(be.asarray([1.5, 2.0])).tolist() == [1.5, 2]
    assert get_backend(VAULT).device == "vault"
    assert get_backend(VAULT).library.hardware("vault") == ""
    with pytest.raises(ValueError, match=r"device is 'attic': tests.namespaces:vault has 'vault'"):
        get_backend(VAULT, "attic")
    # Besides its devices it lists None, which stands for a default.
    assert "None" not in get_backend("jax.numpy:").library.devices()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (2, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", [VAULT, "tests.namespaces:same", "numpy:"])
def test_host_arrays_go_there_and_back(spec, dtype, shape):
    be = get_backend(spec, dtype="float64")
    host = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    there = be.library.from_host(host, be.device)
    assert isinstance(there, type(be.xp.empty(0)))
    assert be.xp.isdtype(there.dtype, getattr(be.xp, dtype))
    back = be.to_numpy(there)
    assert (back.dtype, back.shape) == (host.dtype, shape)
    assert np.array_equal(back, host)


def test_a_host_array_is_not_shared():
    host = np.zeros(2)
    there = get_backend("numpy:", dtype="float64").library.from_host(host, "cpu")
    host += 1
    assert there.tolist() == [0, 0]


def test_arrays_of_a_class_of_their_own_are_known():
    be = get_backend(VAULT, dtype="float64")
    array = be.asarray([1.0, 2.0])
    assert backend_of(array) == be
    assert namespace_of(array) is namespaces.vault
    assert be.owns(from_host(np.array([1]), beside=array))
    with pytest.raises(TypeError, match=r"an array of the backend 'tests\.namespaces:vault': take"):
        get_backend("numpy").asarray(array)


def test_a_class_derived_from_a_known_one_is_known_and_the_known_one_still():
    be = get_backend("tests.namespaces:careless", dtype="float64")
    assert namespace_of(be.asarray([1.0])) is namespaces.careless
    for known in (np.ones(2), np.float64(1)):
        assert backend_of(known) == get_backend("numpy", dtype="float64")
    assert type(get_backend("numpy").asarray([1.0])) is np.ndarray


def test_an_array_that_is_anothers_too_is_the_others_unless_preferred():
    be = get_backend("tests.namespaces:off_tanh", dtype="float64")
    array, numpy = be.asarray([1.0]), np.ones(1)
    assert be.library.shares_class
    assert library_of(array).name == "array_api_strict"
    with prefer(be.library):
        assert namespace_of(array) is namespaces.off_tanh
        assert library_of(numpy).name == "numpy"
        with prefer(get_backend("numpy").library):
            assert library_of(array).name == "array_api_strict"
        assert namespace_of(array) is namespaces.off_tanh
    assert library_of(array).name == "array_api_strict"


def test_a_preference_ends_with_an_error():
    be = get_backend("tests.namespaces:off_tanh")
    with pytest.raises(ZeroDivisionError), prefer(be.library):
        raise ZeroDivisionError
    assert library_of(be.asarray([1.0])).name == "array_api_strict"


def test_a_sum_of_host_arrays_is_a_scalar_of_theirs():
    be = get_backend("tests.namespaces:off_tanh_numpy", dtype="float64")
    total = be.xp.sum(be.asarray([1.0, 2.0]))
    assert be.owns(total)
    with prefer(be.library):
        assert namespace_of(total) is namespaces.off_tanh_numpy


def test_a_network_trains_on_arrays_that_nothing_else_can_read():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, size=(6, 4))
    nets = [RNN(5, 4, 5, backend=spec, dtype="float64", rng=0) for spec in (VAULT, "numpy")]
    histories = []
    for net in nets:
        x = net.backend.asarray(tokens)
        batches = minibatches(x, x, 2, rng=0)
        histories.append(fit(net, batches, loss="cross_entropy", epochs=2, clip_norm=1.0))
    assert histories[0].loss == pytest.approx(histories[1].loss, rel=1e-13)
    for name, array in nets[1].parameters.items():
        there = nets[0].backend.to_numpy(nets[0].parameters[name])
        np.testing.assert_allclose(there, array, rtol=0, atol=1e-13)


def test_a_network_can_be_saved_from_and_loaded_to_it(tmp_path):
    net = RNN(2, 3, 2, backend=VAULT, rng=0)
    net.save(tmp_path / "model.safetensors")
    same = RNN.load(tmp_path / "model.safetensors", backend=VAULT)
    assert same.backend == net.backend
    assert np.array_equal(
        same.backend.to_numpy(same.parameters["bias_l0"]), RNN(2, 3, 2, rng=0).parameters["bias_l0"]
    )


def test_cross_entropy_needs_no_writing():
    be = get_backend(VAULT, dtype="float64")
    logits = np.random.default_rng(0).normal(size=(3, 2, 4))
    target = np.array([[0, 3], [-1, 1], [2, 2]])
    value, gradient = CrossEntropy().value_and_grad(be.asarray(logits), be.asarray(target))
    want_value, want = CrossEntropy().value_and_grad(logits, target)
    assert float(value) == pytest.approx(float(want_value), rel=1e-14)
    np.testing.assert_allclose(be.to_numpy(gradient), want, rtol=0, atol=1e-14)


def test_rows_are_put_without_writing():
    library = get_backend("tests.namespaces:same").library
    a = array_api_strict.zeros((4, 2))
    made = library.put_rows(a, slice(1, 3), array_api_strict.ones((2, 2)))
    assert np.asarray(made).tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert np.asarray(a).tolist() == [[0, 0]] * 4


def test_sums_into_columns():
    be = get_backend(VAULT, dtype="float64")
    rows, tokens = be.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), be.asarray([2, 0, 2])
    gradient = sum_columns(rows, tokens, 3)
    assert isinstance(gradient, SparseGradient)
    assert be.to_numpy(gradient.to_dense()).tolist() == [[3, 0, 6], [4, 0, 8]]


def test_every_function_that_is_used_is_asked_for():
    """A function that is not in the list would be missed when it is called, not when opened."""
    root = Path(xprnn.__file__).parent
    call = re.compile(
        r"(?:\bxp|namespace\(\)|_namespace\(\w+\)|namespace_of\(\w+\))\s*\.\s*([a-z_][a-z_0-9]*)\b"
    )
    named = {"cupy.py", "jax.py", "numpy.py", "strict.py", "torch.py"}
    named.add("exchange.py")  # of arrays with torch, which modules of torch alone need
    used = {
        name
        for path in root.rglob("*.py")
        # The dual arrays have rules for what a user's own cell may call, too.
        if path.name not in named and path.parent.name != "dual"
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.strip().startswith((">>>", "..."))  # an example is a user's code
        for name in call.findall(line)
    }
    functions = {name for name in used if inspect.isfunction(getattr(array_api_strict, name, None))}
    assert functions == set(FUNCTIONS)
    assert list(FUNCTIONS) == sorted(FUNCTIONS)


def test_arrays_need_not_know_their_device(monkeypatch):
    """As Dask's don't."""

    def hidden(self):
        raise AttributeError("device")

    monkeypatch.setattr(namespaces.Sealed, "device", property(hidden))
    vault = namespaces.Vault()
    info = namespaces.Changed(vault.__array_namespace_info__(), default_device=lambda: "vault")
    made = namespaces.Changed(vault, __array_namespace_info__=lambda: info)
    monkeypatch.setattr(namespaces, "deviceless", made, raising=False)
    be = get_backend("tests.namespaces:deviceless", dtype="float64")
    assert be.device == "vault"
    assert be.to_numpy(be.asarray([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert be.owns(be.asarray(1.0))
