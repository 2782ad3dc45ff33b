"""Compiled sweeps of a windowed truncation against those in plain array code."""

import numpy as np
import pytest

import xprnn
from tests.closeness import assert_close
from xprnn.backend.host.workers import Workers
from xprnn.cells import GRU, LSTM, Elman
from xprnn.losses import CrossEntropy

pytestmark = pytest.mark.slow

pytest.importorskip("numba")

from xprnn.engine.loop.numba import team  # noqa: E402
from xprnn.engine.loop.numba.loops import NumbaLoops  # noqa: E402


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@pytest.fixture
def calls(monkeypatch):
    """Return the numbers of sweeps that the compiled loop is asked for."""
    seen, sweeps = [], NumbaLoops.sweeps

    def counted(self, *arguments):
        seen.append(arguments[-2])
        return sweeps(self, *arguments)

    monkeypatch.setattr(NumbaLoops, "sweeps", counted)
    return seen


def arrays_of(result):
    value, gradient = result
    parts = [value, *gradient.parameters.values(), gradient.input, *gradient.state]
    return [np.asarray(part) for part in parts]


def gradients(net, shape, *, window, **options):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(*shape, net.input_size)).astype(net.backend.dtype_name)
    target = rng.normal(size=(*shape, net.output_size)).astype(net.backend.dtype_name)
    state = tuple(0.5 * rng.normal(size=part.shape) for part in net(x)[1])
    state = tuple(part.astype(net.backend.dtype_name) for part in state)
    return arrays_of(net.value_and_grad(x, target, state=state, window=window, **options))


CELLS = [Elman(), GRU(), LSTM(peepholes=True)]
NETS = {
    "layer": ({}, [4]),
    "both-ways": ({"bidirectional": True, "recurrent_dropout": 0.3}, [4, 4]),
    # In a stack each sweep goes through all layers before the next begins.
    "stack": ({"layers": 2}, [1] * 8),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_the_same_as_in_plain_array_code(cell, kind, calls):
    options, sweeps = NETS[kind]
    net = xprnn.RNN(3, 5, 2, cell=cell, dtype="float64", rng=0, **options)
    gaps = np.random.default_rng(2).random((9, 9)) < 0.5
    gaps[:, 4] = False
    for padding in ({}, {"lengths": (9, 1, 4, 2, 9, 3, 9, 8, 9)}, {"mask": gaps}):
        calls.clear()
        found = gradients(net, (9, 9), window=3, rng=3, **padding)
        assert calls == sweeps
        with xprnn.disable_lowering():
            want = gradients(net, (9, 9), window=3, rng=3, **padding)
        assert calls == sweeps
        for a, b in zip(found, want, strict=True):
            assert_close(a, b, 1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize(("batch", "steps"), [(27, 7), (17, 6), (16, 9)])
def test_the_same_bits_however_many_threads(cell, batch, steps, monkeypatch):
    monkeypatch.setattr(team, "START", 1)
    monkeypatch.setattr(team, "WORKERS", Workers())
    net = xprnn.RNN(3, 21, 2, cell=cell, dtype="float64", rng=0)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(team, "compute_threads", lambda count=count: count)
        shares = team.shares_of_sequences(steps * 3, batch, net.parameters["weight_hh_l0"])
        assert len(shares) == min(count, -(-batch // 8))
        assert [shares[0].start, shares[-1].stop] == [0, batch]
        found.append([a.tobytes() for a in gradients(net, (steps, batch), window=2)])
    assert found[0] == found[1] == found[2]


def test_tokens(calls):
    """The language model's step: integers, one layer, more rows than a block has."""
    net = xprnn.RNN(50, 20, 50, bias=False, dtype="float64", rng=0)
    x = np.random.default_rng(0).integers(0, 50, (40, 5))
    loss = CrossEntropy("sum")
    value, gradient = net.value_and_grad(x, x, loss=loss, window=4)
    with xprnn.disable_lowering():
        same, want = net.value_and_grad(x, x, loss=loss, window=4)
    assert calls == [5]
    assert_close(value, same, 1e-12)
    for name in ("weight_hh_l0", "readout.weight"):
        assert_close(gradient.parameters[name], want.parameters[name], 1e-12)
    sparse = gradient.parameters["weight_ih_l0"].to_dense()
    assert_close(sparse, want.parameters["weight_ih_l0"].to_dense(), 1e-12)


def test_a_large_matrix_is_left_to_products_that_threads_share(calls, monkeypatch):
    net = xprnn.RNN(3, 8, 2, dtype="float64", rng=0)
    monkeypatch.setattr(team, "OWN_CACHE", 8 * 8 * 8 - 1)
    gradients(net, (11, 2), window=3)
    assert calls == []
