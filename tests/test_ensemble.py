"""An ensemble merged into one network, whose output is the mean of the networks' outputs."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.closeness import FLOAT64, assert_close
from xprnn import RNN, fit, get_backend, merge
from xprnn.cells import Arrays, Elman


@dataclass(frozen=True)
class Gate:
    """h(t) = f h(t-1) + tanh(u₁ + v₁), f = ½ tanh(u₂ + v₂): two gates of different kinds."""

    gates = 2
    state = ("h",)

    def forward(self, xp, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        return (0.5 * xp.tanh(u[1] + v[1]) * state[0] + xp.tanh(u[0] + v[0]),), ()

    def backward(self, xp, saved: Arrays, previous: Arrays, d_state: Arrays):
        del xp, saved, previous, d_state
        raise AssertionError("merging differentiates nothing")


X = np.random.default_rng(0).normal(size=(7, 3, 2))


def networks(hidden=(4, 1, 6), **options):
    return [RNN(2, h, 3, rng=k, dtype="float64", **options) for k, h in enumerate(hidden)]


def mean_of(nets, x):
    return np.mean([net(x)[0] for net in nets], axis=0)


@pytest.mark.parametrize("cell", [Elman("tanh"), Elman("relu"), Gate()], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("hidden", [(4, 1, 6), (5, 5), (3,)])
def test_the_output_is_the_mean(cell, bias, returns, hidden):
    nets = networks(hidden, cell=cell, bias=bias, returns=returns)
    merged = merge(nets)
    assert (merged.input_size, merged.hidden_size, merged.output_size) == (2, sum(hidden), 3)
    assert (merged.cell, merged.bias, merged.returns) == (cell, bias, returns)
    assert set(merged.parameters) == set(nets[0].parameters)
    assert_close(merged(X)[0], mean_of(nets, X), FLOAT64)


def test_the_state_is_their_states_side_by_side():
    nets = networks()
    (state,) = merge(nets)(X)[1]
    want = np.concatenate([net(X)[1][0] for net in nets], axis=2)
    assert_close(state, want, FLOAT64)


def test_it_starts_where_they_start():
    nets = networks()
    states = [
        np.random.default_rng(k).normal(size=(1, 3, net.hidden_size)) for k, net in enumerate(nets)
    ]
    want = np.mean([net(X, (h,))[0] for net, h in zip(nets, states, strict=True)], axis=0)
    assert_close(merge(nets)(X, (np.concatenate(states, axis=2),))[0], want, FLOAT64)


def test_every_backend_merges(harness):
    nets = [net.to(harness.backend) for net in networks((5, 5))]
    merged = merge(nets)
    assert merged.backend == harness.backend
    x = harness.array(X[:4])
    want = np.mean([harness.host(net(x)[0]) for net in nets], axis=0)
    assert_close(harness.host(merged(x)[0]), want, FLOAT64)


def test_the_dropout_stays():
    merged = merge(networks(dropout=0.25, recurrent_dropout=0.5))
    assert (merged.architecture.dropout, merged.architecture.recurrent_dropout) == (0.25, 0.5)


def test_float32_stays_float32():
    nets = [net.to("numpy", dtype="float32") for net in networks()]
    output = merge(nets)(X.astype("float32"))[0]
    assert output.dtype == np.float32
    assert_close(output, mean_of(nets, X.astype("float32")), 1e-6)


def test_the_networks_stay_as_they_are():
    nets = networks()
    before = [{k: p.copy() for k, p in net.parameters.items()} for net in nets]
    merged = merge(nets)
    fit(merged, (X, np.zeros((7, 3, 3))))
    for net, parameters in zip(nets, before, strict=True):
        for name, array in parameters.items():
            np.testing.assert_array_equal(net.parameters[name], array)


def test_the_merged_network_is_saved_as_any_other(tmp_path):
    merged = merge(networks())
    merged.save(tmp_path / "merged.safetensors")
    np.testing.assert_array_equal(RNN.load(tmp_path / "merged.safetensors")(X)[0], merged(X)[0])


def changed(**options):
    """Return one network, and one that differs in the options."""
    given = {"dtype": "float64", "rng": 0}
    sizes = {"input_size": 2, "output_size": 3}
    return [RNN(hidden_size=4, **(sizes | given)), RNN(hidden_size=4, **(sizes | given | options))]


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([], "nets is empty: expected at least one network"),
        (
            changed(output_size=None),
            r"nets\[1\] has no readout, so its output can't be averaged: R",
        ),
        (changed(input_size=1), r"nets\[1\]\.input_size is 1, nets\[0\]\.input_size is 2: only we"),
        (changed(output_size=2), r"nets\[1\]\.output_size is 2, nets\[0\]\.output_size is 3"),
        (
            changed(cell=Elman("relu")),
            r"nets\[1\]\.cell is Elman\(activation='relu'\), nets\[0\]\.cell is Elman\(",
        ),
        (changed(bias=False), r"nets\[1\]\.bias is False, nets\[0\]\.bias is True"),
        (changed(returns="last"), r"nets\[1\]\.returns is last, nets\[0\]\.returns is sequence"),
        (
            changed(dropout=0.25),
            r"nets\[1\]\.dropout is 0\.25, nets\[0\]\.dropout is 0\.0: only weights and hidden",
        ),
        (
            changed(recurrent_dropout=0.5),
            r"nets\[1\]\.recurrent_dropout is 0\.5, nets\[0\]\.recurrent_dropout is 0\.0: only w",
        ),
        (
            changed(dtype="float32"),
            r"nets\[1\]\.backend is .*float32.*, nets\[0\]\.backend is .*64",
        ),
    ],
)
def test_networks_that_do_not_belong_together(nets, message):
    with pytest.raises(ValueError, match=message):
        merge(nets)


def test_networks_of_two_backends():
    pytest.importorskip("array_api_strict")
    nets = changed(backend=get_backend("array_api_strict", dtype="float64"), dtype=None)
    message = r"nets\[1\]\.backend is .*array_api_strict.*: only weights and hidden size may differ"
    with pytest.raises(ValueError, match=message):
        merge(nets)
