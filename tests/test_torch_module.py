"""Networks as modules of torch: torch's gradcheck is the judge, and its autograd beside them."""

import copy
import io
import pickle
import sys

import numpy as np
import pytest
import torch

import xprnn
from tests.closeness import FLOAT64, assert_close
from tests.leaky import LeakyUnit
from xprnn import RNN
from xprnn.interop.torch import Module, from_state_dict

pytestmark = pytest.mark.another_flavour

NETS = {
    "elman": {},
    "gru, last": {"cell": "gru", "returns": "last", "output_size": 2},
    "lstm, two layers, both directions": {
        "hidden_size": 2,
        "cell": "lstm",
        "layers": 2,
        "bidirectional": True,
        "output_size": 2,
    },
    "own cell": {"cell": LeakyUnit(), "output_size": 1, "bias": False},
}


def make(name="elman", **options):
    return RNN(3, **({"hidden_size": 4, "dtype": "float64", "rng": 0} | NETS[name] | options))


def inputs(net, steps=4, batch=3):
    generator = torch.Generator().manual_seed(0)
    shapes = [(steps, batch, 3), *[net.architecture.state_shape(batch)] * len(net.cell.state)]
    return [
        torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes
    ]


def flat(found):
    output, state = found
    return output, *state


@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "numpy") for name in NETS), ("own cell", "torch"), ("gru, last", "array_api_strict")],
)
def test_gradcheck_of_input_state_and_weights(name, backend):
    module = Module(make(name, backend=backend))
    x, *state = inputs(module.net, steps=3)
    weights = dict(module.named_parameters())

    def function(x, *others):
        given = dict(zip(weights, others[len(state) :], strict=True))
        call = (x, others[: len(state)], [3, 1, 2])
        return flat(torch.func.functional_call(module, given, call))

    assert torch.autograd.gradcheck(function, (x, *state, *weights.values()))


@pytest.mark.parametrize("compiled", [False, True])
def test_jax_as_the_backend(compiled):
    with xprnn.disable_lowering() if not compiled else np.errstate():
        net = make("lstm, two layers, both directions")
        modules = [Module(net), Module(net.to("jax"))]
        grads = []
        for module in modules:
            x, *state = inputs(net)
            sum(a.sin().sum() for a in flat(module(x, state))).backward()
            grads.append([x.grad, *[p.grad for p in module.parameters()]])
    for ours, theirs in zip(*grads, strict=True):
        assert_close(ours, theirs, FLOAT64)


def test_between_torchs_layers_it_is_torchs_own_lstm():
    rnn = torch.nn.LSTM(5, 6, num_layers=2).double()
    module = Module(from_state_dict(rnn.state_dict(), cell="lstm"))
    first, last = torch.nn.Linear(3, 5).double(), torch.nn.Linear(6, 2).double()
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    found = []
    for recurrent in (rnn, module):
        first.zero_grad(), last.zero_grad()
        h, _ = recurrent(first(x))
        last(h).square().mean().backward()
        found.append([first.weight.grad, last.weight.grad, recurrent.weight_hh_l1.grad])
    for theirs, ours in zip(*found, strict=True):
        assert_close(ours, theirs, 1e-10)


def test_torchs_optimizer_trains_it():
    torch.manual_seed(0)
    model = torch.nn.ModuleList([Module(make("own cell")), torch.nn.Linear(1, 1).double()])
    x = torch.randn(20, 8, 3, dtype=torch.float64)
    target = x[:, :, :1].cumsum(0) / 5
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model[1](model[0](x)[0]) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    # The network is the one that was trained.
    output, _ = model[0].net(x.numpy())
    assert_close(output, model[0](x)[0].detach(), FLOAT64)


def test_what_shares_memory_and_what_does_not():
    net = make()
    module = Module(net)
    before = net.parameters["weight_hh_l0"].copy()
    with torch.no_grad():
        module.weight_hh_l0.add_(1)
    assert np.array_equal(net.parameters["weight_hh_l0"], before)
    assert np.array_equal(module.net.parameters["weight_hh_l0"], before + 1)
    assert np.shares_memory(
        module.net.parameters["weight_hh_l0"], module.weight_hh_l0.detach().numpy()
    )


def test_an_output_is_the_callers():
    # Without a readout it is the tape's memory on NumPy.
    module = Module(make())
    x, *_ = inputs(module.net)
    output, _ = module(x)
    expected = torch.autograd.grad(output.sin().sum(), x, retain_graph=True)[0]
    output.detach().zero_()
    got = torch.autograd.grad(output, x, torch.cos(module(x)[0]).detach())[0]
    assert_close(got, expected, FLOAT64)


def test_batch_first():
    net = make("lstm, two layers, both directions")
    x, *state = inputs(net)
    y, last = Module(net)(x, state, [4, 1, 2])
    rnn = Module(net, batch_first=True)
    y_first, last_first = rnn(x.transpose(0, 1), state, [4, 1, 2])
    assert torch.equal(y, y_first.transpose(0, 1))
    assert all(map(torch.equal, last, last_first))
    last_only = make("gru, last")
    assert Module(last_only, batch_first=True)(x.transpose(0, 1))[0].shape == (3, 2)


def test_tokens_have_dense_gradients():
    net = RNN(6, 4, 6, embedding_size=3, dtype="float64", rng=0)
    module = Module(net)
    assert set(module.state_dict()) == set(net.parameters)
    tokens = torch.tensor([[1, 2], [3, 1]])
    module(tokens)[0].sum().backward()
    seen = module.get_parameter("embedding.weight").grad.abs().sum(dim=1) > 0
    assert seen.tolist() == [False, True, True, True, False, False]


