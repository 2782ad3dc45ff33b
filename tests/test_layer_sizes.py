"""Layers of different sizes, and residual connections between layers of the same size."""

import copy

import numpy as np
import pytest

from tests.optional import optional
from xprnn import RNN, Checkpoint, disable_lowering, fit
from xprnn.diagnostics import draw_text, gradient_flow, inspect_page
from xprnn.engine.architecture import Architecture
from xprnn.interop.torch import to_state_dict
from xprnn.optim import clip_by_layer
from xprnn.testing import check_gradients

torch = optional("torch")
RNG = np.random.default_rng(0)
CASES = [((5, 3), False), ((3, 5, 5), True), ((4, 4, 4), True), ((5, 5, 2), True)]
T, B = 6, 3
X, LENGTHS = RNG.normal(size=(T, B, 2)), [4, 6, 1]


def made(sizes, **options) -> RNN:
    options = {"cell": "lstm", "dtype": "float64", "rng": 0} | options
    return RNN(2, sizes, 3, **options)


def of_torch(net: RNN, d_output: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return output and gradients of the same network, of torch's layers and its autograd."""
    suffixes = ("", "_reverse")[: 1 + net.bidirectional]
    h = torch.tensor(X, requires_grad=True)
    leaves = {"x": h}
    exists = (torch.arange(T)[:, None] < torch.tensor(LENGTHS))[..., None]
    sizes = net.architecture.sizes
    for layer, size in enumerate(sizes):
        unit = torch.nn.LSTM(h.shape[-1], size, bidirectional=net.bidirectional).double()
        for suffix in suffixes:
            for mine, name in (("weight_ih",) * 2, ("weight_hh",) * 2, ("bias", "bias_ih")):
                parameter = getattr(unit, f"{name}_l0{suffix}")
                parameter.data = torch.tensor(net.parameters[f"{mine}_l{layer}{suffix}"])
                leaves[f"{mine}_l{layer}{suffix}"] = parameter
            getattr(unit, f"bias_hh_l0{suffix}").data.zero_()
        packed = torch.nn.utils.rnn.pack_padded_sequence(h, LENGTHS, enforce_sorted=False)
        out, (last, _) = unit(packed)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=T)
        skips = net.residual and layer > 0 and size == sizes[layer - 1]
        below, h = h, out + h * exists if skips else out
    if net.returns == "last":
        h = torch.cat(list(last), dim=-1)
        if skips:
            ends = torch.stack([below[end - 1, b] for b, end in enumerate(LENGTHS)])
            first = below[0][:, size:] if net.bidirectional else below[0][:, :0]
            h = h + torch.cat([ends[:, :size], first], dim=-1)
    for name in ("readout.weight", "readout.bias"):
        leaves[name] = torch.tensor(net.parameters[name], requires_grad=True)
    y = h @ leaves["readout.weight"].T + leaves["readout.bias"]
    if net.returns == "sequence":
        y = y * exists
    y.backward(torch.tensor(d_output))
    return y.detach().numpy(), {name: leaf.grad.numpy() for name, leaf in leaves.items()}


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("sizes", "residual"), CASES)
def test_torch_layers_stacked_by_hand_agree(sizes, residual, bidirectional, returns):
    net = made(sizes, residual=residual, bidirectional=bidirectional, returns=returns)
    run = net.forward(X, lengths=LENGTHS)
    d_output = RNG.normal(size=run.output.shape)
    if returns == "sequence":
        d_output *= np.arange(T)[:, None, None] < np.array(LENGTHS)[:, None]
    y, gradients = of_torch(net, d_output)
    mine = net.backward(run, d_output)
    assert np.allclose(run.output, y, rtol=0, atol=1e-13)
    assert np.allclose(net(X, lengths=LENGTHS)[0], y, rtol=0, atol=1e-13)
    assert np.allclose(mine.input, gradients.pop("x"), rtol=0, atol=1e-12)
    assert gradients.keys() == mine.parameters.keys()
    for name, g in gradients.items():
        assert np.allclose(mine.parameters[name], g, rtol=0, atol=1e-12), name


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_with_dropout_windows_and_recomputing(cell, returns):
    options = {"cell": cell, "bidirectional": True, "residual": True, "returns": returns}
    net = made((4, 3, 3), dropout=0.3, recurrent_dropout=0.2, **options)
    check_gradients(net, X, lengths=LENGTHS)
    one_way = made((4, 3, 3), **options | {"bidirectional": False})
    check_gradients(one_way, X, window=2)
    run, again = (net.forward(X, lengths=LENGTHS, rng=3, recompute=r) for r in (False, True))
    d_output = RNG.normal(size=run.output.shape)
    if returns == "sequence":
        d_output[~(np.arange(T)[:, None] < np.array(LENGTHS))] = 0
    one, two = net.backward(run, d_output), net.backward(again, d_output)
    assert all(np.array_equal(g, two.parameters[name]) for name, g in one.parameters.items())
    with disable_lowering():
        assert np.allclose(net.forward(X, lengths=LENGTHS, rng=3).output, run.output, atol=1e-12)


