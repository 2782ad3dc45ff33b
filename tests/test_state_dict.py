"""State dicts of torch's recurrent modules: the same function, the same bits back, what is refused.

The judge is torch's own module with the converted weights loaded into it.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import xprnn
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.gated import Gated
from tests.optional import optional
from tests.process import run_python
from xprnn import RNN
from xprnn.cells import ACTIVATIONS, GRU, LSTM, Activation, Cell, Elman, MinimalGated
from xprnn.interop.torch import from_state_dict, to_state_dict

torch = optional("torch")
nn = optional("torch.nn")

I, H = 3, 5  # noqa: E741


class Kind(NamedTuple):
    """A cell, and the torch module with the same cell."""

    id: str
    cell: Cell
    module: Any
    options: dict[str, str]

    def modules(self, **options: Any) -> nn.Module:
        """Return the torch module, in float64, with random weights."""
        torch.manual_seed(0)
        return self.module(I, H, **self.options, **options).double()


KINDS = (
    Kind("tanh", Elman("tanh"), nn.RNN, {}),
    Kind("relu", Elman("relu"), nn.RNN, {"nonlinearity": "relu"}),
    Kind("gru", GRU(), nn.GRU, {}),
    Kind("lstm", LSTM(), nn.LSTM, {}),
)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
each_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
each_direction = pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
each_depth = pytest.mark.parametrize("layers", [1, 2, 3])


class Model(nn.Module):
    """Embedding, LSTM and Linear, as users put them together."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.emb = nn.Embedding(7, I)
        self.rnn = nn.LSTM(I, H, num_layers=2, bias=bias)
        self.head = nn.Linear(H, 4, bias=bias)

    def forward(self, tokens, state=None):
        h, state = self.rnn(self.emb(tokens), state)
        return self.head(h), state


PARTS = {"rnn": "rnn", "readout": "head", "embedding": "emb"}


def load(module: nn.Module, state: dict[str, np.ndarray]) -> nn.Module:
    """Load a converted state dict as the documentation says; every name must be there."""
    module.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, strict=True)
    return module


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Return a module's state dict as host arrays."""
    return {name: p.detach().numpy().copy() for name, p in module.state_dict().items()}


