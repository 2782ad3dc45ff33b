"""Networks as ONNX files: ONNX Runtime and onnx's checker are the judges, `load` to the bit."""

import itertools
import json
import os
import sys
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest

import xprnn
from tests.leaky import LeakyUnit
from tests.second_product import SecondProduct
from xprnn import RNN
from xprnn.cells import LSTM, Elman
from xprnn.engine.loop.trace import trace_forward
from xprnn.interop.onnx import export, load
from xprnn.interop.onnx.formula import write_formula
from xprnn.interop.onnx.graph import IR_VERSION, OPSET, Graph
from xprnn.interop.onnx.writing import METADATA, model_of

CELLS = {
    "elman": "elman",
    "relu": Elman("relu"),
    "logistic": Elman("logistic"),
    "identity": Elman("identity"),
    "gru": "gru",
    "gru_reset_before": "gru_reset_before",
    "lstm": "lstm",
    "peepholes": LSTM(peepholes=True),
    "layer_norm": LSTM(peepholes=True, layer_norm=True),
    "minimal_gated": "minimal_gated",
    "own": LeakyUnit(),
    "own_second": SecondProduct(),
}
OPTIONS = {
    "cell": list(CELLS),
    "layers": [1, 2],
    "bidirectional": [False, True],
    "output_size": [None, 3],
    "returns": ["sequence", "last"],
    "bias": [True, False],
    "dtype": ["float32", "float64"],
    "x": ["floats", "embedding", "one-hot", "tied"],
    "form": ["plain", "projection", "heads"],
}
EVERY = list(itertools.product(*OPTIONS.values()))
FORMS = {"plain": {}, "projection": {"projection": 3}, "heads": {"heads": 2}}


def covering(rows, strength=2):
    """Return few of the rows, among which every pair of options of two columns is there."""
    wanted = {
        (places, tuple(row[p] for p in places))
        for row in rows
        for places in itertools.combinations(range(len(OPTIONS)), strength)
    }
    # Every row's pairs are counted again only when it may be the best.
    chosen = []
    rng = np.random.default_rng(0)
    while wanted:
        candidates = [rows[k] for k in rng.integers(len(rows), size=40)]
        best = max(candidates, key=lambda row: len(wanted & pairs(row, strength)))
        if wanted & pairs(best, strength):
            chosen.append(best)
            wanted -= pairs(best, strength)
    return chosen


def pairs(row, strength):
    return {
        (places, tuple(row[p] for p in places))
        for places in itertools.combinations(range(len(OPTIONS)), strength)
    }


ROWS = covering(EVERY)
if os.environ.get("FULL") == "1":
    ROWS = sorted({*ROWS, *(row for row in EVERY if row[-1] == "plain")}, key=EVERY.index)


def make(cell, layers, bidirectional, output_size, returns, bias, dtype, x, form):
    options = {
        "cell": CELLS[cell],
        "layers": layers,
        "bidirectional": bidirectional,
        "returns": returns,
        "bias": bias,
        "dtype": dtype,
        "rng": 0,
        **FORMS[form],
    }
    if x == "tied":
        return RNN(6, 4, 6, tied=True, **options)
    return RNN(6, 4, output_size, embedding_size=5 if x == "embedding" else None, **options)


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


CALLS = [(5, 3, [5, 2, 1], True), (7, 1, None, False), (1, 2, None, True), (4, 2, [3, 4], False)]
"""T, B, lengths, and whether an initial state is given."""


