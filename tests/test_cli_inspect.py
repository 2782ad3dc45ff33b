"""``xprnn inspect``: the summary, the page, and what it can't read."""

import json
import re
import sys

import numpy as np
import pytest

from tests.cli_tools import keep_figures, run
from tests.test_inspection import Undocumented
from xprnn import RNN, Forecaster, LanguageModel
from xprnn.cells import Elman
from xprnn.data import read_csv, sunspots
from xprnn.data.text import Vocabulary

VALUES = read_csv(sunspots(), "SUNACTIVITY").values


@pytest.fixture
def model(tmp_path, no_pictures):
    """Return a function that saves a network with metadata."""

    def save(net, **metadata):
        net.metadata = metadata
        net.save(tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return save


@pytest.fixture
def sine(model):
    metadata = {"input_scale": 0.1, "trained_from": -10.0, "trained_to": 9.9, "seed": 0}
    return model(RNN(1, 5, 1, rng=0), task="sine", **metadata)


@pytest.fixture
def series(tmp_path, no_pictures):
    net = RNN(1, 4, 1, cell="gru", returns="last", rng=0)
    forecaster = Forecaster.fitted_scaling(net, 12, VALUES)
    forecaster.save(tmp_path / "series.safetensors", column="SUNACTIVITY")
    return tmp_path / "series.safetensors"


TOKENS = ("UNKNOWN", "SENTENCE_START", "SENTENCE_END", "a", "class", "is", "type", ".")


@pytest.fixture
def text(tmp_path, no_pictures):
    net = RNN(8, 4, 8, cell="gru", embedding_size=3, rng=0)
    model = LanguageModel(net, Vocabulary(TOKENS), "words")
    model.save(tmp_path / "text.safetensors")
    return tmp_path / "text.safetensors"


def data_of(folder):
    page = (folder / "inspect.html").read_text("utf-8")
    (found,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def test_the_sine(sine, tmp_path):
    out = tmp_path / "out"
    result = run("inspect", sine, "--out", out)
    assert (result.status, result.err) == (0, "")
    assert "trained on: a noisy sine, x from -10 to 9.9" in result.out
    assert "parameters: 41 in 5 arrays, 164 bytes in float32" in result.out
    assert "y = sin x without noise, x from -10 to 9.9; 200 steps, loss 0." in result.out
    assert re.search(r"^layer 0: +spectral radius of U: 0\.\d+$", result.out, re.M)
    assert re.search(
        r"^gradient reaches back \d+ steps? \(half of it within \d+\)$", result.out, re.M
    )
    data = data_of(out)
    assert (data["steps"], data["first"], data["shown"]) == (200, 0, 200)
    assert "Trained on a noisy sine, x from -10 to 9.9." in data["notes"]


PICTURES = {"contributions", "eigenvalues", "flow", "gates", "phase", "states"}


@pytest.mark.slow
def test_its_pictures(text, tmp_path, monkeypatch):
    out, figures = tmp_path / "out", keep_figures(monkeypatch)
    words = ("--text", "A class is a type. A type is odd.", "--window", 2, "--out", out)
    result = run("inspect", text, *words)
    assert (result.status, result.err) == (0, "")
    assert set(figures) == {f"{name}.png" for name in PICTURES}
    assert all(f"  {name}.png" in result.out for name in PICTURES)
    labels = [label.get_text() for label in figures["states.png"].axes[0].get_xticklabels()]
    assert labels[1:4] == ["a", "class", "is"]


def test_without_matplotlib(sine, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("inspect", sine, "--out", tmp_path / "out")
    assert result.status == 0
    assert 'pip install "xprnn[cli]"' in result.error
    assert data_of(tmp_path / "out")["steps"] == 200
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inspect.html"]


def test_steps_and_window(sine, tmp_path):
    out = tmp_path / "out"
    result = run("inspect", sine, "--steps", "150:170", "--window", 4, "--out", out)
    assert result.status == 0
    assert "This page shows steps 150 to 169 of the sequence's 200" in result.out
    data = data_of(out)
    assert (data["first"], data["shown"], data["window"]) == (150, 20, 4)


def test_a_series(series, tmp_path):
    out = tmp_path / "out"
    result = run("inspect", series, "sunspots", "--out", out)
    assert (result.status, result.err) == (0, "")
    assert "SUNACTIVITY: values 296 to 307 of 309, to forecast the next; 12 steps" in result.out
    net = RNN.load(series)
    x, target = Forecaster.of(net).examples(VALUES)
    value, _ = net.value_and_grad(x[:, -1:], target[-1:])
    assert float(data_of(out)["value"]) == pytest.approx(float(value), rel=1e-6)
    assert run("inspect", series, "sunspots", "--sequence", 0, "--out", out).status == 0
    result = run("inspect", series, "sunspots", "--sequence", 297)
    assert "--sequence is 297: expected 0 to 296; there are 297 windows of values" in result.error


def test_several_columns_and_covariates(tmp_path, no_pictures):
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(30, 2)), rng.normal(size=(32, 1))
    net = RNN(3, 4, 2, cell="gru", returns="last", dtype="float64", rng=0)
    forecaster = Forecaster.fitted_scaling(net, 5, values, covariates=known[:30])
    path, table = tmp_path / "two.safetensors", tmp_path / "two.csv"
    forecaster.save(path, columns=["a", "b"], covariates=["price"])
    rows = [
        f"{a!r},{b!r},{k!r}\n"
        for (a, b), (k,) in zip(values.tolist(), known[:30].tolist(), strict=True)
    ]
    ahead = [f",,{k!r}\n" for k in known[30:, 0].tolist()]
    table.write_text("a,b,price\n" + "".join(rows + ahead))
    out = tmp_path / "out"
    result = run("inspect", path, table, "--out", out)
    assert (result.status, result.err) == (0, "")
    assert "a, b: values 24 to 28 of 30, to forecast the next; 5 steps" in result.out
    assert "the series ['a', 'b'] with ['price'] known, 5 values to forecast the next" in result.out
    x, target = Forecaster.of(RNN.load(path)).examples(values, known[:30])
    value, _ = net.value_and_grad(x[:, -1:], target[-1:])
    assert float(data_of(out)["value"]) == pytest.approx(float(value), rel=1e-6)
    result = run("inspect", path, table, "--column", "a", "--out", out)
    assert "--column is given 1 times, but the network in" in result.error
    assert "forecasts 2 columns" in result.error
    swapped = run("inspect", path, table, "--column", "b", "--column", "a", "--out", out)
    assert "b, a: values 24 to 28 of 30" in swapped.out
    assert "name its file after the model" in run("inspect", path).error


def test_a_text(text, tmp_path):
    out = tmp_path / "out"
    result = run("inspect", text, "--text", "A class is a type. A type is odd.", "--out", out)
    assert (result.status, result.err) == (0, "")
    assert data_of(out)["tokens"] == ["SENTENCE_START", "a", "class", "is", "a", "type", "."]
    file = tmp_path / "text.txt"
    file.write_text("A class is a type. A type is odd.")
    assert run("inspect", text, file, "--sequence", 1, "--out", out).status == 0
    tokens = ["SENTENCE_START", "a", "type", "is", "UNKNOWN", "."]
    assert data_of(out)["tokens"] == tokens


def test_arrays_for_any_network(model, tmp_path):
    net = RNN(2, 3, 1, cell="lstm", layers=2, bidirectional=True, dtype="float64", rng=0)
    path, out = model(net), tmp_path / "out"
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 3, 1))
    np.savez(tmp_path / "data.npz", x=x, target=target, lengths=[6, 4, 5])
    result = run("inspect", path, tmp_path / "data.npz", "--sequence", 1, "--out", out)
    assert (result.status, result.err) == (0, "")
    assert "spectral radius of U: i 0." in result.out
    assert "layer 1 reversed: gradient" in result.out
    data = data_of(out)
    assert (data["steps"], data["padding"]) == (4, 2)
    value, _ = net.value_and_grad(x[:4, 1:2], target[:4, 1:2])
    assert float(data["value"]) == pytest.approx(float(value), rel=1e-12)