def same_bits(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape, name
        assert got[name].tobytes() == array.tobytes(), name


def made(kind: Kind, bidirectional: bool, layers: int, bias: bool, **options: Any) -> RNN:
    return RNN(
        I,
        H,
        cell=kind.cell,
        layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        rng=1,
        **options,
    )


def same_function_and_gradients(net: RNN, module: Any) -> None:
    """Compare outputs, final states and all gradients, from a random initial state."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 2, I))
    shape = net.architecture.state_shape(2)
    state = tuple(rng.normal(size=shape) for _ in net.cell.state)
    run = net.forward(x, state)
    d_output = rng.normal(size=run.output.shape)
    d_state = tuple(rng.normal(size=shape) for _ in state)
    gradient = net.backward(run, d_output, d_state)

    module.zero_grad()
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *state)]
    given = tuple(leaves[1:]) if len(state) == 2 else leaves[1]
    y, final = module(leaves[0], given)
    final = final if isinstance(final, tuple) else (final,)
    pairs = zip((y, *final), (d_output, *d_state), strict=True)
    sum((a * torch.tensor(d)).sum() for a, d in pairs).backward()

    assert_close(run.output, y.detach().numpy(), FLOAT64, "output")
    assert_close(gradient.input, leaves[0].grad.numpy(), FLOAT64, "dx")
    for k in range(len(state)):
        assert_close(run.state[k], final[k].detach().numpy(), FLOAT64, f"state {k}")
        assert_close(gradient.state[k], leaves[1 + k].grad.numpy(), FLOAT64, f"d_state {k}")
    for name, p in module.named_parameters():
        theirs, n = p.grad.numpy(), (net.cell.gates - 1) * H
        mine = gradient.parameters
        if name.startswith("weight"):
            assert_close(mine[name], theirs, FLOAT64, name)
        elif name.startswith("bias_ih"):
            assert_close(mine[name.replace("_ih", "")], theirs, FLOAT64, name)
        elif isinstance(net.cell, GRU):
            d_b = mine[name.replace("_hh", "")][:n]
            d_hn = mine[name.replace("_hh", "_hn")]
            assert_close(np.concatenate([d_b, d_hn]), theirs, FLOAT64, name)
        else:
            assert_close(mine[name.replace("_hh", "")], theirs, FLOAT64, name)


@each_kind
@each_bias
@each_direction
@each_depth
def test_torch_computes_the_same_with_our_weights(kind, bias, bidirectional, layers):
    net = made(kind, bidirectional, layers, bias, dtype="float64")
    module = kind.modules(num_layers=layers, bidirectional=bidirectional, bias=bias)
    same_function_and_gradients(net, load(module, to_state_dict(net)))
    assert list(to_state_dict(net)) == list(module.state_dict())


@each_kind
@each_bias
@each_direction
@each_depth
def test_we_compute_the_same_with_torchs_weights(kind, bias, bidirectional, layers):
    module = kind.modules(num_layers=layers, bidirectional=bidirectional, bias=bias)
    cell = kind.cell if kind.id == "relu" else None
    net = from_state_dict(module.state_dict(), cell=cell)
    assert net.cell == kind.cell
    assert (net.layers, net.bidirectional, net.bias) == (layers, bidirectional, bias)
    same_function_and_gradients(net, module)
    # And there again: folded biases are another state dict, but the same function.
    same_function_and_gradients(net, load(module, to_state_dict(net)))


@each_kind
@each_bias
@each_direction
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_there_and_back_gives_the_same_bits(kind, bias, bidirectional, dtype):
    net = made(kind, bidirectional, 2, bias, dtype=dtype)
    net.parameters["weight_hh_l0"][0, :2] = -0.0, np.nan
    if bias:
        net.parameters["bias_l1"][:2] = -0.0, np.inf
    back = from_state_dict(to_state_dict(net), cell=kind.cell)
    assert repr(back) == repr(net)
    same_bits(back.parameters, net.parameters)


@each_kind
def test_a_whole_model_there_and_back(kind, harness):
    net = RNN(7, H, 4, cell=kind.cell, layers=2, embedding_size=I, backend=harness.backend, rng=0)
    state = to_state_dict(net)
    assert all(type(a) is np.ndarray and a.flags.writeable for a in state.values())
    assert next(iter(state)) == "embedding.weight"
    assert list(state)[-2:] == ["readout.weight", "readout.bias"]
    back = from_state_dict(state, cell=kind.cell, backend=harness.backend)
    assert repr(back) == repr(net)
    same_bits(harness.hosts(back.parameters), harness.hosts(net.parameters))


@each_bias
def test_a_model_of_several_modules(bias):
    torch.manual_seed(0)
    model, tokens = Model(bias).double(), np.arange(12).reshape(6, 2) % 7
    net = from_state_dict(model.state_dict(), **PARTS)
    assert (net.input_size, net.embedding_size, net.output_size) == (7, I, 4)
    y, (h, c) = net(tokens)
    theirs, (their_h, their_c) = model(torch.tensor(tokens))
    for got, want in ((y, theirs), (h, their_h), (c, their_c)):
        assert_close(got, want.detach().numpy(), FLOAT64)
    state = to_state_dict(net, **PARTS)
    assert list(state) == list(model.state_dict())
    other = load(Model(bias).double(), state)
    assert_close(other(torch.tensor(tokens))[0].detach().numpy(), y, FLOAT64)


def test_prefixes_may_have_their_dot_and_dots_inside():
    net = RNN(7, H, 4, embedding_size=I, rng=0)
    dotted = {part: f"{name}." for part, name in PARTS.items()}
    same_bits(to_state_dict(net, **dotted), to_state_dict(net, **PARTS))
    deep = {"rnn": "module.encoder.rnn", "readout": "module.out.1", "embedding": "module.emb"}
    state = to_state_dict(net, **deep)
    assert "module.encoder.rnn.weight_hh_l0" in state
    same_bits(from_state_dict(state, **deep).parameters, net.parameters)


def test_parts_can_be_left_out():
    net = RNN(7, H, 4, cell="lstm", embedding_size=I, rng=0)
    state = to_state_dict(net, readout=None, embedding=None)
    load(nn.LSTM(I, H), state)
    back = from_state_dict(state)
    assert (back.input_size, back.output_size, back.embedding_size) == (I, None, None)
    same_bits(back.parameters, {k: p for k, p in net.parameters.items() if k in back.parameters})


def test_folding_takes_the_sum_of_both_biases_but_of_the_candidates():
    state = arrays(nn.GRU(I, H).double())
    b_ih, b_hh = state["bias_ih_l0"], state["bias_hh_l0"]
    parameters = from_state_dict(state).parameters
    assert np.array_equal(parameters["bias_l0"][: 2 * H], (b_ih + b_hh)[: 2 * H])
    assert np.array_equal(parameters["bias_l0"][2 * H :], b_ih[2 * H :])
    assert np.array_equal(parameters["bias_hn_l0"], b_hh[2 * H :])


def test_unfolding_leaves_the_second_bias_zero_but_for_the_candidates():
    net = RNN(I, H, cell="gru", rng=0)
    state = to_state_dict(net)
    assert np.array_equal(state["bias_ih_l0"], net.parameters["bias_l0"])
    assert not state["bias_hh_l0"][: 2 * H].any()
    assert np.array_equal(state["bias_hh_l0"][2 * H :], net.parameters["bias_hn_l0"])


def test_a_sum_of_biases_is_rounded_once():
    state = {name: a.astype("float32") for name, a in arrays(nn.LSTM(I, H)).items()}
    state["bias_ih_l0"][0], state["bias_hh_l0"][0] = 1.0, 2.0**-30
    net = from_state_dict(state, dtype="float64")
    assert net.parameters["bias_l0"][0] == 1 + 2.0**-30
    state = arrays(nn.LSTM(I, H).double())
    state["bias_ih_l0"][0], state["bias_hh_l0"][0] = 1 + 2.0**-24, 2.0**-26
    net = from_state_dict(state, dtype="float32")
    assert net.parameters["bias_l0"][0] == 1 + 2.0**-23


def test_the_same_training_leaves_the_second_bias_alone():
    """The documentation's claim about training in torch."""
    net = RNN(I, H, cell="lstm", dtype="float64", rng=0)
    module = load(nn.LSTM(I, H).double(), to_state_dict(net))
    for name, p in module.named_parameters():
        p.requires_grad_(not name.startswith("bias_hh"))
    x = np.random.default_rng(0).normal(size=(4, 2, I))
    _, gradient = net.value_and_grad(x, np.zeros((4, 2, H)))
    net.parameters, _ = (sgd := xprnn.optim.SGD(0.5)).update(
        gradient.parameters, sgd.init(net.parameters), net.parameters
    )
    theirs = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    (0.5 * module(torch.tensor(x))[0].square().mean()).backward()
    theirs.step()
    moved = from_state_dict(module.state_dict())
    assert_all_close(dict(moved.parameters), dict(net.parameters), FLOAT64)


def test_the_arrays_are_copies():
    net = RNN(I, H, 2, dtype="float64", rng=0)
    before = {name: p.copy() for name, p in net.parameters.items()}
    state = to_state_dict(net)
    back = from_state_dict(state)
    for array in state.values():
        array[...] = 1
    same_bits(net.parameters, before)
    same_bits(back.parameters, before)


@pytest.mark.parametrize(
    "brought",
    [
        lambda p: p,
        lambda p: p.numpy(),
        nn.Parameter,
        lambda p: xprnn.get_backend("jax", dtype="float64").asarray(p.numpy()),
        lambda p: p.tolist(),
    ],
    ids=["torch", "numpy", "parameter", "jax", "lists"],
)
def test_entries_of_many_kinds(brought):
    state = nn.GRU(I, H).double().state_dict()
    net = from_state_dict(OrderedDict((name, brought(p)) for name, p in state.items()))
    assert np.array_equal(net.parameters["weight_hh_l0"], state["weight_hh_l0"].numpy())


def test_dtype_and_options():
    state = nn.LSTM(I, H).state_dict()
    assert from_state_dict(state).backend.dtype_name == "float32"
    assert from_state_dict(state, dtype="float64").backend.dtype_name == "float64"
    backend = xprnn.get_backend("array_api_strict", dtype="float64")
    assert from_state_dict(state, backend=backend).backend is backend
    mixed = state | {"bias_ih_l0": state["bias_ih_l0"].double()}
    assert from_state_dict(mixed).backend.dtype_name == "float64"
    net = from_state_dict(state, returns="last", dropout=0.25, recurrent_dropout=0.5, rng=3)
    assert (net.returns, net.dropout, net.recurrent_dropout) == ("last", 0.25, 0.5)
    assert net.rng.random() == np.random.default_rng(3).random()
    cell = LSTM(forget_bias=1.0)
    assert from_state_dict(state, cell=cell).cell is cell


def test_without_torch_installed():
    code = """
import sys
sys.modules["torch"] = None
import numpy as np, xprnn
net = xprnn.RNN(3, 5, 2, cell="gru", layers=2, bidirectional=True, rng=0)
state = xprnn.interop.torch.to_state_dict(net, rnn="gru", readout="head")
back = xprnn.interop.torch.from_state_dict(state, rnn="gru", readout="head")
assert all((back.parameters[name] == p).all() for name, p in net.parameters.items())
print(len(state), *{type(a).__name__ for a in state.values()})
"""
    assert run_python(code).split() == ["18", "ndarray"]


def test_there_is_no_other_module():
    with pytest.raises(AttributeError, match=r"xprnn\.interop.*'tensorflow'"):
        xprnn.interop.tensorflow  # noqa: B018


def refused(change: Any, error: type[Exception], match: str, **options: Any) -> None:
    """Change a good state dict, and expect an error."""
    state = {k: v.numpy() for k, v in Model().state_dict().items()}
    change(state)
    with pytest.raises(error, match=match):
        from_state_dict(state, **(PARTS | options))


@pytest.mark.parametrize("name", list(Model().state_dict()))
def test_a_missing_entry_is_named(name):
    refused(lambda s: s.pop(name), KeyError, f"lacks {name!r}")


def test_by_the_usual_names_parts_may_be_missing():
    """A state dict without them makes a network without them."""
    net = RNN(I, H, rng=0)
    named = {"readout": "readout", "embedding": "embedding"}
    assert from_state_dict(to_state_dict(net), **named).output_size is None
    for part in named:
        with pytest.raises(KeyError, match=r"lacks 'other\.weight': expected .*'other\.weight'"):
            from_state_dict(to_state_dict(net), **named | {part: "other"})


@pytest.mark.parametrize(
    "name",
    [
        "rnn.weight_ih_l2_reversed",
        "rnn.extra",
        "weight_ih_l0",
        "norm.weight",
        "head.scale",
        "rnn.bias_l0",
    ],
)
def test_an_extra_entry_is_named(name):
    refused(lambda s: s.update({name: np.zeros(3)}), KeyError, f"has {name!r} besides")


@pytest.mark.parametrize("name", list(Model().state_dict()))
def test_a_wrong_shape_is_told(name):
    def transposed(state):
        state[name] = state[name][None] if state[name].ndim == 1 else state[name].T

    def longer(state):
        state[name] = np.concatenate([state[name], state[name][:1]])

    at = name.replace(".", r"\.")
    # A transposed table is a valid table, but its vectors do not fit the weights behind it.
    found = r"rnn\.weight_ih_l0" if name == "emb.weight" else at
    refused(transposed, ValueError, rf"{found} has shape \(.*\): expected \(")
    if name not in ("emb.weight", "head.weight"):
        # A table or a readout with one more row is valid, but the bias of the readout does not fit.
        refused(longer, ValueError, rf"{at} has shape \(.*\): expected \(")
    elif name == "head.weight":
        refused(longer, ValueError, r"head\.bias has shape \(4,\): expected \(5,\)")


def without(*words: str) -> Any:
    def change(state: dict[str, Any]) -> None:
        for name in [n for n in state if any(word in n for word in words)]:
            del state[name]

    return change


@pytest.mark.parametrize(
    ("change", "error", "match", "options"),
    [
        (without("_l1"), None, "", {}),
        (without("_l0"), KeyError, r"lacks 'rnn\.weight_hh_l0': it has .*'rnn\.weight_ih_l1'", {}),
        (lambda s: s.clear(), KeyError, "it has nothing", {}),
        (
            lambda s: s.update({"rnn.weight_ih_l2": np.zeros((4 * H, H))}),
            KeyError,
            r"lacks 'rnn\.weight_hh_l2', 'rnn\.bias_ih_l2', 'rnn\.bias_hh_l2'",
            {},
        ),
        (
            lambda s: s.update({"rnn.weight_ih_l3": s.pop("rnn.weight_ih_l1")}),
            KeyError,
            r"lacks 'rnn\.weight_ih_l1', .* and has 'rnn\.weight_ih_l3' besides",
            {},
        ),
        (
            lambda s: s.update({"rnn.weight_ih_l0_reverse": s["rnn.weight_ih_l0"]}),
            ValueError,
            r"head\.weight has shape \(4, 5\): expected \(O, 10\)",
            {},
        ),
        (
            without("none"),
            KeyError,
            r"lacks 'weight_hh_l0'.*; pass rnn='rnn\.' for 'rnn\.weight_hh_l0'",
            {"rnn": ""},
        ),
        (without("none"), KeyError, r"has 'head.weight', 'head.bias' besides", {"readout": None}),
        (without("head.bias"), KeyError, r"lacks 'head\.bias' \(all layers have biases", {}),
        (without("bias_"), KeyError, r"lacks 'rnn\.bias_ih_l0',.*zeros stand for none", {}),
        (
            lambda s: s.update({"rnn.weight_hr_l0": np.zeros((2, H))}),
            ValueError,
            r"rnn\.weight_hr_l0 has shape \(2, 5\): expected \(5, H\)",
            {},
        ),
        (
            lambda s: s.update({"rnn.weight_hh_l0": np.zeros((2 * H, H))}),
            ValueError,
            r"rnn\.weight_hh_l0 has shape \(10, 5\), of 2 gates: expected 1 \(RNN\), 3 \(GRU\)",
            {},
        ),
        (
            lambda s: s.update({"rnn.weight_hh_l0": np.zeros((H, 0))}),
            ValueError,
            r"shape \(5, 0\): expected \(G·H, H\)",
            {},
        ),
        (without("none"), ValueError, r"of 4 gates: GRU\(\) has 3", {"cell": "gru"}),
        (without("none"), ValueError, "torch has no such cell", {"cell": "minimal_gated"}),
        (without("none"), ValueError, "unknown cell 'rnn'", {"cell": "rnn"}),
        (without("none"), ValueError, "both 'head.'", {"embedding": "head."}),
        (without("none"), TypeError, "rnn is None", {"rnn": None}),
        (without("none"), TypeError, "readout is 3", {"readout": 3}),
        (
            lambda s: s.update({"head.bias": np.zeros(4, dtype=int)}),
            TypeError,
            r"head\.bias is a?.*int64: expected an array of floats",
            {},
        ),
        (
            lambda s: s.update({"head.bias": "four"}),
            TypeError,
            r"head\.bias is str: expected an array of floats",
            {},
        ),
        (
            lambda s: s.update({"head.bias": [[1.0], [1.0, 2.0]]}),
            TypeError,
            r"head\.bias is list: NumPy can't hold it: .*inhomogeneous",
            {},
        ),
        (
            lambda s: s.update({"head.bias": torch.zeros(4, dtype=torch.float8_e5m2)}),
            TypeError,
            r"head\.bias is torch.Tensor .*float8_e5m2: NumPy can't hold it: .*Float8_e5m2",
            {},
        ),
        (lambda s: s.update({3: np.zeros(3)}), TypeError, "has the key 3: expected names", {}),
        (without("none"), ValueError, "computes in", {"dtype": "int8"}),
    ],
)
def test_what_is_refused(change, error, match, options):
    if error is None:
        state = {k: v.numpy() for k, v in Model().state_dict().items()}
        change(state)
        assert from_state_dict(state, **PARTS).layers == 1
    else:
        refused(change, error, match, **options)


def test_a_long_list_of_names_is_cut():
    state = {f"part{k}.weight": np.zeros(1) for k in range(20)}
    with pytest.raises(KeyError) as caught:
        from_state_dict(state)
    assert caught.value.args[0].endswith("'part4.weight', 'part5.weight' and 14 more")


def test_a_name_that_only_ends_alike_is_no_hint():
    with pytest.raises(KeyError, match=r"it has 'xweight_hh_l0'\"$"):
        from_state_dict({"xweight_hh_l0": np.zeros((H, H))})


def test_a_module_is_no_state_dict():
    with pytest.raises(TypeError, match=r"state_dict is LSTM: expected a mapping.*state_dict\(\)"):
        from_state_dict(nn.LSTM(I, H))


class Derived(LSTM):
    """A subclass, whose formulas are unknown."""


@pytest.mark.parametrize(
    "cell",
    [
        LSTM(peepholes=True),
        LSTM(layer_norm=True),
        Derived(),
        MinimalGated(),
        Gated(),
        Elman("logistic"),
        Elman("identity"),
        Elman(Activation("tanh", ACTIVATIONS["relu"].forward, ACTIVATIONS["tanh"].derivative)),
    ],
)
def test_cells_that_torch_does_not_have(cell):
    with pytest.raises(ValueError, match="torch has no such cell; expected"):
        to_state_dict(RNN(I, H, cell=cell, rng=0))
    with pytest.raises(ValueError, match="torch has no such cell; expected"):
        from_state_dict(arrays(nn.LSTM(I, H)), cell=cell)


def test_an_activation_of_the_users_that_is_ours():
    assert to_state_dict(RNN(I, H, cell=Elman(ACTIVATIONS["relu"]), rng=0))


def test_bad_arguments_of_to_state_dict():
    net = RNN(I, H, 2, rng=0)
    with pytest.raises(TypeError, match="net is Parameters: expected an RNN"):
        to_state_dict(net.parameters)
    with pytest.raises(TypeError, match="embedding is b'x'"):
        to_state_dict(net, embedding=b"x")
    with pytest.raises(ValueError, match=r"both ''"):
        to_state_dict(net, readout="", embedding="")
