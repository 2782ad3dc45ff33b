"""Projected layers: h = P m, and U P in the place of the recurrent matrix."""

import copy

import numpy as np
import pytest

from tests.optional import optional
from xprnn import RNN, Checkpoint, disable_lowering, fit, merge
from xprnn.cells import LSTM
from xprnn.diagnostics import draw_text, gradient_flow
from xprnn.interop.torch import from_state_dict, to_state_dict
from xprnn.testing import check_gradients

torch = optional("torch")
RNG = np.random.default_rng(0)
T, B, H, P = 6, 3, 5, 2
X, LENGTHS = RNG.normal(size=(T, B, 2)), [4, 6, 1]
EXISTS = np.arange(T)[:, None] < np.array(LENGTHS)


def made(hidden=H, outputs=3, **options) -> RNN:
    options = {"cell": "lstm", "dtype": "float64", "rng": 0, "projection": P} | options
    return RNN(2, hidden, outputs, **options)


def weight_of(net: RNN, run) -> np.ndarray:
    w = RNG.normal(size=run.output.shape)
    if net.returns == "sequence":
        w *= EXISTS[..., None]
    return w


class OfTorch(torch.nn.Module if torch else object):
    """A readout over torch's own projected layers."""

    def __init__(self, net: RNN) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(
            2, H, net.layers, bidirectional=net.bidirectional, proj_size=P, bias=net.bias
        )
        self.readout = torch.nn.Linear(P * (1 + net.bidirectional), 3, bias=net.bias)
        self.double()
        state = to_state_dict(net, rnn="rnn")
        self.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
        self.returns = net.returns

    def forward(self, x):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        out, (h, c) = self.rnn(packed)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=T)
        if self.returns == "last":
            return self.readout(torch.cat(list(h[-1 - self.rnn.bidirectional :]), dim=-1)), h, c
        return self.readout(out) * torch.tensor(EXISTS)[..., None], h, c


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (2, True)])
def test_torch_agrees(layers, bidirectional, returns, bias):
    net = made(layers=layers, bidirectional=bidirectional, returns=returns, bias=bias)
    theirs, x = OfTorch(net), torch.tensor(X, requires_grad=True)
    run = net.forward(X, lengths=LENGTHS)
    d_output = weight_of(net, run)
    d_c = RNG.normal(size=run.state[1].shape)
    y, h, c = theirs(x)
    torch.autograd.backward((y, c), (torch.tensor(d_output), torch.tensor(d_c)))
    mine = net.backward(run, d_output, (np.zeros_like(d_c), d_c))
    assert np.allclose(run.output, y.detach(), rtol=0, atol=1e-13)
    assert np.allclose(net(X, lengths=LENGTHS)[0], y.detach(), rtol=0, atol=1e-13)
    assert np.allclose(run.state[1], c.detach(), rtol=0, atol=1e-13)
    projections = [d.P for d in net.architecture.stack]
    projected = [p @ net.parameters[n].T for p, n in zip(run.state[0], projections, strict=True)]
    assert np.allclose(projected, h.detach(), rtol=0, atol=1e-13)
    assert np.allclose(mine.input, x.grad, rtol=0, atol=1e-12)
    found = dict(theirs.named_parameters())
    for name, g in mine.parameters.items():
        of_torch = name if name.startswith("readout") else f"rnn.{name.replace('bias', 'bias_ih')}"
        assert np.allclose(g, found[of_torch].grad, rtol=0, atol=1e-12), name


@pytest.mark.parametrize("bidirectional", [False, True])
def test_state_dicts_go_there_and_back(bidirectional):
    net = made(layers=2, bidirectional=bidirectional)
    state = to_state_dict(net, rnn="rnn")
    assert state["rnn.weight_hr_l1"].shape == (P, H)
    assert list(OfTorch(net).state_dict()) == list(state)
    again = from_state_dict(state, rnn="rnn")
    assert again.architecture == net.architecture
    assert all(np.array_equal(a, again.parameters[name]) for name, a in net.parameters.items())
    del state["rnn.weight_hr_l1"]
    with pytest.raises(KeyError, match="weight_hr_l1"):
        from_state_dict(state, rnn="rnn")


