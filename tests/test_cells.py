"""Networks with each cell: parameters, initial values, files, copies."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

from tests.cases import CELLS, each_cell, row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.stacks import DEEP, each_deep
from tests.test_save import own_cell, parts_of, write
from xprnn import RNN, Weights, merge, unroll, unroll_backward
from xprnn.cells import CELLS as NAMED
from xprnn.cells import GRU, LSTM, Elman, MinimalGated, cell_config, get_cell, unit_names

STACK = {"layers": 2, "bidirectional": True, "dtype": "float64", "rng": 0}
ENDINGS = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")

# H = 3 and I = 2, two layers in both directions: the second layer reads 2 H.
GATES = {"elman": 1, "minimal_gated": 2, "gru": 3, "lstm": 4}


def expected(rows: int, more: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the parameters of two layers in both directions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for ending in ENDINGS:
        inputs = 2 if "l0" in ending else 6
        shapes[f"weight_ih{ending}"] = (rows, inputs)
        shapes[f"weight_hh{ending}"] = (rows, 3)
        shapes[f"bias{ending}"] = (rows,)
        shapes |= {name + ending: shape for name, shape in more.items()}
    return shapes


PEEPHOLES = {"peephole_i": (3,), "peephole_f": (3,), "peephole_o": (3,)}
GAINS = {"norm_ih": (12,), "norm_hh": (12,)}


@pytest.mark.parametrize(
    ("cell", "more"),
    [
        ("elman", {}),
        ("gru", {"bias_hn": (3,)}),
        ("lstm", {}),
        ("minimal_gated", {}),
        (LSTM(peepholes=True), PEEPHOLES),
        (LSTM(layer_norm=True), GAINS),
        (LSTM(1.0, peepholes=True, layer_norm=True), PEEPHOLES | GAINS),
    ],
    ids=str,
)
def test_the_contract_of_names_and_shapes(cell, more):
    net = RNN(2, 3, 4, cell=cell, **STACK)
    rows = 3 * (GATES[cell] if isinstance(cell, str) else 4)
    want = expected(rows, more) | {"readout.weight": (4, 6), "readout.bias": (4,)}
    assert {name: p.shape for name, p in net.parameters.items()} == want
    assert list(net.parameters) == list(want)


def test_without_biases_there_is_none_but_peepholes_stay():
    assert not any("bias" in name for name in RNN(2, 3, 4, cell="gru", bias=False).parameters)
    net = RNN(2, 3, cell=LSTM(peepholes=True), bias=False)
    assert list(net.parameters) == ["weight_ih_l0", "weight_hh_l0", *(f"{p}_l0" for p in PEEPHOLES)]


def test_a_gru_without_biases_is_one_whose_biases_are_zero():
    case = row_of("gru").but(layers=2, O=None)
    net, problem = case.but(bias=False).make(dtype="float64", rng=0), case.problem()
    twin = case.make(dtype="float64", initializer="zeros")
    twin.parameters = dict(twin.parameters) | dict(net.parameters)
    run, want = net.forward(problem.x, problem.state), twin.forward(problem.x, problem.state)
    assert_close(run.output, want.output, FLOAT64)
    got = net.backward(run, problem.d_output).parameters
    full = twin.backward(want, problem.d_output).parameters
    assert_all_close(got, {name: full[name] for name in got}, FLOAT64)
    assert np.any(full["bias_hn_l0"] != 0)


def test_every_name_is_a_cell():
    assert {"elman", "gru", "lstm", "minimal_gated"} <= set(NAMED)
    for name, kind in NAMED.items():
        assert get_cell(name) == kind()
        assert RNN(2, 3, cell=name).cell == RNN(2, 3, cell=kind()).cell
    assert {type(case.cell) for case in CELLS} >= set(NAMED.values())


def test_the_forget_bias_is_the_only_difference_at_first():
    plain, kept = (RNN(2, 3, 1, cell=LSTM(b), **STACK) for b in (0.0, 1.5))
    for name, p in plain.parameters.items():
        want = p.copy()
        if name.startswith("bias"):
            # The order of the gates is i, f, g, o.
            want[3:6] += 1.5
        assert_close(kept.parameters[name], want, 1e-15, name)
    kept.parameters = dict(plain.parameters)
    x = np.random.default_rng(0).normal(size=(4, 2, 2))
    assert np.array_equal(kept(x)[0], plain(x)[0])


def test_a_forget_bias_keeps_the_memory():
    """With zero weights the memory decays by a factor of σ(bias) per step."""
    for bias in (0.0, 1.0, -2.0):
        net = RNN(1, 2, cell=LSTM(bias), dtype="float64", initializer="zeros")
        zero, one = np.zeros((1, 1, 2)), np.ones((1, 1, 2))
        _, (_, c) = net(np.ones((3, 1, 1)), (zero, one))
        assert_close(c, one / (1 + math.exp(-bias)) ** 3, FLOAT64)


def test_a_forget_bias_needs_biases_to_be_anywhere():
    net = RNN(2, 3, cell=LSTM(1.0), bias=False, rng=0)
    assert list(net.parameters) == ["weight_ih_l0", "weight_hh_l0"]


def test_gains_begin_at_one_and_the_rest_is_drawn():
    for initializer in ("uniform", "normal", "zeros", "orthogonal"):
        cell = LSTM(peepholes=True, layer_norm=True)
        net = RNN(2, 3, cell=cell, initializer=initializer, **STACK)
        for name, p in net.parameters.items():
            if name.startswith("norm_"):
                assert p.tolist() == [1.0] * 12
            elif initializer == "zeros":
                assert not np.any(p)
    net = RNN(2, 3, cell=LSTM(peepholes=True), **STACK)
    drawn = np.concatenate([p.ravel() for p in net.parameters.values()])
    assert len(np.unique(drawn)) == drawn.size, "every entry of every layer is drawn by itself"


def test_the_bounds_are_those_of_what_enters():
    """Uniform in ±1/√n: n is the number of inputs for W, and of units for everything else."""
    net = RNN(16, 25, cell="gru", **STACK)
    for name, p in net.parameters.items():
        n = {"weight_ih_l0": 16, "weight_ih_l1": 50}.get(name.removesuffix("_reverse"), 25)
        assert 0.8 / math.sqrt(n) < np.max(np.abs(p)) <= 1 / math.sqrt(n), name


def test_each_gates_block_is_a_rotation():
    net = RNN(3, 3, cell="lstm", initializer="orthogonal", **STACK)
    for ending in ENDINGS:
        for gate in range(4):
            block = net.parameters[f"weight_hh{ending}"][3 * gate : 3 * gate + 3]
            assert_close(block @ block.T, np.eye(3), FLOAT64)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM("1"), TypeError, r"forget_bias is '1' \(str\): expected a number"),
        (lambda: LSTM(True), TypeError, r"forget_bias is True \(bool\): expected a number"),
        (lambda: LSTM(math.nan), ValueError, "forget_bias is nan: expected a finite number"),
        (lambda: LSTM(-math.inf), ValueError, "forget_bias is -inf: expected a finite number"),
        (lambda: LSTM(peepholes=1), TypeError, r"peepholes is 1 \(int\): expected True or False"),
        (lambda: LSTM(layer_norm="no"), TypeError, r"layer_norm is 'no' \(str\): expected True or"),
        (lambda: get_cell("lstmm"), ValueError, "unknown cell 'lstmm': known are .*'gru', "),
        (lambda: get_cell(LSTM), TypeError, "cell is <class .*LSTM'>: expected a name or a cell i"),
    ],
)
def test_options_that_are_none(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_numpy_number_is_a_plain_one():
    cell = LSTM(np.float32(0.5))
    assert (cell, type(cell.forget_bias)) == (LSTM(0.5), float)
    assert hash(cell) == hash(LSTM(0.5))


@pytest.mark.parametrize(
    ("cell", "config"),
    [
        (GRU(), {"name": "gru"}),
        (MinimalGated(), {"name": "minimal_gated"}),
        (Elman("relu"), {"name": "elman", "activation": "relu"}),
        (
            LSTM(0.5, peepholes=True),
            {"name": "lstm", "forget_bias": 0.5, "peepholes": True, "layer_norm": False},
        ),
    ],
    ids=str,
)
def test_a_file_names_the_cell_with_its_options(cell, config, tmp_path):
    assert cell_config(cell) == config
    RNN(2, 3, cell=cell).save(tmp_path / "net.safetensors")
    assert parts_of(tmp_path / "net.safetensors")[1]["cell"] == config
    assert RNN.load(tmp_path / "net.safetensors").cell == cell


@each_deep
def test_a_stack_is_saved_with_everything(case, tmp_path):
    path = tmp_path / "net.safetensors"
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    net.parameters = case.parameters()
    net.save(path)
    back = RNN.load(path, cell=own_cell(case))
    assert back.architecture == net.architecture
    assert repr(back) == repr(net)
    assert list(back.parameters) == list(net.parameters)
    want = net.forward(problem.x, problem.state, case.lengths, rng=0)
    got = back.forward(problem.x, problem.state, case.lengths, rng=0)
    assert np.array_equal(got.output, want.output)
    assert np.array_equal(got.state, want.state)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.to("numpy")],
    ids=["deepcopy", "pickle", "to"],
)
@each_cell
def test_a_copy_is_the_same_network_and_not_shared(case, duplicate):
    case = case.but(layers=2, bidirectional=True)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    twin = duplicate(net)
    assert twin.architecture == net.architecture
    want = net(problem.x, problem.state)[0]
    for name, p in twin.parameters.items():
        assert not np.shares_memory(p, net.parameters[name])
        np.add(p, 1, out=p)
    assert np.array_equal(net(problem.x, problem.state)[0], want)


def test_repr_shows_what_is_not_at_its_default():
    net = RNN(2, 3, cell=LSTM(peepholes=True), layers=2, bidirectional=True, dropout=0.25)
    assert repr(net).startswith(
        "RNN(2, 3, None, cell=LSTM(forget_bias=0.0, peepholes=True, layer_norm=False), bias=True, "
        "returns='sequence', layers=2, bidirectional=True, dropout=0.25, backend='numpy'"
    )
    assert "layers" not in repr(RNN(2, 3))


def test_attributes_are_as_given():
    net = RNN(
        7,
        3,
        layers=np.int64(2),
        bidirectional=True,
        dropout=np.float32(0.5),
        recurrent_dropout=0,
        embedding_size=4,
    )
    assert (net.layers, net.bidirectional, net.embedding_size) == (2, True, 4)
    assert (net.dropout, net.recurrent_dropout) == (0.5, 0.0)
    assert [type(v) for v in (net.layers, net.dropout, net.recurrent_dropout)] == [
        int,
        float,
        float,
    ]
    plain = RNN(7, 3)
    assert (plain.layers, plain.bidirectional, plain.embedding_size) == (1, False, None)
    assert (plain.dropout, plain.recurrent_dropout) == (0.0, 0.0)


LSTM_CONFIG = {"name": "lstm", "forget_bias": 0.0, "peepholes": False, "layer_norm": False}


@pytest.mark.parametrize(
    "key", ["layers", "bidirectional", "dropout", "recurrent_dropout", "embedding_size"]
)
def test_a_file_that_does_not_say_everything(key, tmp_path):
    """Such as a file from before there were layers: the message names what it lacks."""
    path = tmp_path / "net.safetensors"
    RNN(2, 3, 1, rng=0).save(path)
    arrays, config = parts_of(path)
    del config[key]
    write(path, arrays, {"format": "xprnn", "version": "1", "config": json.dumps(config)})
    with pytest.raises(
        ValueError, match=rf"net\.safetensors' holds no complete network: {key} is missing$"
    ):
        RNN.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 2}, "holds no complete network: parameters lack weight_ih_l1"),
        ({"layers": 0}, "layers is 0: expected an int of at least 1"),
        ({"bidirectional": True}, "holds no complete network: parameters lack weight_ih_l0_reve"),
        ({"embedding_size": 2}, "holds no complete network: parameters lack embedding.weight"),
        ({"dropout": 1.0}, r"dropout is 1\.0: expected a number at least 0 and below 1"),
        ({"cell": {"name": "gru"}}, "holds no complete network: parameters lack bias_hn_l0"),
        ({"cell": LSTM_CONFIG | {"peepholes": True}}, "parameters lack peephole_i_l0, peephole_"),
        ({"cell": LSTM_CONFIG | {"peephole": True}}, "the cell 'lstm' has no option 'peephole'"),
        ({"cell": {"name": "lstm"}}, "the option 'forget_bias' of the cell 'lstm' is missing"),
    ],
)
def test_a_file_that_says_something_else(change, message, tmp_path):
    path = tmp_path / "net.safetensors"
    RNN(2, 3, 1, cell="lstm", rng=0).save(path)
    arrays, config = parts_of(path)
    metadata = {"format": "xprnn", "version": "1", "config": json.dumps(config | change)}
    write(path, arrays, metadata)
    with pytest.raises(ValueError, match=message):
        RNN.load(path)


@pytest.mark.parametrize("name", ["gru", "lstm", "minimal_gated"])
@pytest.mark.parametrize("bias", [True, False])
def test_networks_with_gates_merge(name, bias):
    cell = LSTM(peepholes=True) if name == "lstm" else name
    nets = [RNN(2, h, 3, cell=cell, bias=bias, rng=h, dtype="float64") for h in (4, 1, 6)]
    x = np.random.default_rng(0).normal(size=(7, 3, 2))
    merged = merge(nets)
    assert merged.hidden_size == 11
    assert_close(merged(x)[0], np.mean([net(x)[0] for net in nets], axis=0), FLOAT64)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 2},
        {"bidirectional": True},
        {"embedding_size": 3},
        {"cell": LSTM(layer_norm=True)},
    ],
    ids=str,
)
def test_other_networks_do_not_merge(options):
    net = RNN(2, 3, 1, **options)
    message = r"nets\[0\] is RNN.*: expected one layer in one direction, without embedding and wi"
    with pytest.raises(ValueError, match=message):
        merge([net, net])


@pytest.mark.parametrize("case", DEEP[:6], ids=lambda case: case.id)
def test_a_run_of_another_network_is_refused(case):
    case = case.but(returns="sequence", lengths=None)
    net, problem = case.make(dtype="float64"), case.problem()
    run = net.forward(problem.x, problem.state)
    for name, value in [
        ("layers", 3),
        ("bidirectional", False),
        ("dropout", 0.1),
        ("cell", LSTM(0.5)),
    ]:
        changed = case.but(**{name: value})
        message = f"run belongs to a different network: .*{name} is .*, not "
        with pytest.raises(ValueError, match=message):
            changed.make(dtype="float64").backward(run, problem.d_output)


W, U = np.ones((12, 2)), np.ones((12, 3))
B, P, GAIN = np.ones(12), np.ones(3), np.ones(12)
X = np.ones((4, 2, 2))


@pytest.mark.parametrize(
    ("cell", "weights", "message"),
    [
        (
            LSTM(peepholes=True),
            (W, U, B),
            r"weights.units has 0 arrays: expected \(peephole_i, pee",
        ),
        (LSTM(peepholes=True), (W, U, B, (P,)), "weights.units has 1 arrays: expected"),
        (LSTM(peepholes=True), (W, U, B, (P, P, B)), r"weights.units\[2\] has shape \(12,\): expe"),
        (LSTM(), (W, U, B, (P,)), r"weights.units has 1 arrays: expected \(\)"),
        (LSTM(layer_norm=True), (W, U, B), r"weights.gains has 0 arrays: expected 2, \(12,\) each"),
        (LSTM(layer_norm=True), (W, U, B, (), (GAIN,)), "weights.gains has 1 arrays: expected 2"),
        (LSTM(layer_norm=True), (W, U, B, (), (GAIN, P)), r"weights.gains\[1\] has shape \(3,\): "),
        (LSTM(), (W, U, B, (), (GAIN, GAIN)), "weights.gains has 2 arrays: expected 0"),
        (GRU(), (W[:9], U[:9], B[:9], (P, P)), r"weights.units has 2 arrays: expected \(bias_hn\)"),
        (GRU(), (W, U[:9], B), r"weights.W has shape \(12, 2\): expected \(9, I\)"),
    ],
)
def test_weights_of_a_layer_that_do_not_fit(cell, weights, message):
    with pytest.raises(ValueError, match=message):
        unroll(cell, weights, X)


def test_a_peephole_can_not_be_left_out_as_a_bias_can():
    message = r"weights.units\[0\] is a NoneType: expected an array of the backend"
    with pytest.raises(TypeError, match=message):
        unroll(LSTM(peepholes=True), (W, U, B, (None, P, P)), X)


def test_what_a_layers_gradient_holds():
    """Gradients of the weights that were given, and of no others."""
    rng = np.random.default_rng(0)
    W_, U_, b = rng.normal(size=(9, 2)), rng.normal(size=(9, 3)), rng.normal(size=9)
    dh = np.ones((4, 2, 3))
    for weights, units in (((W_, U_, b), []), ((W_, U_, b, (P,)), [(3,)])):
        _, _, tape = unroll("gru", weights, X)
        got = unroll_backward("gru", weights, tape, dh).weights
        assert type(got) is Weights
        assert (got.W.shape, got.U.shape, got.b.shape) == ((9, 2), (9, 3), (9,))
        assert [part.shape for part in got.units] == units
        assert got.gains == ()
    assert unit_names(GRU()) == ("bias_hn",)