def test_dropout_acts_on_h_and_not_on_what_goes_past_it():
    """Two layers of zero weights above the first: what it put out arrives whole."""
    net = made((4, 4, 4), residual=True, dropout=0.5)
    for layer in (1, 2):
        for kind in ("weight_ih", "weight_hh", "bias"):
            net.parameters[f"{kind}_l{layer}"] = 0 * net.parameters[f"{kind}_l{layer}"]
    tape = net.forward(X, rng=0).tape
    dropped = tape.layers[1].x
    assert np.any(dropped == 0)
    assert np.array_equal(tape.h, dropped)


def test_the_state_is_as_wide_as_the_widest_layer():
    net = made((5, 3), bidirectional=True)
    y, state = net(X)
    assert [part.shape for part in state] == [(4, B, 5)] * 2
    assert np.all(np.any(state[0][:2] != 0, axis=1))
    assert not any(np.any(part[2:, :, 3:]) for part in state)
    spoiled = tuple(part.copy() for part in state)
    for part in spoiled:
        part[2:, :, 3:] = 7.0
    assert np.array_equal(net(X, state)[0], net(X, spoiled)[0])
    gradient = net.backward(net.forward(X, spoiled), np.ones_like(y)).state
    assert not any(np.any(part[2:, :, 3:]) for part in gradient)
    assert all(np.any(part[2:, :, :3]) for part in gradient)


