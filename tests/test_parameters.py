"""Assigning parameters: one by one, or all at once; what does not fit is refused."""

import numpy as np
import pytest

from xprnn import RNN, get_backend

NAMES = ["weight_ih_l0", "weight_hh_l0", "bias_l0", "readout.weight", "readout.bias"]


@pytest.fixture
def net():
    return RNN(2, 3, 1, dtype="float64", rng=0)


def test_one_can_be_assigned(net):
    x = np.ones((4, 2, 2))
    before, _ = net(x)
    new = np.array([0.5])
    net.parameters["readout.bias"] = new
    shifted, _ = net(x)
    old = RNN(2, 3, 1, dtype="float64", rng=0).parameters["readout.bias"]
    assert net.parameters["readout.bias"] is new
    assert np.allclose(shifted - before, new - old, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "assign",
    [
        lambda net, new: net.parameters.update(new),
        lambda net, new: net.parameters.update(**new),
        lambda net, new: net.parameters.update(new.items()),
        lambda net, new: net.parameters.__ior__(new),
    ],
    ids=["mapping", "keywords", "pairs", "ior"],
)
def test_several_can_be_assigned(net, assign):
    kept = dict(net.parameters)
    new = {"bias_l0": np.ones(3), "weight_hh_l0": np.eye(3)}
    assign(net, new)
    assert net.parameters["bias_l0"].tolist() == [1, 1, 1]
    assert net.parameters["weight_hh_l0"].tolist() == np.eye(3).tolist()
    assert net.parameters["weight_ih_l0"] is kept["weight_ih_l0"]


def test_several_can_be_assigned_in_place(net):
    net.parameters |= {"bias_l0": np.ones(3)}
    assert net.parameters["bias_l0"].tolist() == [1, 1, 1]
    with pytest.raises(KeyError, match="there is no parameter 'bias'"):
        net.parameters |= {"bias": np.ones(3)}


def test_all_can_be_assigned(net):
    new = {name: np.full(p.shape, 0.5) for name, p in reversed(net.parameters.items())}
    net.parameters = new
    assert list(net.parameters) == NAMES
    assert all(net.parameters[name] is new[name] for name in NAMES)


def test_all_or_nothing_is_assigned(net):
    kept = dict(net.parameters)
    new = {"bias_l0": np.ones(3), "weight_hh_l0": np.ones((3, 2))}
    for assign in (net.parameters.update, net.parameters.__ior__):
        with pytest.raises(ValueError, match=r"weight_hh_l0 has shape \(3, 2\): expected \(3, 3\)"):
            assign(new)
    with pytest.raises(ValueError, match=r"weight_hh_l0 has shape \(3, 2\): expected \(3, 3\)"):
        net.parameters = kept | new
    assert all(net.parameters[name] is p for name, p in kept.items())


def test_another_precision_is_cast(net):
    net.parameters["bias_l0"] = np.float32([0.5, 1.5, 2.5])
    assert net.parameters["bias_l0"].dtype == np.float64
    assert net.parameters["bias_l0"].tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("name", "array", "error", "message"),
    [
        ("bias", np.ones(3), KeyError, "there is no parameter 'bias': known are weight_ih_l0, wei"),
        ("bias_l0", np.ones(4), ValueError, r"bias_l0 has shape \(4,\): expected \(3,\)"),
        ("bias_l0", np.ones((1, 3)), ValueError, r"bias_l0 has shape \(1, 3\): expected \(3,\)"),
        ("bias_l0", np.ones(3, int), TypeError, "bias_l0 has dtype int64: expected floats"),
        (
            "bias_l0",
            np.ones(3, complex),
            TypeError,
            "bias_l0 has dtype complex128: expected",
        ),
        (
            "bias_l0",
            [1.0, 1, 1],
            TypeError,
            "bias_l0 is a list: expected an array of the backend",
        ),
        ("bias_l0", None, TypeError, "bias_l0 is a NoneType: expected an array of the backend"),
    ],
)
def test_what_does_not_fit_is_refused(net, name, array, error, message):
    kept = dict(net.parameters)
    with pytest.raises(error, match=message):
        net.parameters[name] = array
    with pytest.raises(error, match=message):
        net.parameters = kept | {name: array}
    assert all(net.parameters[key] is p for key, p in kept.items())


def test_an_array_of_another_backend_is_refused(net):
    foreign = get_backend("torch", dtype="float64").asarray(np.ones(3))
    message = r"bias_l0 is a torch.Tensor of shape \(3,\) and dtype float64: expected an array of"
    with pytest.raises(TypeError, match=message):
        net.parameters["bias_l0"] = foreign


def test_an_array_on_another_device_is_refused():
    net = RNN(2, 3, 1, backend="array_api_strict", dtype="float64")
    elsewhere = get_backend("array_api_strict", "device1", "float64").asarray(np.ones(3))
    with pytest.raises(ValueError, match=r"bias_l0 is on device .*device1.* in use is on .*CPU_"):
        net.parameters["bias_l0"] = elsewhere


def test_none_can_be_left_out(net):
    with pytest.raises(KeyError, match=r"parameters lack bias_l0, readout.bias: expected weight"):
        net.parameters = {k: p for k, p in net.parameters.items() if "bias" not in k}


@pytest.mark.parametrize(
    "remove",
    [
        lambda p: p.__delitem__("bias_l0"),
        lambda p: p.pop("bias_l0"),
        lambda p: p.pop("bias_l0", None),
        lambda p: p.popitem(),
        lambda p: p.clear(),
    ],
    ids=["del", "pop", "pop-default", "popitem", "clear"],
)
def test_none_can_be_removed(net, remove):
    with pytest.raises(TypeError, match=r"parameter '.*bias.*' can be assigned, but not removed"):
        remove(net.parameters)
    assert list(net.parameters) == NAMES


def test_setdefault_adds_nothing(net):
    assert net.parameters.setdefault("bias_l0") is net.parameters["bias_l0"]
    with pytest.raises(KeyError, match="there is no parameter 'extra'"):
        net.parameters.setdefault("extra", np.ones(3))
