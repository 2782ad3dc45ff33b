"""``xprnn export``, and ONNX files as the MODEL of other commands."""

import numpy as np
import onnxruntime
import pytest

from tests.cli_tools import run
from xprnn import RNN, Forecaster, LanguageModel
from xprnn.data import read_csv, sunspots
from xprnn.data.text import Vocabulary

pytestmark = pytest.mark.slow

VALUES = read_csv(sunspots(), "SUNACTIVITY").values


@pytest.fixture
def series(tmp_path):
    net = RNN(1, 4, 1, cell="gru", returns="last", rng=0)
    Forecaster.fitted_scaling(net, 6, VALUES).save(
        tmp_path / "net.safetensors", column="SUNACTIVITY"
    )
    return tmp_path / "net.safetensors"


def exported(model, *words):
    file = model.with_suffix(".onnx")
    return run("export", model, file, *words), file


def test_inputs_and_outputs_are_shown(series):
    result, file = exported(series)
    assert (result.status, result.err) == (0, "")
    assert result.out == (
        "inputs:\n"
        "  x        (T, B, 1)  float32\n"
        "  lengths  (B,)       int32    optional: the steps of each sequence\n"
        "  state_h  (1, B, 4)  float32  optional: the initial state, else zeros\n"
        "outputs:\n"
        "  output   (B, 1)     float32\n"
        "  final_h  (1, B, 4)  float32\n"
        f"written to {file}: {file.stat().st_size} bytes\n"
    )
    x = np.ones((6, 2, 1), "f")
    (output, _) = onnxruntime.InferenceSession(file).run(None, {"x": x})
    np.testing.assert_allclose(output, RNN.load(series)(x)[0], rtol=0, atol=1e-6)


def test_a_forecaster_is_applied(series, tmp_path):
    _, file = exported(series)
    for model, name in ((series, "a"), (file, "b")):
        result = run("apply", model, "sunspots", "--steps", 3, "--out", tmp_path / name)
        assert result.status == 0, result.err
    first, second = (tmp_path / name / "output.csv" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_language_model_writes_and_is_inspected(tmp_path):
    vocabulary = Vocabulary.of(list("hello world") * 3)
    size = len(vocabulary)
    net = RNN(size, 5, size, cell="lstm", rng=0)
    model = tmp_path / "net.safetensors"
    LanguageModel(net, vocabulary, "characters").save(model)
    result, file = exported(model, "--dtype", "float64")
    assert "  x        (T, B)      int64" in result.out
    assert f"({size})" not in result.out
    texts = [run("sample", m, "--length", 9, "--dtype", "float64") for m in (model, file)]
    assert texts[0].out == texts[1].out
    assert texts[1].status == 0
    result = run("inspect", file, "--text", "hello", "--out", tmp_path / "page")
    assert result.status == 0, result.err


def test_what_is_refused(series, tmp_path):
    none = tmp_path / "none.safetensors"
    (tmp_path / "other.onnx").write_bytes(b"no model")
    for words, message in [
        (("export", none, tmp_path / "a.onnx"), "there is no model file"),
        (("export", series, tmp_path / "a.txt"), "expected the name of a file that ends in .onnx"),
        (("export", series, tmp_path / "no" / "a.onnx"), "No such file or directory"),
        (("export", series, tmp_path / "a.onnx", "--out", tmp_path), "--out: not an option of"),
        (("export", tmp_path / "other.onnx", tmp_path / "a.onnx"), "other.onnx' is no ONNX file"),
        (("apply", tmp_path / "other.onnx", "sunspots"), "other.onnx' is no ONNX file"),
        (("apply", tmp_path / "none.onnx", "sunspots"), "No such file or directory"),
    ]:
        result = run(*words)
        assert result.status == 1
        assert message in result.error
    assert not (tmp_path / "a.onnx").exists()
