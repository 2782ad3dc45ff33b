"""Workers, which time any shape in one process, and the precision of the work that is timed."""

import io
import json

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn.backend import HALVES, dtype_name
from xprnn.bench import layer, timing
from xprnn.bench.layer import LayerCase
from xprnn.bench.peers import torch_layer, torch_training
from xprnn.bench.timing import PRECISIONS, Setting
from xprnn.bench.training import TrainingCase
from xprnn.bench.worker import Worker, serve

CASE = LayerCase(3, 4, 2, 5)
QUICK = Setting(1, seconds=0.001)


@pytest.mark.slow
def test_a_process_times_one_shape_after_the_other():
    with Worker("layer", "xprnn", QUICK) as worker:
        assert worker.seconds("lstm", CASE) > 0
        with pytest.raises(
            RuntimeError, match=r"timing xprnn \(abc, 3, 4, 2, 5\) failed: V.*'abc'"
        ):
            worker.seconds("abc", CASE)
        assert worker.seconds("gru", CASE) > 0
    with pytest.raises((RuntimeError, ValueError), match=r"ended|closed"):
        worker.seconds("gru", CASE)


@pytest.mark.slow
def test_a_process_that_ends_by_itself():
    with (
        Worker("layer", "nothing", QUICK, variables={"XPRNN_LOWERING": "off"}) as worker,
        pytest.raises(RuntimeError, match=r"No module named 'xprnn\.bench.peers\.nothing_layer'"),
    ):
        worker.seconds("gru", CASE)
    with Worker("nothing", "xprnn", QUICK) as worker, pytest.raises(RuntimeError, match="ended"):
        worker.seconds("gru", CASE)


@pytest.mark.parametrize(
    ("module", "case"), [("layer", CASE), ("training", TrainingCase(2, 3, 2, 2, 3))]
)
def test_answers(module, case, monkeypatch):
    monkeypatch.setattr(timing, "hold_to", lambda cores: None)
    each = {"case": case._asdict(), "precision": "float32"}
    asked = [{"cell": "elman", **each}, {"cell": "x", **each}]
    answers = io.StringIO()
    words = [module, "xprnn", "numpy", "1", "0.001"]
    serve(words, io.StringIO("\n".join(map(json.dumps, asked))), answers)
    right, wrong = map(json.loads, answers.getvalue().splitlines())
    assert right["seconds"] > 0
    assert wrong["error"].startswith("ValueError: unknown cell 'x'")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_of_xprnn(precision):
    # NumPy has no bfloat16.
    backend = "torch" if precision == "bfloat16" else "numpy"
    gradient = layer.xprnn_layer("lstm", CASE, backend, 1, precision)()
    assert dtype_name(gradient.input.dtype) == (precision if precision in HALVES else "float32")


@pytest.fixture
def switches():
    """Return torch's two switches for TF32, whose values come back after the test."""
    found = (torch_layer.torch.backends.cuda.matmul, torch_layer.torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in found]
    yield found
    for switch, value in zip(found, before, strict=True):
        switch.allow_tf32 = value


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_of_torch(precision, switches):
    for switch in switches:
        switch.allow_tf32 = precision != "tf32"
    dx, *_ = torch_layer.prepare("lstm", CASE, "cpu", 1, precision)()
    assert dtype_name(dx.dtype) == (precision if precision in HALVES else "float32")
    assert [switch.allow_tf32 for switch in switches] == 2 * [precision == "tf32"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS[:2])
def test_the_precision_of_torchs_training(precision, switches):
    for switch in switches:
        switch.allow_tf32 = precision != "tf32"
    torch_training.prepare("lstm", TrainingCase(2, 3, 2, 2, 3), "cpu", 1, precision)
    assert [switch.allow_tf32 for switch in switches] == 2 * [precision == "tf32"]


def test_the_switch_of_cupy():
    there = Setting(1, "cupy", "off")
    assert there.variables("xprnn") == {"XPRNN_LOWERING": "off", "CUPY_TF32": "0"}
    assert there._replace(precision="tf32").variables("xprnn")["CUPY_TF32"] == "1"
    assert there.variables("torch") == {}


def test_what_a_layer_computes_and_moves():
    """Each product once forward and twice backward; each array that goes in or out once."""
    case = LayerCase(inputs=2, hidden=3, batch=5, steps=7)
    steps = 7 * 5
    assert case.operations("gru") == 3 * steps * 2 * (9 * 2 + 9 * 3)
    run_ = layer.xprnn_layer("gru", case, "numpy", 1)()
    arrays = [run_.input, *(a for name, a in run_.parameters.items() if name != "bias_hn_l0")]
    data = case.data()
    counted = sum(2 * a.nbytes for a in arrays) + 2 * data.dy.nbytes
    assert case.transfer("gru", 4) == counted
    assert np.dtype("float32").itemsize == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("layer --precision half", "--precision is 'half': expected 'float32' or 'tf32'"),
        ("train --precision float16", "--precision is 'float16': expected 'float32' or 'tf32'"),
        ("layer --precision tf32", "--precision is 'tf32', which only a GPU has"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", *words.split())
    assert done.status == 1
    assert message in done.error