def test_integers_are_classes(model, tmp_path):
    path, out = model(RNN(4, 3, 4, rng=0)), tmp_path / "out"
    tokens = np.array([[0, 1, 2, 3]]).T
    np.savez(tmp_path / "data.npz", x=tokens, target=tokens)
    assert run("inspect", path, tmp_path / "data.npz", "--out", out).status == 0
    assert data_of(out)["loss"] == "CrossEntropy"


def test_a_gradient_that_explodes_and_one_that_is_not_finite(model, tmp_path):
    net = RNN(1, 1, cell=Elman("identity"), bias=False, returns="last", dtype="float32")
    weights = {"weight_ih_l0": np.ones((1, 1), "f"), "weight_hh_l0": np.full((1, 1), 2, "f")}
    net.parameters = weights
    x = np.ones((20, 1, 1))
    np.savez(tmp_path / "data.npz", x=x, target=np.ones((1, 1)))
    result = run("inspect", model(net), tmp_path / "data.npz", "--out", tmp_path / "out")
    assert "gradient explodes: 5.24e+05 times as large 19 steps back (×2 a step)" in result.out
    net.parameters["weight_hh_l0"] = np.full((1, 1), 1e10, "f")
    result = run("inspect", model(net), tmp_path / "data.npz", "--out", tmp_path / "out")
    assert result.status == 0
    assert "First non-finite: v at step 4, unit 0, layer 0." in result.out
    assert data_of(tmp_path / "out")["messages"] == [
        "First non-finite: v at step 4, unit 0, layer 0."
    ]