def test_chunks_that_carry_the_state_are_the_whole():
    net = made((3, 5, 5), residual=True)
    whole, final = net(X)
    first, state = net(X[:2])
    second, end = net(X[2:], state)
    assert np.allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-14)
    assert np.allclose(end[1], final[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_tangents_and_hessian_products(returns):
    net = made((4, 3, 3), residual=True, bidirectional=True, returns=returns)
    d = {name: RNG.normal(size=p.shape) for name, p in net.parameters.items()}
    run = net.forward(X, lengths=LENGTHS)
    w = RNG.normal(size=run.output.shape)
    if returns == "sequence":
        w[~(np.arange(T)[:, None] < np.array(LENGTHS))] = 0
    along = net.jvp(X, d_parameters=d, lengths=LENGTHS)
    assert np.array_equal(along.output, run.output) or np.allclose(along.output, run.output)
    gradient = net.backward(run, w).parameters
    assert np.sum(w * along.d_output) == pytest.approx(sum(np.sum(gradient[k] * d[k]) for k in d))
    target = RNG.normal(size=run.output.shape)
    e = {name: RNG.normal(size=p.shape) for name, p in net.parameters.items()}
    Hd, He = (net.hvp(X, target, v, lengths=LENGTHS) for v in (d, e))
    eHd, dHe = (sum(np.sum(a[k] * b[k]) for k in d) for a, b in ((e, Hd), (d, He)))
    assert eHd == pytest.approx(dHe, rel=1e-10)


@pytest.mark.parametrize("backend", ["array_api_strict", "torch", "jax"])
def test_other_backends(backend):
    pytest.importorskip({"array_api_strict": "array_api_strict"}.get(backend, backend))
    net = made((4, 3, 3), residual=True, bidirectional=True, returns="last")
    other = net.to(backend)
    asarray, host = other.backend.asarray, other.backend.to_numpy
    target = RNG.normal(size=(B, 3))
    value, gradient = net.value_and_grad(X, target, lengths=LENGTHS)
    theirs, of_theirs = other.value_and_grad(asarray(X), asarray(target), lengths=LENGTHS)
    assert float(theirs) == pytest.approx(float(value), rel=1e-12)
    for name, g in gradient.parameters.items():
        assert np.allclose(host(of_theirs.parameters[name]), g, rtol=0, atol=1e-13), name


def test_saving_copying_and_resuming(tmp_path):
    net = made((5, 3, 3), residual=True)
    net.save(tmp_path / "m.safetensors")
    loaded = RNN.load(tmp_path / "m.safetensors")
    assert loaded.architecture == net.architecture
    assert loaded.hidden_size == (5, 3, 3)
    assert np.array_equal(loaded(X)[0], net(X)[0])
    assert "RNN(2, (5, 3, 3), 3" in repr(net)
    assert "residual=True" in repr(net)
    file = Checkpoint(tmp_path / "c.ckpt", resume=True)
    target, whole = RNG.normal(size=(T, B, 3)), copy.deepcopy(net)
    fit(whole, (X, target), epochs=4)
    fit(net, (X, target), epochs=2, checkpoint=file)
    resumed = made((5, 3, 3), residual=True, rng=9)
    fit(resumed, (X, target), epochs=4, checkpoint=file)
    assert np.array_equal(resumed.parameters["weight_hh_l2"], whole.parameters["weight_hh_l2"])
    with pytest.raises(ValueError, match="hidden_size"):
        fit(made((5, 3), residual=False), (X, target), epochs=4, checkpoint=file)


def test_equal_sizes_are_one_size():
    assert made((4, 4)).architecture == made(4, layers=2).architecture
    assert made([4]).hidden_size == 4
    assert made(4, residual=True).architecture.layers == 1


def test_clipping_goes_by_these_layers():
    net = made((5, 3))
    gradient = net.value_and_grad(X, RNG.normal(size=(T, B, 3)))[1].parameters
    assert list(clip_by_layer(gradient, 1.0)[1]) == ["layer 0", "layer 1", "readout"]


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_the_diagnostics_show_is_the_gradient(bidirectional, returns):
    options = {"residual": True, "bidirectional": bidirectional, "returns": returns}
    net = made((5, 3, 3), **options)
    target = RNG.normal(size=(T, 1, 3) if returns == "sequence" else (1, 3))
    x = X[:, :1]
    flow = gradient_flow(net, x, target)
    assert flow.norms.shape == (3 * (1 + bidirectional), T)
    page = inspect_page(net, x, target)
    gradient = net.value_and_grad(x, target)[1].parameters
    for layer in page.record.layers:
        for c in layer.contributions:
            total = c.left.sum(axis=0) if c.right is None else c.left.T @ c.right
            assert np.allclose(total, gradient[c.name], rtol=0, atol=1e-12), c.name
    assert "input is added" in " ".join(draw_text(net).split())


@pytest.mark.parametrize("cell", ["lstm", "minimal_gated"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_onnx_computes_the_same(tmp_path, cell, bidirectional, returns):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from xprnn.interop import onnx

    options = {"bidirectional": bidirectional, "returns": returns, "dtype": "float32"}
    net = made((4, 3, 3), cell=cell, residual=True, **options)
    onnx.export(net, tmp_path / "net.onnx")
    loaded = onnx.load(tmp_path / "net.onnx")
    assert loaded.architecture == net.architecture
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    x = X.astype("float32")
    y, state = net(x, lengths=LENGTHS)
    again, state_2 = net(x, state, lengths=LENGTHS)
    fed = {"x": x, "lengths": np.array(LENGTHS, "int32")}
    got, *final = session.run(None, fed)
    assert np.allclose(got, y, rtol=0, atol=1e-6)
    for part, want in zip(final, state, strict=True):
        assert np.allclose(part, want, rtol=0, atol=1e-6)
    names = [f"state_{name}" for name in net.cell.state]
    got, *final = session.run(None, fed | dict(zip(names, state, strict=True)))
    assert np.allclose(got, again, rtol=0, atol=1e-6)
    assert np.allclose(final[0], state_2[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: made((5, 0)), ValueError, r"hidden_size\[1\] is 0"),
        (lambda: made((5, 2.5)), TypeError, r"hidden_size\[1\] is 2\.5"),
        (lambda: made(()), ValueError, "hidden_size is empty"),
        (lambda: made((5, 3), layers=3), ValueError, "layers is 3, but hidden_size has 2 sizes"),
        (lambda: made((5, 3), residual=True), ValueError, "residual=True connects neighbouring"),
        (lambda: made(5, residual=1), TypeError, "residual is 1"),
        (lambda: made("53"), TypeError, "hidden_size is '53'"),
        (lambda: to_state_dict(made((5, 3))), ValueError, "layers of a torch.nn.RNN"),
        (
            lambda: to_state_dict(made(5, layers=2, residual=True)),
            ValueError,
            "no residual connections",
        ),
        (
            lambda: RNN(9, (4, 5), 9, tied=True, embedding_size=4),
            ValueError,
            "embedding_size of 5",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_file_that_lies_about_its_sizes_is_refused():
    config = made((5, 3)).architecture.config()
    assert Architecture.from_config(config, None) == made((5, 3)).architecture
    for wrong in ([5, 3, 3], [5, "3"], [], {"0": 5}):
        with pytest.raises((TypeError, ValueError), match="hidden_size"):
            Architecture.from_config(config | {"hidden_size": wrong}, None)