@pytest.mark.parametrize(
    ("cell", "returns"),
    [
        ("elman", "sequence"),
        ("gru_reset_before", "last"),
        pytest.param("gru", "last", marks=pytest.mark.full),
        pytest.param("slstm", "sequence", marks=pytest.mark.full),
        pytest.param(LSTM(layer_norm=True), "sequence", marks=pytest.mark.full, id="layer_norm"),
    ],
)
def test_gradients_of_any_cell_with_all_options(cell, returns):
    options = {"cell": cell, "layers": 2, "residual": True, "returns": returns}
    net = made(dropout=0.3, recurrent_dropout=0.2, bidirectional=True, **options)
    check_gradients(net, X, lengths=LENGTHS)
    check_gradients(made((4, 3), outputs=None, **options), X, window=2)
    check_gradients(made(**options | {"layers": 1}), X, window=2)


@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_recomputing_and_plain_loops(returns):
    net = made((4, 3, 3), residual=True, bidirectional=True, dropout=0.3, returns=returns)
    run, again = (net.forward(X, lengths=LENGTHS, rng=3, recompute=r) for r in (False, True))
    w = weight_of(net, run)
    one, two = net.backward(run, w), net.backward(again, w)
    assert all(np.array_equal(g, two.parameters[name]) for name, g in one.parameters.items())
    with disable_lowering():
        plain = net.forward(X, lengths=LENGTHS, rng=3)
        three = net.backward(plain, w).parameters
    assert np.allclose(plain.output, run.output, rtol=0, atol=1e-13)
    assert all(np.allclose(g, three[name], atol=1e-12) for name, g in one.parameters.items())


def test_many_segments_have_the_gradients_of_one():
    net, x = made(), RNG.normal(size=(60, 300, 2))
    run = net.forward(x)
    assert len(run.tape.layers[0].segments) > 1
    w = RNG.normal(size=run.output.shape)
    whole = net.backward(run, w).parameters
    in_parts = net.backward(net.forward(x, recompute=True), w).parameters
    windowed = net.backward(run, w, window=59).parameters
    for name, g in whole.items():
        assert np.array_equal(g, in_parts[name]), name
        assert np.allclose(g, windowed[name], rtol=1e-11, atol=1e-11), name


def test_it_is_the_network_whose_recurrent_matrix_is_the_product():
    """With a readout of R P; zero-length sequences and masks inside go the same way."""
    net = made(returns="last")
    plain = made(projection=None, returns="last")
    p = dict(net.parameters)
    plain.parameters = {
        **{name: p[name] for name in ("weight_ih_l0", "bias_l0", "readout.bias")},
        "weight_hh_l0": p["weight_hh_l0"] @ p["weight_hr_l0"],
        "readout.weight": p["readout.weight"] @ p["weight_hr_l0"],
    }
    state = tuple(RNG.normal(size=(1, B, H)) for _ in range(2))
    mask = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], bool)
    target = RNG.normal(size=(B, 3))
    value, mine = net.value_and_grad(X, target, state=state, mask=mask)
    want, theirs = plain.value_and_grad(X, target, state=state, mask=mask)
    assert float(value) == pytest.approx(float(want), rel=1e-13)
    assert np.allclose(mine.input, theirs.input, rtol=0, atol=1e-13)
    for part, whole in zip(mine.state, theirs.state, strict=True):
        assert part.shape == (1, B, H)
        assert np.allclose(part, whole, rtol=0, atol=1e-13)


def test_tangents_and_hessian_products():
    net = made(layers=2, bidirectional=True)
    d, e = ({k: RNG.normal(size=p.shape) for k, p in net.parameters.items()} for _ in "de")
    run = net.forward(X, lengths=LENGTHS)
    w = weight_of(net, run)
    along = net.jvp(X, d_parameters=d, lengths=LENGTHS)
    gradient = net.backward(run, w).parameters
    assert np.sum(w * along.d_output) == pytest.approx(sum(np.sum(gradient[k] * d[k]) for k in d))
    target = RNG.normal(size=run.output.shape)
    Hd, He = (net.hvp(X, target, v, lengths=LENGTHS) for v in (d, e))
    eHd, dHe = (sum(np.sum(a[k] * b[k]) for k in d) for a, b in ((e, Hd), (d, He)))
    assert eHd == pytest.approx(dHe, rel=1e-10)


@pytest.mark.parametrize("backend", ["array_api_strict", "torch", "jax"])
def test_other_backends(backend):
    pytest.importorskip(backend)
    net = made(cell="elman", bidirectional=True)
    other = net.to(backend)
    asarray, host = other.backend.asarray, other.backend.to_numpy
    target = RNG.normal(size=(T, B, 3))
    value, gradient = net.value_and_grad(X, target, lengths=LENGTHS)
    theirs, of_theirs = other.value_and_grad(asarray(X), asarray(target), lengths=LENGTHS)
    assert float(theirs) == pytest.approx(float(value), rel=1e-12)
    for name, g in gradient.parameters.items():
        assert np.allclose(host(of_theirs.parameters[name]), g, rtol=0, atol=1e-13), name