def refused(*words):
    result = run("inspect", *words)
    assert result.status == 1
    return result.error


def test_data_that_are_missing_or_wrong(model, sine, series, text, tmp_path):
    other = tmp_path / "other.safetensors"
    RNN(2, 3, 1, rng=0).save(other)
    assert "expected DATA, a .npz file with the arrays x and target" in refused(other)
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    assert "x and target, not " in refused(other, table)
    assert "which needs no DATA" in refused(sine, table)
    assert "name its file after the model, such as sunspots" in refused(series)
    assert "expected DATA, a text file, or --text TEXT; neither is given" in refused(text)
    assert "both are given" in refused(text, table, "--text", "a")
    assert "--text: not an option for a series" in refused(series, "sunspots", "--text", "a")
    assert "--column: not an option for the sine" in refused(sine, "--column", "b")
    assert "a single token has no next one" not in refused(text, "--text", " ")
    assert "No such file" in refused(series, tmp_path / "none.csv")
    data = tmp_path / "data.npz"
    data.write_bytes(b"PK no zip file")
    assert "expected a .npz file with the arrays x and target" in refused(other, data)
    np.savez(data, x=np.ones((3, 1, 2)))
    assert "it has x: no target" in refused(other, data)
    np.savez(data, x=np.ones((3, 1, 5)), target=np.ones((3, 1, 1)))
    assert "x has shape (3, 1, 5)" in refused(other, data)
    np.savez(data, x=np.array([None]), target=np.ones(1))
    assert "expected a .npz file" in refused(other, data)
    np.savez(data, x=np.ones((3, 2, 2)), target=np.ones((3, 2, 1)), lengths=[3])
    assert "lengths has 1 entries: expected 2" in refused(other, data)
    assert "--window is -1: expected 0 or more steps" in refused(sine, "--window", -1)
    assert "steps is (190, 300): expected 0 ≤ first < end ≤ 200" in refused(
        sine, "--steps", "190:300"
    )
    result = run("inspect", sine, "--steps", "5")
    assert result.status == 2
    assert "'5' is not of the form FIRST:END, such as 0:40" in result.error


def test_a_cell_of_the_users_own_has_no_command(model):
    path = model(RNN(2, 3, 1, cell=Undocumented(), rng=0))
    assert "needs cell=" in refused(path) or "cell" in refused(path)
