"""Networks as ONNX files: ONNX Runtime and onnx's checker are the judges, `load` to the bit."""

import itertools
import json
import os

import numpy as np
import onnx
import onnxruntime
import pytest

import xprnn
from tests.leaky import LeakyUnit
from xprnn import RNN
from xprnn.cells import LSTM, Elman
from xprnn.interop.onnx import export, load
from xprnn.interop.onnx.writing import METADATA, model_of

CELLS = {
    "elman": "elman",
    "relu": Elman("relu"),
    "logistic": Elman("logistic"),
    "identity": Elman("identity"),
    "gru": "gru",
    "lstm": "lstm",
    "peepholes": LSTM(peepholes=True),
    "layer_norm": LSTM(peepholes=True, layer_norm=True),
    "minimal_gated": "minimal_gated",
    "own": LeakyUnit(),
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
}
EVERY = list(itertools.product(*OPTIONS.values()))


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


ROWS = EVERY if os.environ.get("FULL") == "1" else covering(EVERY)


def make(cell, layers, bidirectional, output_size, returns, bias, dtype, x):
    options = {
        "cell": CELLS[cell],
        "layers": layers,
        "bidirectional": bidirectional,
        "returns": returns,
        "bias": bias,
        "dtype": dtype,
        "rng": 0,
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
    """Return the largest difference of any entry."""
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
    return max(np.abs(a - b).max() for a, b in zip((output, *final), got, strict=True))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row)))
def test_onnx_runtime_computes_the_same(row, tmp_path):
    net = make(*row)
    net.metadata = {"tokens": ["é", "\n"], "mean": 0.1}
    tokens = row[-1] != "floats"
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
    same = load(file, cell=net.cell if row[0] == "own" else None)
    assert (same.architecture, same.metadata) == (net.architecture, net.metadata)
    assert same.backend.dtype_name == net.backend.dtype_name
    for name, array in net.parameters.items():
        assert same.parameters[name].tobytes() == array.tobytes(), name


def test_nodes_of_the_standard_where_there_are_some():
    def ops(**options):
        return {node.op_type for node in model_of(RNN(3, 4, 2, **options)).graph.node}

    assert "LSTM" in ops(cell=LSTM(peepholes=True))
    assert "GRU" in ops(cell="gru", layers=2, bidirectional=True)
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
            "can't be written as nodes of ONNX: Branching.forward can't be traced: it uses xp.any",
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