def test_tokens_and_tied_weights():
    net = RNN(7, H, 7, cell="lstm", projection=P, tied=True, dtype="float64", rng=0)
    assert net.embedding_size == P
    tokens, target = RNG.integers(0, 7, size=(2, T, B))
    check_gradients(net, tokens, target=target, loss="cross_entropy")


def test_without_a_readout_the_output_is_the_callers():
    net = made(outputs=None)
    y, state = net(X)
    assert (y.shape, state[0].shape) == ((T, B, P), (1, B, H))
    run = net.forward(X)
    w = RNG.normal(size=y.shape)
    before = net.backward(run, w).parameters
    run.output[...] = 7.0
    after = net.backward(run, w).parameters
    assert all(np.array_equal(g, after[name]) for name, g in before.items())


def test_saving_copying_and_resuming(tmp_path):
    net = made(layers=2)
    net.save(tmp_path / "m.safetensors")
    loaded = RNN.load(tmp_path / "m.safetensors")
    assert loaded.architecture == net.architecture
    assert np.array_equal(loaded(X)[0], net(X)[0])
    assert "projection=2" in repr(net)
    file = Checkpoint(tmp_path / "c.ckpt", resume=True)
    target, whole = RNG.normal(size=(T, B, 3)), copy.deepcopy(net)
    losses = fit(whole, (X, target), epochs=4).loss
    assert losses[-1] < losses[0]
    fit(net, (X, target), epochs=2, checkpoint=file)
    resumed = made(layers=2, rng=9)
    fit(resumed, (X, target), epochs=4, checkpoint=file)
    assert np.array_equal(resumed.parameters["weight_hr_l1"], whole.parameters["weight_hr_l1"])
    with pytest.raises(ValueError, match="projection"):
        fit(made(layers=2, projection=3), (X, target), epochs=4, checkpoint=file)


def test_merged_networks_are_ordinary_ones():
    nets = [made(rng=k, projection=k + 2) for k in range(2)]
    one = merge(nets)
    assert (one.hidden_size, one.projection) == (2 * H, None)
    assert np.allclose(one(X)[0], np.mean([net(X)[0] for net in nets], axis=0), atol=1e-14)
    assert merge(nets[:1]).architecture == nets[0].architecture


def test_initial_values_by_kind():
    net = made(initializer={"P": "orthogonal", "U": "zeros"})
    projection = net.parameters["weight_hr_l0"]
    assert np.allclose(projection @ projection.T, np.eye(P))
    assert not net.parameters["weight_hh_l0"].any()
    assert 0.045 < np.abs(made(hidden=400).parameters["weight_hr_l0"]).max() <= 0.05


def test_the_diagnostics_measure_the_product():
    net, x = made(layers=2), X[:, :1]
    flow = gradient_flow(net, x, RNG.normal(size=(T, 1, 3)), jacobians=True, matrix=True)
    p = net.parameters
    product = p["weight_hh_l1"] @ p["weight_hr_l1"]
    assert np.allclose(flow.recurrent[1].reshape(4 * H, H), product)
    text = draw_text(net)
    assert "h(t) = P m(t)" in text
    assert "weight_hr_l0 … weight_hr_l1" in text
    assert f"(T, B, {P})" in text


def with_extra(**entries):
    return to_state_dict(made(), rnn="") | entries


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: made(projection=6), ValueError, "projection is 6, .* expected less than 5"),
        (lambda: made(projection=H), ValueError, "expected less than 5"),
        (lambda: made((9, 4), projection=5), ValueError, "expected less than 4"),
        (lambda: made(projection=0), ValueError, "projection is 0"),
        (lambda: made(projection=2.0), TypeError, "projection is 2.0"),
        (lambda: made(cell="min_gru"), ValueError, "MinGRU has none"),
        (lambda: to_state_dict(made(cell="gru")), ValueError, "LSTM alone"),
        (
            lambda: from_state_dict(with_extra(weight_hr_l0=np.zeros((3, H)))),
            ValueError,
            r"weight_hr_l0 has shape \(3, 5\)",
        ),
        (
            lambda: from_state_dict(
                {
                    "weight_ih_l0": np.zeros((9, 2)),
                    "weight_hh_l0": np.zeros((9, 2)),
                    "weight_hr_l0": np.zeros((2, 3)),
                }
            ),
            ValueError,
            "LSTM alone",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
