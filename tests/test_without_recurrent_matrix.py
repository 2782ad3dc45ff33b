"""Cells that do not read v: their layers have no U, neither as a parameter nor in a loop."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from tests.cases import CELLS
from tests.cli_tools import run
from tests.closeness import assert_all_close, assert_close
from xprnn import RNN, disable_lowering, explain_lowering, fit, unroll, unroll_backward
from xprnn.cells import IndRNN, MinGRU, MinLSTM, has_recurrent_matrix
from xprnn.data import minibatches
from xprnn.diagnostics import gradient_flow, inspect_page, plot_eigenvalues
from xprnn.engine.loop.numba.source import backward_loop, forward_loop
from xprnn.engine.loop.numba.window import window_loop
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.trace import trace
from xprnn.interop.onnx import export
from xprnn.models.ensemble import merge
from xprnn.optim import SGD
from xprnn.testing import ContractError, check_cell, check_contract

WITHOUT = tuple(row for row in CELLS if not has_recurrent_matrix(row.cell))
each = pytest.mark.parametrize(
    "cell", [row.cell for row in WITHOUT], ids=lambda c: type(c).__name__
)


@dataclass(frozen=True)
class Fading:
    """A user's cell without U, whose state fades and is let out by a gate.

    ::

        d(t) = k d(t-1) + u_1(t)                              (1)
        h(t) = tanh(u_0(t)) d(t)                              (2)
    """

    gates: ClassVar[int] = 2
    state: ClassVar[tuple[str, ...]] = ("h", "d")
    units: ClassVar[tuple[str, ...]] = ("keep",)
    unit_ranges: ClassVar[tuple[tuple[float, float], ...]] = ((0.25, 0.75),)
    recurrent_matrix: ClassVar[bool] = False

    def forward(self, xp, u, v, state):
        (_, d), (k,) = state, v
        a = xp.tanh(u[0])
        d = k * d + u[1]  # (1)
        return (a * d, d), (a, d)

    def backward(self, xp, saved, previous, d_state):
        del xp
        (a, d_new, k), (_, d), (dh, dd) = saved, previous, d_state
        dd = dd + dh * a  # from (2)
        return (dh * d_new * (1 - a * a), dd), (dd * d,), (None, dd * k)


def test_the_table_has_them():
    assert {type(row.cell) for row in WITHOUT} == {MinGRU, MinLSTM, IndRNN}


@each
def test_there_is_no_u_anywhere(cell):
    net = RNN(3, 4, 2, cell=cell, layers=2, bidirectional=True, dtype="float64", rng=0)
    assert not [name for name in net.parameters if "weight_hh" in name]
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    run = net.forward(x)
    gradient = net.backward(run, np.ones_like(run.output))
    assert list(gradient.parameters) == list(net.parameters)
    for tape in run.tape.layers:
        assert tape.weights.U is None
        assert tape.recurrent.U.size == 0


@each
def test_no_loop_has_a_product(cell):
    formulas = trace(cell)
    loops = NumPyLoops(formulas)
    texts = [
        loops.forward_loop(masked=False, save=True).source,
        loops.backward_loop(outer=True, masked=False).source,
        forward_loop(formulas.forward, cell.gates, 0).source,
        backward_loop(formulas.backward, cell.gates, ["float"] * 9).source,
        window_loop(formulas.backward, cell.gates, ["float"] * 9).source,
    ]
    for text in texts:
        assert "dot(" not in text
        assert "PRODUCT" not in text
        assert "PACK" not in text


@pytest.mark.parametrize("masked", [False, True])
def test_a_cell_with_u_has_them(masked):
    loops = NumPyLoops(trace(RNN(1, 1).cell))
    assert "dot(" in loops.forward_loop(masked=masked, save=True).source
    assert "dot(" in loops.backward_loop(outer=True, masked=masked).source


def test_a_users_cell_passes_every_check():
    assert check_cell(Fading()).passed
    net = RNN(3, 4, 2, cell=Fading(), layers=2, bidirectional=True, dtype="float64", rng=0)
    keep = np.concatenate([a for name, a in net.parameters.items() if name.startswith("keep")])
    assert keep.shape == (16,)
    assert np.all((keep >= 0.25) & (keep <= 0.75))
    x, target = (np.random.default_rng(k).normal(size=(5, 2, n)) for k, n in ((0, 3), (1, 2)))
    lengths = [5, 3]
    for window in (None, 2):
        got = net.value_and_grad(x, target, lengths=lengths, window=window)
        with disable_lowering():
            want = net.value_and_grad(x, target, lengths=lengths, window=window)
        assert_close(np.asarray(got[0]), np.asarray(want[0]), 1e-13)
        assert_all_close(got[1].parameters, want[1].parameters, 1e-12)
    assert "lowered" in explain_lowering(Fading()) or "compiled" in explain_lowering(Fading())


@pytest.mark.parametrize("name", ["array_api_strict", "torch"])
def test_a_users_cell_on_other_backends(name):
    pytest.importorskip(name)
    net = RNN(3, 4, 2, cell=Fading(), layers=2, dtype="float64", rng=0)
    x, target = (np.random.default_rng(k).normal(size=(5, 2, n)) for k, n in ((0, 3), (1, 2)))
    want = net.value_and_grad(x, target)
    there = net.to(name)
    value, gradient = there.value_and_grad(there.backend.asarray(x), there.backend.asarray(target))
    assert_close(float(value), float(want[0]), 1e-13)
    host = {name: there.backend.to_numpy(a) for name, a in gradient.parameters.items()}
    assert_all_close(host, want[1].parameters, 1e-12)


@dataclass(frozen=True)
class Liar(Fading):
    """It says that it does not read v, and does."""

    def forward(self, xp, u, v, state):
        return super().forward(xp, (u[0] + v[0], u[1]), v[2:], state)


@dataclass(frozen=True)
class Unsure(Fading):
    recurrent_matrix: ClassVar[int] = 0


@dataclass(frozen=True)
class Generous(Fading):
    """It returns gradients of blocks of v that it never got."""

    def backward(self, xp, saved, previous, d_state):
        du, dv, d_previous = super().backward(xp, saved, previous, d_state)
        return du, (*du, *dv), d_previous


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Liar(), r"recurrent_matrix = False, so v is a tuple of 1.*read no block of U h\(t-1\)"),
        (Unsure(), "recurrent_matrix is 0: expected True or False"),
        (Generous(), r"backward's dv has 3 arrays: expected 1, none.*one for each of keep"),
    ],
    ids=lambda a: type(a).__name__,
)
def test_the_contract_holds_a_cell_to_what_it_says(cell, message):
    with pytest.raises(ContractError, match=message):
        check_contract(cell)


def test_what_needs_u_is_refused():
    with pytest.raises(ValueError, match=r"recurrent_dropout=0\.5 drops .*MinGRU has no U"):
        RNN(1, 2, cell="min_gru", recurrent_dropout=0.5)

    @dataclass(frozen=True)
    class Normal(Fading):
        layer_norm: ClassVar[bool] = True

    with pytest.raises(ValueError, match=r"Normal has layer_norm, .* recurrent_matrix=False"):
        RNN(1, 2, cell=Normal())


def test_the_functional_core_takes_none():
    rng = np.random.default_rng(0)
    W, U, x = rng.normal(size=(6, 2)), rng.normal(size=(6, 3)), rng.normal(size=(4, 2, 2))
    h, _, tape = unroll("min_gru", (W, None), x)
    gradient = unroll_backward("min_gru", (W, None), tape, np.ones_like(h))
    assert gradient.weights.U is None
    assert gradient.weights.W.shape == W.shape
    with pytest.raises(ValueError, match=r"weights\.U is .*: expected None, as MinGRU does not"):
        unroll("min_gru", (W, U), x)
    with pytest.raises(TypeError, match=r"weights\.U is a NoneType: expected an array"):
        unroll("minimal_gated", (W, None), x)
    with pytest.raises(ValueError, match=r"weights\.W has shape \(7, 2\): expected \(6, I\)"):
        unroll("min_lstm", (rng.normal(size=(7, 2)), None), x)


@each
def test_flow_has_no_eigenvalues(cell):
    net = RNN(2, 3, 1, cell=cell, layers=2, dtype="float64", rng=0)
    flow = gradient_flow(net, np.ones((5, 2, 2)), np.zeros((5, 2, 1)), jacobians=True)
    assert flow.spectral_radius.shape == (2, 0)
    with pytest.raises(ValueError, match="the cell has no U"):
        plot_eigenvalues(flow)


@each
def test_training_and_a_merged_ensemble(cell):
    x = np.random.default_rng(0).normal(size=(6, 8, 2))
    target = np.cumsum(x[..., :1], axis=0) / 6
    nets = [RNN(2, 4, 1, cell=cell, dtype="float64", rng=seed) for seed in (1, 2)]
    for net in nets:
        history = fit(net, minibatches(x, target, 4, rng=0), optimizer=SGD(0.1), epochs=20)
        assert history.loss[-1] < 0.7 * history.loss[0]
    whole = merge(nets)
    assert_close(whole(x)[0], (nets[0](x)[0] + nets[1](x)[0]) / 2, 1e-12)


def test_initial_values_of_units():
    weights = RNN(1, 400, cell="ind_rnn", rng=0).parameters["recurrent_weight_l0"]
    assert weights.min() >= 0
    assert 0.95 < weights.max() <= 1
    chosen = {"recurrent_weight": "zeros"}
    assert not RNN(1, 4, cell="ind_rnn", initializer=chosen).parameters["recurrent_weight_l0"].any()


@each
def test_the_page_of_a_sequence(cell):
    """Its lines name neither U nor v, and what each step adds is what the pass returns."""
    net = RNN(2, 3, 1, cell=cell, layers=2, dtype="float64", rng=0)
    x, target = np.ones((4, 1, 2)), np.zeros((4, 1, 1))
    page = inspect_page(net, x, target)
    for layer in page.record.layers:
        text = "\n".join(line.text for line in (*layer.forward_lines, *layer.backward_lines))
        assert "u(t) = W x(t) + b" in text
        assert "U" not in text
        assert "v(t)" not in text
        assert not [c.name for c in layer.contributions if "weight_hh" in c.name]


def test_the_command_says_that_there_is_no_u(tmp_path):
    net = RNN(2, 3, 1, cell="min_gru", rng=0)
    net.save(tmp_path / "net.safetensors")
    np.savez(tmp_path / "data.npz", x=np.ones((4, 1, 2)), target=np.zeros((4, 1, 1)))
    arguments = ("inspect", tmp_path / "net.safetensors", tmp_path / "data.npz")
    result = run(*arguments, "--out", tmp_path / "out")
    assert (result.status, result.err) == (0, "")
    assert "layer 0:    no U\n" in result.out
    assert (tmp_path / "out" / "flow.png").exists()
    assert not (tmp_path / "out" / "eigenvalues.png").exists()


@each
def test_onnx_runtime_computes_the_same(cell, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    net = RNN(2, 3, 1, cell=cell, layers=2, bidirectional=True, rng=0)
    export(net, tmp_path / "net.onnx")
    nodes = [n for n in onnx.load(tmp_path / "net.onnx").graph.node if n.op_type == "Scan"]
    assert len(nodes) == 4
    for node in nodes:
        (body,) = (a.g for a in node.attribute if a.name == "body")
        assert "MatMul" not in {n.op_type for n in body.node}
    x = np.random.default_rng(0).normal(size=(5, 2, 2)).astype("float32")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), options)
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert_close(got, net(x)[0], 1e-5)
