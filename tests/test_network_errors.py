"""Bad arguments are refused before any work is done, in words that say what to do."""

import numpy as np
import pytest

from tests.optional import optional
from xprnn import RNN, get_backend, losses
from xprnn.cells import Elman, get_cell

torch = optional("torch")

NAN, INF = float("nan"), float("inf")
X, Y = np.ones((4, 3, 2)), np.zeros((4, 3, 1))
STATE = (np.ones((1, 3, 5)),)


@pytest.fixture
def net():
    return RNN(2, 5, 1, dtype="float64", rng=0)


def poisoned(a: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    a = a.copy()
    a[index] = value
    return a


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size is 0: expected an int of at least 1"),
        ({"hidden_size": -3}, ValueError, "hidden_size is -3: expected an int of at least 1"),
        ({"output_size": 0}, ValueError, "output_size is 0: expected an int of at least 1"),
        ({"input_size": True}, TypeError, r"input_size is True \(bool\): expected an int"),
        ({"hidden_size": 3.0}, TypeError, r"hidden_size is 3\.0 \(float\): expected an int"),
        ({"output_size": "1"}, TypeError, r"output_size is '1' \(str\): expected an int"),
        ({"cell": "elmann"}, ValueError, "unknown cell 'elmann': known are .*'elman'"),
        (
            {"cell": Elman},
            TypeError,
            "cell is <class .*Elman'>: expected a name or a cell inst",
        ),
        ({"cell": 3}, TypeError, "cell is 3: expected a name or a cell instance"),
        ({"layers": 0}, ValueError, "layers is 0: expected an int of at least 1"),
        ({"layers": -1}, ValueError, "layers is -1: expected an int of at least 1"),
        ({"layers": 2.0}, TypeError, r"layers is 2\.0 \(float\): expected an int"),
        ({"layers": True}, TypeError, r"layers is True \(bool\): expected an int"),
        ({"bidirectional": 1}, TypeError, r"bidirectional is 1 \(int\): expected True or False"),
        ({"bidirectional": None}, TypeError, r"bidirectional is None \(NoneType\): expected True"),
        ({"dropout": 1.0}, ValueError, r"dropout is 1\.0: expected a number at least 0 and below"),
        ({"dropout": -0.1}, ValueError, r"dropout is -0\.1: expected a number at least 0 and be"),
        ({"dropout": NAN}, ValueError, "dropout is nan: expected a number at least 0 and below 1"),
        ({"dropout": "0.1"}, TypeError, r"dropout is '0\.1' \(str\): expected a number"),
        ({"dropout": True}, TypeError, r"dropout is True \(bool\): expected a number"),
        ({"dropout": None}, TypeError, r"dropout is None \(NoneType\): expected a number"),
        (
            {"recurrent_dropout": 1},
            ValueError,
            r"recurrent_dropout is 1\.0: expected a number at least 0 and below 1",
        ),
        ({"recurrent_dropout": -1}, ValueError, r"recurrent_dropout is -1\.0: expected a number"),
        ({"recurrent_dropout": INF}, ValueError, "recurrent_dropout is inf: expected a number"),
        ({"embedding_size": 0}, ValueError, "embedding_size is 0: expected an int of at least 1"),
        ({"embedding_size": 2.5}, TypeError, r"embedding_size is 2\.5 \(float\): expected an int"),
        ({"embedding_size": "3"}, TypeError, r"embedding_size is '3' \(str\): expected an int"),
        ({"returns": "all"}, ValueError, "returns is 'all': expected 'sequence' or 'last'"),
        ({"returns": None}, ValueError, "returns is None: expected 'sequence' or 'last'"),
        ({"backend": "numpie"}, ValueError, "unknown backend 'numpie': known are 'numpy', 'cupy'"),
        ({"dtype": "int8"}, ValueError, "dtype is 'int8': numpy computes in float16, float32, flo"),
        ({"device": "cuda"}, ValueError, "device is 'cuda': NumPy computes on 'cpu' only"),
        ({"rng": "0"}, TypeError, r"rng is '0' \(str\): expected an int seed, a numpy.random.Gen"),
        ({"rng": True}, TypeError, r"rng is True \(bool\): expected an int seed"),
        ({"rng": 1.5}, TypeError, r"rng is 1\.5 \(float\): expected an int seed"),
        ({"rng": -1}, ValueError, "rng is -1: a seed is zero or positive"),
        (
            {"initializer": "xavier"},
            ValueError,
            "unknown initializer 'xavier': known are 'uniform', 'normal', 'orthogonal', ",
        ),
        ({"initializer": 3}, TypeError, "initializer is 3: expected a name or an instance"),
        (
            {"backend": "array_api_strict", "dtype": "float16"},
            ValueError,
            "array_api_strict computes in float32, float64",
        ),
    ],
)
def test_a_network_that_can_not_be(options, error, message):
    with pytest.raises(error, match=message):
        RNN(**({"input_size": 2, "hidden_size": 5} | options))


