"""``xprnn train csv --from MODEL``: a saved forecaster, trained on with new rows."""

import re

import numpy as np
import pytest

from tests.cli_tools import keep_figures, run
from xprnn import RNN, Forecaster

pytestmark = pytest.mark.slow


def wave(count, start=0, *, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(start, start + count)
    return scale * (10 + 4 * np.sin(t / 3) + rng.normal(scale=0.3, size=count))


def write(path, *columns, names=("y", "z")):
    rows = zip(range(len(columns[0])), *columns, strict=True)
    lines = [",".join(("t", *names[: len(columns)]))]
    lines += [",".join(f"{number:.6g}" for number in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model(tmp_path, monkeypatch):
    keep_figures(monkeypatch)
    first = write(tmp_path / "first.csv", wave(150))
    words = ("--column", "y", "--networks", 1, "--epochs", 3, "--window", 6, "--no-linear")
    done = run("train", "csv", first, *words, "--no-refit", "--out", tmp_path / "first")
    assert done.status == 0, done.err
    return tmp_path / "first" / "model.safetensors"


def test_new_rows_make_a_model_better_and_its_scaling_stays(model, tmp_path):
    new = write(tmp_path / "new.csv", wave(150, 150, seed=1))
    words = ("train", "csv", new, "--from", model)
    done = run(*words, "--out", tmp_path / "next")
    assert done.status == 0, done.err
    errors = [float(e) for e in re.findall(r"the model (?:before|now) +(\S+)", done.out)]
    assert errors[1] < errors[0]
    told = float(re.search(r"the training made the error ([\d.]+)% less", done.out)[1])
    assert told == pytest.approx(100 * (1 - errors[1] / errors[0]), abs=0.1)
    before, after = (
        Forecaster.of(RNN.load(path)) for path in (model, tmp_path / "next" / "model.safetensors")
    )
    assert before._replace(net=None) == after._replace(net=None)
    assert before.net.architecture == after.net.architecture
    table = np.loadtxt(new, delimiter=",", skiprows=1)[:, 1]
    # The printed errors are those of the held-out part, the last fifth.
    for forecaster, error in zip((before, after), errors, strict=True):
        found = forecaster.one_step(table)[-30:]
        assert np.sqrt(np.mean((found - table[-30:]) ** 2)) == pytest.approx(error, rel=1e-3)
    persistence = np.sqrt(np.mean((table[-31:-1] - table[-30:]) ** 2))
    printed = float(re.search(r"persistence +(\S+)", done.out)[1])
    assert printed == pytest.approx(persistence, rel=1e-3)
    assert run(*words, "--out", tmp_path / "again").status == 0
    files = [tmp_path / name / "model.safetensors" for name in ("next", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    # The new model knows its column, too.
    assert run("apply", files[0], new, "--out", tmp_path / "applied").status == 0


def test_a_training_that_makes_it_worse_leaves_the_model_as_it_was(model, tmp_path):
    new = write(tmp_path / "new.csv", wave(150, 150, seed=1))
    words = ("--lr", 30, "--clip", 1e6, "--schedule", "constant", "--momentum", 0)
    done = run("train", "csv", new, "--from", model, *words, "--out", tmp_path / "next")
    assert "no weights were better on the end of the training part: the model is as it" in done.out
    kept = RNN.load(tmp_path / "next" / "model.safetensors").parameters
    for name, value in RNN.load(model).parameters.items():
        assert np.array_equal(kept[name], value)


def test_several_columns(tmp_path, monkeypatch):
    keep_figures(monkeypatch)
    table = write(tmp_path / "two.csv", wave(120), wave(120, 5, scale=3.0))
    words = ("--column", "y", "--column", "z", "--networks", 1, "--epochs", 2, "--window", 4)
    assert run("train", "csv", table, *words, "--out", tmp_path / "two").status == 0
    model = tmp_path / "two" / "model.safetensors"
    done = run("train", "csv", table, "--from", model, "--epochs", 2, "--out", tmp_path / "next")
    assert done.status == 0, done.err
    for row in ("persistence of y", "the model before of z", "the model now of z"):
        assert f"  {row} " in done.out
    done = run("train", "csv", table, "--from", model, "--column", "y", "--out", tmp_path / "n")
    assert "--column is given 1 times, but the network in" in done.error


@pytest.mark.parametrize(
    "options",
    [
        ("--hidden", 3),
        ("--cell", "gru"),
        ("--window", 4),
        ("--difference",),
        ("--season", 12),
        ("--networks", 2),
        ("--folds", 2),
        ("--covariate", "z"),
    ],
)
def test_what_the_model_has_already_is_refused(options, tmp_path):
    done = run("train", "csv", "absent", "--from", "absent", *options)
    assert f"{options[0]} belongs to a training from the beginning: expected no" in done.error


def test_what_can_not_be_trained_on(model, tmp_path):
    short = write(tmp_path / "short.csv", wave(9))
    done = run("train", "csv", short, "--from", model, "--out", tmp_path / "n")
    assert re.search(
        r"9 values leave \d to train on, \d that tell when to stop and \d held out: "
        r"expected more than 6 to train on",
        done.error,
    )
    RNN(2, 2).save(tmp_path / "m.safetensors")
    done = run("train", "csv", short, "--from", tmp_path / "m.safetensors")
    assert "m.safetensors': the network was not trained on a series" in done.error


def test_without_a_name_the_only_column_of_numbers_is_forecast_and_told(tmp_path):
    values = np.sin(np.arange(40.0))
    rows = "".join(f"{k},2020-02-{1 + k % 28:02},{value}\n" for k, value in enumerate(values[:28]))
    path = tmp_path / "v.csv"
    path.write_text(",day,v\n" + rows, encoding="utf-8")
    options = ["--epochs", 1, "--networks", 1, "--window", 4]
    done = run("train", "csv", path, *options, "--out", tmp_path / "n")
    assert done.status == 0, done.error
    assert "read 28 rows: day (daily), v; v is the only column of numbers\n" in done.out
    assert (tmp_path / "n/output.csv").read_text(encoding="utf-8").startswith("day,v,")