def compared(net, runtime, x, lengths, state):
    """Return the largest difference of any entry, as a share of an array's largest above 1."""
    feed = {"x": x}
    if lengths is not None:
        feed["lengths"] = np.array(lengths, "int32")
    if state is not None:
        feed |= {f"state_{n}": a for n, a in zip(net.cell.state, state, strict=True)}
    output, final = net(x, state, lengths)
    got = runtime.run(None, feed)
    names = [value.name for value in runtime.get_outputs()]
    assert names == ["output", *(f"final_{name}" for name in net.cell.state)]
    for ours, theirs in zip((output, *final), got, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert np.any(theirs)
    return max(
        np.abs(a - b).max() / max(1.0, np.abs(b).max())
        for a, b in zip((output, *final), got, strict=True)
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row)))
def test_onnx_runtime_computes_the_same(row, tmp_path):
    net = make(*row)
    net.metadata = {"tokens": ["é", "\n"], "mean": 0.1}
    tokens = row[-2] != "floats"
    model = model_of(net, tokens=tokens)
    onnx.checker.check_model(model, full_check=True)
    runtime = session(model)
    rng = np.random.default_rng(0)
    for T, B, lengths, given in CALLS:
        x = (
            rng.integers(0, 6, (T, B))
            if tokens
            else rng.normal(size=(T, B, 6)).astype(net.backend.dtype_name)
        )
        state = None
        if given:
            shape = net.architecture.state_shape(B)
            state = tuple(
                rng.normal(size=shape).astype(net.backend.dtype_name) for _ in net.cell.state
            )
        worst = compared(net, runtime, x, lengths, state)
        assert worst < (1e-5 if net.backend.dtype_name == "float32" else 1e-12)
    file = tmp_path / "net.onnx"
    export(net, file, tokens=tokens)
    same = load(file, cell=net.cell if row[0].startswith("own") else None)
    assert (same.architecture, same.metadata) == (net.architecture, net.metadata)
    assert same.backend.dtype_name == net.backend.dtype_name
    for name, array in net.parameters.items():
        assert same.parameters[name].tobytes() == array.tobytes(), name


def test_layers_of_different_sizes_with_projections_and_heads(tmp_path):
    for form, returns in itertools.product(FORMS.values(), ("sequence", "last")):
        options = {"bidirectional": True, "residual": True, "returns": returns}
        net = RNN(6, (8, 6, 6), 3, cell="lstm", rng=0, **options, **form)
        x = np.random.default_rng(0).normal(size=(5, 3, 6)).astype("float32")
        assert compared(net, session(model_of(net)), x, [5, 2, 1], None) < 1e-5
        export(net, tmp_path / "net.onnx")
        same = load(tmp_path / "net.onnx")
        assert all(np.array_equal(same.parameters[n], a) for n, a in net.parameters.items())


def test_nodes_of_the_standard_where_there_are_some():
    def ops(**options):
        return {node.op_type for node in model_of(RNN(3, 4, 2, **options)).graph.node}

    assert "LSTM" in ops(cell=LSTM(peepholes=True))
    assert "GRU" in ops(cell="gru", layers=2, bidirectional=True)
    assert "GRU" in ops(cell="gru_reset_before")
    assert "RNN" in ops(cell="elman")
    for options in ({"cell": "lstm", "dtype": "float64"}, {"cell": "minimal_gated"}):
        assert "Scan" in ops(**options)
        assert not ops(**options) & {"RNN", "GRU", "LSTM"}
    assert {"Gather", "MatMul", "Add"} <= ops(embedding_size=2)
    assert "Gemm" in ops(returns="last")