def test_an_unknown_activation():
    message = "unknown activation 'sine': known are 'tanh', 'logistic', 'relu', 'identity'"
    with pytest.raises(ValueError, match=message):
        Elman("sine")


def test_a_cell_is_its_own_cell():
    cell = Elman("relu")
    assert get_cell(cell) is cell
    assert get_cell("elman") == Elman("tanh")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], ValueError, r"x has shape \(3, 2\): expected \(T, B, 2\)"),
        (X[None], ValueError, r"x has shape \(1, 4, 3, 2\): expected \(T, B, 2\)"),
        (X[..., :1], ValueError, r"x has shape \(4, 3, 1\): expected \(T, B, 2\)"),
        (X + 0j, TypeError, "x has dtype complex128: expected floats"),
        (X.astype(object), TypeError, "x has dtype object: expected floats"),
        (X.astype(int), TypeError, r"x has dtype int64: expected floats \(x = net.backend.asarray"),
        (X > 0, TypeError, "x has dtype bool: expected floats"),
        (X.tolist(), TypeError, r"x is a list: expected an array of the backend 'numpy' \(x = net"),
        (None, TypeError, "x is a NoneType: expected an array of the backend 'numpy'"),
        (poisoned(X, (1, 2, 0), NAN), ValueError, r"x\[1, 2, 0\] is nan: expected finite"),
        (poisoned(X, (3, 0, 1), INF), ValueError, r"x\[3, 0, 1\] is inf: expected finite"),
        (poisoned(X, (0, 0, 0), -INF), ValueError, r"x\[0, 0, 0\] is -inf: expected finite"),
    ],
)
def test_an_input_that_does_not_fit(net, x, error, message):
    expect_refused(net, x, error, message)


def test_a_tensor_of_torch_does_not_fit(net):
    message = r"x is a torch.Tensor of shape \(4, 3, 2\) and dtype flo"
    expect_refused(net, torch.ones(4, 3, 2), TypeError, message)


def expect_refused(net, x, error, message):
    for use in (net, net.forward, lambda x: net.value_and_grad(x, Y)):
        with pytest.raises(error, match=message):
            use(x)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (Y[..., 0], ValueError, r"target has shape \(4, 3\): expected \(4, 3, 1\)"),
        (Y[1:], ValueError, r"target has shape \(3, 3, 1\): expected \(4, 3, 1\)"),
        (Y[-1], ValueError, r"target has shape \(3, 1\): expected \(4, 3, 1\)"),
        (np.zeros((4, 3, 2)), ValueError, r"target has shape \(4, 3, 2\): expected \(4, 3, 1\)"),
        (Y.astype(int), TypeError, "target has dtype int64: expected floats"),
        (Y + 0j, TypeError, "target has dtype complex128: expected floats"),
        (0.0, TypeError, "target is a float: expected an array of the backend 'numpy'"),
        (poisoned(Y, (2, 1, 0), NAN), ValueError, r"target\[2, 1, 0\] is nan: expected finite"),
    ],
)
def test_a_target_that_does_not_fit(net, target, error, message):
    with pytest.raises(error, match=message):
        net.value_and_grad(X, target)


def test_a_sequence_of_targets_does_not_fit_the_last_output():
    net = RNN(2, 5, 1, returns="last", dtype="float64")
    with pytest.raises(ValueError, match=r"target has shape \(4, 3, 1\): expected \(3, 1\)"):
        net.value_and_grad(X, Y)


def test_a_target_is_checked_before_any_work(net, monkeypatch):
    monkeypatch.setattr("xprnn.engine.network.step_of", None)
    with pytest.raises(ValueError, match="target has shape"):
        net.value_and_grad(X, Y[1:])


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (STATE[0], TypeError, r"state is of type ndarray: expected a tuple \(h,\), each of shape"),
        ((), ValueError, r"state has 0 arrays: expected \(h,\), each of shape \(1, 3, 5\)"),
        (STATE * 2, ValueError, r"state has 2 arrays: expected \(h,\), each of shape \(1, 3, 5\)"),
        ((STATE[0][0],), ValueError, r"state\[0\] has shape \(3, 5\): expected \(1, 3, 5\)"),
        ((STATE[0][:, :2],), ValueError, r"state\[0\] has shape \(1, 2, 5\): expected \(1, 3, 5\)"),
        ((STATE[0].astype(int),), TypeError, r"state\[0\] has dtype int64: expected floats"),
        ((None,), TypeError, r"state\[0\] is a NoneType: expected an array of the backend"),
        (
            (poisoned(STATE[0], (0, 2, 4), NAN),),
            ValueError,
            r"state\[0\]\[0, 2, 4\] is nan: expected finite",
        ),
    ],
)
def test_a_state_that_does_not_fit(net, state, error, message):
    for use in (net, net.forward, lambda x, state: net.value_and_grad(x, Y, state=state)):
        with pytest.raises(error, match=message):
            use(X, state)


