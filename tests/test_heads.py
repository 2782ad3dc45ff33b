"""Heads: blocks of units, each with a recurrent matrix of its own."""

import numpy as np
import pytest

from xprnn import RNN, merge
from xprnn.diagnostics import draw_text, gradient_flow
from xprnn.interop.torch import to_state_dict
from xprnn.testing import check_gradients

RNG = np.random.default_rng(0)
T, B, H, HEADS = 6, 3, 6, 3
X, LENGTHS = RNG.normal(size=(T, B, 2)), [4, 6, 1]
TARGET = RNG.normal(size=(T, B, 3))


def made(hidden=H, **options) -> RNN:
    options = {"cell": "slstm", "dtype": "float64", "rng": 0, "heads": HEADS} | options
    return RNN(2, hidden, 3, **options)


def places(net: RNN, layer: int) -> np.ndarray:
    """Return which entries of the full matrix U has, (G·H, H), in the order of its entries."""
    H = net.architecture.sizes[layer]
    units = np.arange(H) // (H // net.heads)
    return np.tile(units[:, None] == units, (net.cell.gates, 1))


def full(net: RNN) -> RNN:
    """Return the network without heads whose recurrent matrices are block-diagonal."""
    options = {"cell": net.cell, "layers": net.layers, "bidirectional": net.bidirectional}
    twin = made(net.hidden_size, **options, heads=1, returns=net.returns)
    for name, array in net.parameters.items():
        written = array
        if name.startswith("weight_hh"):
            written = np.zeros(twin.parameters[name].shape)
            written[places(net, int(name.removeprefix("weight_hh_l")[0]))] = array.ravel()
        twin.parameters[name] = written
    return twin


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("cell", ["slstm", "lstm", "gru_reset_before"])
def test_it_is_the_network_of_a_block_diagonal_matrix(cell, returns, window):
    net = made((6, 3), cell=cell, bidirectional=True, returns=returns)
    twin, target = full(net), TARGET if returns == "sequence" else TARGET[0]
    options = {"lengths": LENGTHS, "window": window}
    value, mine = net.value_and_grad(X, target, **options)
    want, theirs = twin.value_and_grad(X, target, **options)
    assert value == want
    assert np.array_equal(mine.input, theirs.input)
    for name, g in mine.parameters.items():
        of_twin = theirs.parameters[name]
        if name.startswith("weight_hh"):
            k = int(name.removeprefix("weight_hh_l")[0])
            assert g.shape == (net.cell.gates * (6, 3)[k], (2, 1)[k])
            of_twin = of_twin[places(net, k)].reshape(g.shape)
        assert np.array_equal(g, of_twin), name
    for part, of_part in zip(mine.state, theirs.state, strict=True):
        assert np.array_equal(part, of_part)


def test_a_head_knows_nothing_of_the_others():
    net = made()
    state = tuple(RNG.random((1, B, H)) + 0.5 for _ in range(4))
    other = tuple(part.copy() for part in state)
    for part in other:
        part[..., :2] = 0.25
    (h, *_), (again, *_) = net(X, state)[1], net(X, other)[1]
    assert np.array_equal(h[..., 2:], again[..., 2:])
    assert not np.any(h[..., :2] == again[..., :2])


def test_gradients_and_recomputing():
    net = made(layers=2, dropout=0.3, recurrent_dropout=0.2, residual=True)
    check_gradients(net, X, lengths=LENGTHS)
    run, again = (net.forward(X, rng=3, recompute=r) for r in (False, True))
    one, two = net.backward(run, TARGET).parameters, net.backward(again, TARGET).parameters
    assert all(np.array_equal(g, two[name]) for name, g in one.items())


def test_tangents_and_hessian_products():
    net = made(cell="lstm")
    d, e = ({k: RNG.normal(size=p.shape) for k, p in net.parameters.items()} for _ in "de")
    along = net.jvp(X, d_parameters=d)
    gradient = net.backward(net.forward(X), TARGET).parameters
    expected = sum(np.sum(gradient[k] * d[k]) for k in d)
    assert np.sum(TARGET * along.d_output) == pytest.approx(expected)
    Hd, He = (net.hvp(X, TARGET, v) for v in (d, e))
    eHd, dHe = (sum(np.sum(a[k] * b[k]) for k in d) for a, b in ((e, Hd), (d, He)))
    assert eHd == pytest.approx(dHe, rel=1e-10)


@pytest.mark.parametrize(
    "backend", ["array_api_strict", "torch", pytest.param("jax", marks=pytest.mark.full)]
)
def test_other_backends(backend):
    pytest.importorskip(backend)
    net = made(cell="elman")
    other = net.to(backend)
    asarray, host = other.backend.asarray, other.backend.to_numpy
    value, gradient = net.value_and_grad(X, TARGET, lengths=LENGTHS)
    theirs, of_theirs = other.value_and_grad(asarray(X), asarray(TARGET), lengths=LENGTHS)
    assert float(theirs) == pytest.approx(float(value), rel=1e-12)
    for name, g in gradient.parameters.items():
        assert np.allclose(host(of_theirs.parameters[name]), g, rtol=0, atol=1e-13), name


def test_saving_and_initial_values(tmp_path):
    net = made(initializer={"U": "orthogonal"})
    for block in net.parameters["weight_hh_l0"].reshape(-1, 2, 2):
        assert np.allclose(block @ block.T, np.eye(2))
    net.save(tmp_path / "m.safetensors")
    loaded = RNN.load(tmp_path / "m.safetensors")
    assert loaded.architecture == net.architecture
    assert np.array_equal(loaded(X)[0], net(X)[0])
    assert 0.09 < np.abs(made(hidden=300).parameters["weight_hh_l0"]).max() <= 0.1
    assert "heads=3" in repr(net)
    assert made(heads=1).architecture == RNN(2, H, 3, cell="slstm").architecture


def test_merged_networks_are_ordinary_ones():
    nets = [made(rng=0), made(rng=1, heads=2)]
    one = merge(nets)
    assert (one.hidden_size, one.heads) == (2 * H, 1)
    assert np.allclose(one(X)[0], np.mean([net(X)[0] for net in nets], axis=0), atol=1e-14)


def test_the_diagnostics_show_the_blocks():
    net = made()
    flow = gradient_flow(net, X, TARGET)
    recurrent = flow.recurrent[0].reshape(-1, H)
    assert np.array_equal(recurrent[places(net, 0)], net.parameters["weight_hh_l0"].ravel())
    assert not recurrent[~places(net, 0)].any()
    assert "3 heads" in draw_text(net)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: made(heads=4), ValueError, "heads is 4, .* hidden_size is 6: expected a divisor"),
        (lambda: made(heads=7), ValueError, "expected a divisor"),
        (lambda: made((6, 4)), ValueError, r"hidden_size is \(6, 4\): expected a divisor"),
        (lambda: made(heads=0), ValueError, "heads is 0"),
        (lambda: made(heads=2.0), TypeError, r"heads is 2\.0"),
        (lambda: made(cell="ind_rnn"), ValueError, "IndRNN has none"),
        (lambda: made(projection=2), ValueError, "expected one of the two"),
        (lambda: to_state_dict(made(cell="lstm")), ValueError, "torch's layers have none"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