def test_the_metadata_is_json_for_others(tmp_path):
    net = RNN(1, 2, 1, rng=0)
    net.metadata = {"mean": 0.5}
    export(net, tmp_path / "net.onnx")
    entries = {p.key: p.value for p in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(entries[METADATA]) == {"mean": 0.5}


def test_wrong_numbers_of_lengths_and_states_are_refused():
    for options in ({"cell": "gru"}, {"cell": "minimal_gated"}):
        runtime = session(model_of(RNN(3, 4, 2, **options)))
        x = np.zeros((5, 2, 3), "f")
        for wrong in (
            {"lengths": np.array([5], "int32")},
            {"state_h": np.zeros((1, 1, 4), "f")},
        ):
            with pytest.raises(Exception, match="reshape"):
                runtime.run(None, {"x": x} | wrong)


class Branching(LeakyUnit):
    """Its formula depends on values."""

    def forward(self, xp, u, v, state):
        if xp.any(u[0] > 0):
            return super().forward(xp, u, v, state)
        return super().forward(xp, v, u, state)


class Uncommon(LeakyUnit):
    """Its formula calls what ONNX lacks."""

    def forward(self, xp, u, v, state):
        (h,), saved = super().forward(xp, u, v, state)
        return (xp.nextafter(h, 0.0 * h),), saved


def test_what_cant_be_exported(tmp_path):
    file = tmp_path / "net.onnx"
    net = RNN(3, 4)
    for wrong, error, message in [
        (lambda: export("net", file), TypeError, "net is str: expected an xprnn.RNN"),
        (lambda: export(net, file, tokens=1), TypeError, "tokens is 1: expected True, False or"),
        (
            lambda: export(RNN(3, 4, embedding_size=2), file, tokens=False),
            ValueError,
            "has an embedding, which reads tokens",
        ),
        (
            lambda: export(RNN(3, 4, cell=Branching()), file),
            ValueError,
            "the cell Branching can't be written as nodes of ONNX: Branching.forward can't",
        ),
        (
            lambda: export(RNN(3, 4, cell=Uncommon()), file),
            ValueError,
            "the cell calls nextafter, which no node of ONNX computes",
        ),
        (
            lambda: export(RNN(3, 4, backend="torch", dtype="bfloat16"), file),
            ValueError,
            "computes in bfloat16: expected float32 or float64",
        ),
        (lambda: export(net, tmp_path / "no" / "net.onnx"), OSError, "no"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
    assert not file.exists()


def test_export_of_a_language_model_reads_tokens():
    net = RNN(5, 4, 5)
    net.metadata = {"task": "text"}
    (x, *_) = model_of(net).graph.input
    assert x.type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert xprnn.interop.onnx.export is export


def test_without_onnx(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    prefix = "xprnn.interop.onnx."
    for name in [n for n in sys.modules if n.startswith(prefix)]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(xprnn.interop.onnx, name.removeprefix(prefix))
    for name in ("export", "load"):
        with pytest.raises(ImportError, match=rf'{name} needs onnx: pip install "xprnn\[onnx\]"'):
            getattr(xprnn.interop.onnx, name)
    with pytest.raises(AttributeError, match="run"):
        _ = xprnn.interop.onnx.run


FUNCTIONS = {
    "square": 1, "sqrt": 1, "exp": 1, "log": 1, "expm1": 1, "log1p": 1, "log2": 1, "log10": 1,
    "sin": 1, "cos": 1, "tanh": 1, "abs": 1, "sign": 1, "negative": 1, "positive": 1,
    "reciprocal": 1, "floor": 1, "ceil": 1, "trunc": 1, "round": 1,
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "pow": 2, "maximum": 2, "minimum": 2,
    "hypot": 2, "logaddexp": 2, "copysign": 2, "floor_divide": 2, "remainder": 2,
    "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2, "equal": 2, "not_equal": 2,
    "isfinite": 1, "isinf": 1, "isnan": 1, "signbit": 1,
}  # fmt: skip
"""What ONNX Runtime computes in float64, with the number of arguments."""


@dataclass(frozen=True)
class Calling:
    """A cell whose state is a function of u."""

    function: str
    gates = 2
    state = ("h",)

    def forward(self, xp, u, v, state):
        made = getattr(xp, self.function)(*u[: FUNCTIONS[self.function]])
        if made.dtype != u[0].dtype:
            made = xp.where(xp.logical_not(made), xp.asarray(2.0, dtype=u[0].dtype), u[1] * 0 + 3)
        return (made,), ()

    def backward(self, xp, saved, previous, d_state):
        raise NotImplementedError


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_a_formula(name):
    """NumPy is the judge, on values that matter: both zeros, tiny, halves, both signs."""
    graph = Graph("float64")
    (made,) = write_formula(graph, trace_forward(Calling(name)), {"u0": "u0", "u1": "u1"})
    ends = [graph.typed("u0", ["N"]), graph.typed("u1", ["N"])], [graph.typed(made, ["N"])]
    model = onnx.helper.make_model(
        graph.whole("formula", *ends),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    values = np.array([0.0, -0.0, 1e-9, 0.5, 1.5, 2.0, 3.7, -0.5, -1.25, -3.0])
    u = [a.ravel() for a in np.meshgrid(values, values)]
    f = getattr(np, {"pow": "power"}.get(name, name))
    with np.errstate(all="ignore"):
        want = f(*u[: FUNCTIONS[name]])
    if want.dtype == bool:
        want = np.where(want, 3.0, 2.0)
    defined = np.isfinite(want)
    runtime = session(model)
    feed = dict(zip(("u0", "u1"), u, strict=True))
    (got,) = runtime.run(None, {value.name: feed[value.name] for value in runtime.get_inputs()})
    np.testing.assert_allclose(got[defined], want[defined], rtol=1e-13, atol=1e-300)