def test_state_dict_copies_and_pickles():
    module = Module(make("gru, last"))
    x, *_ = inputs(module.net)
    other = Module(RNN(3, 4, 2, cell="gru", returns="last", dtype="float64", rng=5))
    assert not torch.equal(other(x)[0], module(x)[0])
    other.load_state_dict(module.state_dict())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for same in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved):
        assert torch.equal(same(x)[0], module(x)[0])


def test_another_dtype():
    module = Module(make("gru, last"))
    x, *_ = inputs(module.net)
    double = module(x)[0]
    single = module.float()(x.detach().float())[0]
    assert single.dtype == torch.float32
    assert module.net.backend.dtype_name == "float32"
    assert torch.allclose(single.double(), double, atol=1e-6)
    # As within autocast: the gradient has the dtype of x.
    half = x.detach().half().requires_grad_()
    module(half)[0].sum().backward()
    assert half.grad.dtype == torch.float16


def test_dropout_follows_torchs_mode_and_seed():
    net = make("lstm, two layers, both directions", dropout=0.5, recurrent_dropout=0.25)
    module = Module(net)
    x, *_ = inputs(net)
    torch.manual_seed(1)
    first = module(x)[0]
    assert not torch.equal(module(x)[0], first)
    torch.manual_seed(1)
    assert torch.equal(module(x)[0], first)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(module(x)[0], first)
    module.eval()
    exact, _ = net(x.detach().numpy())
    assert_close(module(x)[0].detach(), exact, FLOAT64)
    with torch.no_grad():
        assert_close(module(x)[0], exact, FLOAT64)


def test_window_and_recompute_reach_the_passes():
    net = make("gru, last", returns="sequence")
    module = Module(net)
    x, *_ = inputs(net, steps=6)
    run = net.forward(x.detach().numpy())
    for options in ({"window": 2}, {"recompute": True}):
        output, _ = module(x, **options)
        got = torch.autograd.grad(output.sum(), x)[0]
        ones = np.ones(output.shape)
        expected = net.backward(run, ones, window=options.get("window")).input
        assert_close(got, expected, FLOAT64)


def test_frozen_weights_and_no_graph():
    module = Module(make())
    x, *_ = inputs(module.net)
    module.requires_grad_(False)
    assert not module(x.detach())[0].requires_grad
    module.bias_l0.requires_grad_()
    module(x.detach())[0].sum().backward()
    assert module.bias_l0.grad is not None
    assert module.weight_hh_l0.grad is None


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_compile_goes_around_it():
    torch.compiler.reset()
    module = Module(make("gru, last"))
    x, *_ = inputs(module.net)
    compiled = torch.compile(lambda x: module(2 * x)[0] + 1, backend="eager")
    got = torch.autograd.grad(compiled(x).sum(), x)[0]
    expected = torch.autograd.grad((module(2 * x)[0] + 1).sum(), x)[0]
    assert_close(got, expected, FLOAT64)


def test_second_derivatives_are_refused():
    module = Module(make())
    x, *_ = inputs(module.net)
    with pytest.raises(RuntimeError, match=r"create_graph=True .* RNN\.hvp"):
        torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)


@pytest.mark.parametrize("which", ["x", "weight"])
def test_what_the_tape_needs_must_not_be_written_into(which):
    module = Module(make())
    x, *_ = inputs(module.net)
    given = x.clone()
    output, _ = module(given)
    with torch.no_grad():
        (given if which == "x" else module.weight_hh_l0).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_bad_input():
    with pytest.raises(TypeError, match=r"net is Linear: expected an xprnn\.RNN"):
        Module(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="batch_first is 1"):
        Module(make(), batch_first=1)
    module = Module(make())
    x, *_ = inputs(module.net)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [4, 4, 4])
    with pytest.raises(TypeError, match=r"PackedSequence: .*pad_packed_sequence"):
        module(packed)
    with pytest.raises(TypeError, match="x is ndarray: expected a tensor"):
        module(x.detach().numpy())
    with pytest.raises(ValueError, match=r"x has .*shape \(4, 3, 2\)"):
        module(x[:, :, :2])
    with pytest.raises(ValueError, match=r"expected \(B, T, I\)"):
        Module(make(), batch_first=True)(x[0, 0])
    with pytest.raises(ValueError, match="x is on meta: expected cpu"):
        module(x.to("meta"))
    with pytest.raises(TypeError, match=r"state\[0\] is ndarray"):
        module(x, (np.zeros((1, 3, 4)),))
    with pytest.raises(ValueError, match=r"x\[0, 0, 0\] is nan: expected finite"):
        module(x * np.nan)


def test_a_device_that_the_backend_lacks():
    with pytest.raises(ValueError, match=r"on 'meta', .*'array_api_strict' can't compute"):
        _ = Module(make(backend="array_api_strict")).to("meta").net
    if not torch.cuda.is_available():
        from xprnn.interop.torch.exchange import backend_for

        class There:
            device, dtype = torch.device("cuda:0"), torch.float32

        with pytest.raises((ImportError, RuntimeError), match=r"[Cc]u[Pp]y"):
            backend_for("numpy", There)


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "xprnn.interop.torch.module")
    with pytest.raises(ImportError, match="needs torch: pip install torch"):
        _ = xprnn.interop.torch.Module
    with pytest.raises(AttributeError, match="Modul"):
        _ = xprnn.interop.torch.Modul