H = np.ones((6, 3, 5))
"""A state variable of three layers in both directions."""


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ((H,), ValueError, r"state has 1 arrays: expected \(h, c\), each of shape \(6, 3, 5\)"),
        (
            (H, H, H),
            ValueError,
            r"state has 3 arrays: expected \(h, c\), each of shape \(6, 3, 5\)",
        ),
        (H, TypeError, r"state is of type ndarray: expected a tuple \(h, c\), each of shape"),
        ((H[:3], H), ValueError, r"state\[0\] has shape \(3, 3, 5\): expected \(6, 3, 5\)"),
        ((H, H[:1]), ValueError, r"state\[1\] has shape \(1, 3, 5\): expected \(6, 3, 5\)"),
        ((H, H[:, :2]), ValueError, r"state\[1\] has shape \(6, 2, 5\): expected \(6, 3, 5\)"),
        ((H, H[..., :4]), ValueError, r"state\[1\] has shape \(6, 3, 4\): expected \(6, 3, 5\)"),
        ((H, H[0]), ValueError, r"state\[1\] has shape \(3, 5\): expected \(6, 3, 5\)"),
        ((H, H.astype(int)), TypeError, r"state\[1\] has dtype int64: expected floats"),
        ((H, None), TypeError, r"state\[1\] is a NoneType: expected an array of the backend"),
        (
            (H, poisoned(H, (4, 0, 2), INF)),
            ValueError,
            r"state\[1\]\[4, 0, 2\] is inf: expected finite",
        ),
    ],
)
def test_a_state_of_two_variables_that_does_not_fit(state, error, message):
    net = RNN(2, 5, 1, cell="lstm", layers=3, bidirectional=True, dtype="float64", rng=0)
    for use in (net, net.forward, lambda x, state: net.value_and_grad(x, Y, state=state)):
        with pytest.raises(error, match=message):
            use(X, state)
    if "finite" not in message:
        run = net.forward(X)
        with pytest.raises(error, match=f"d_{message}"):
            net.backward(run, Y, state)


@pytest.mark.parametrize(
    ("d_output", "d_state", "error", "message"),
    [
        (Y[0], None, ValueError, r"d_output has shape \(3, 1\): expected \(4, 3, 1\)"),
        (Y.astype(int), None, TypeError, "d_output has dtype int64: expected floats"),
        (1.0, None, TypeError, "d_output is a float: expected an array of the backend"),
        (Y, STATE[0], TypeError, r"d_state is of type ndarray: expected a tuple \(h,\)"),
        (Y, STATE * 2, ValueError, r"d_state has 2 arrays: expected \(h,\)"),
        (Y, (STATE[0][0],), ValueError, r"d_state\[0\] has shape \(3, 5\): expected \(1, 3, 5\)"),
    ],
)
def test_a_gradient_that_does_not_fit(net, d_output, d_state, error, message):
    run = net.forward(X)
    with pytest.raises(error, match=message):
        net.backward(run, d_output, d_state)


def test_an_output_is_no_run(net):
    with pytest.raises(TypeError, match="run is tuple: expected what forward returned"):
        net.backward(net(X), Y)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ("squared", ValueError, "unknown loss 'squared': known are 'squared_error'"),
        (losses.SquaredError, TypeError, "loss is <class .*>: expected a name or a loss instance"),
        (float, TypeError, "loss is <class 'float'>: expected a name or a loss instance"),
    ],
)
def test_what_is_no_loss(net, loss, error, message):
    with pytest.raises(error, match=message):
        net.value_and_grad(X, Y, loss)


def test_an_array_on_another_device():
    net = RNN(2, 5, 1, backend="array_api_strict", device="device1", dtype="float64")
    here, there = (get_backend("array_api_strict", d, "float64") for d in ("device1", "device2"))
    message = r"x is on device .*device2.*: the array_api_strict backend in use is on .*device1"
    with pytest.raises(ValueError, match=message):
        net(there.asarray(X))
    with pytest.raises(ValueError, match=r"target is on device .*device2"):
        net.value_and_grad(here.asarray(X), there.asarray(Y))


def test_the_position_of_what_is_not_finite(harness):
    net = RNN(2, 5, 1, backend=harness.backend)
    for index in ((0, 0, 1), (3, 2, 1)):
        with pytest.raises(ValueError, match=rf"x\[{', '.join(map(str, index))}\] is nan"):
            net(harness.array(poisoned(X, index, NAN)))
