"""``xprnn bench train``: both libraries train alike; the table has what was measured."""

import json

import numpy as np
import pytest

from tests.cli_tools import run
from tests.closeness import between_backends
from xprnn.bench import timing, training
from xprnn.bench.peers import torch_training
from xprnn.bench.timing import CELLS
from xprnn.bench.training import TrainingCase

pytestmark = pytest.mark.slow

CASES = {
    "tokens": TrainingCase(7, 6, 7, 3, 5, tokens=True),
    "last": TrainingCase(2, 6, 3, 4, 5, last=True),
    "sequence": TrainingCase(2, 6, 3, 4, 5),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cell", CELLS)
def test_both_train_the_same(cell, case):
    """The same weights and batches give the same losses, which fall in the second pass."""
    ours = training.xprnn_training(cell, CASES[case], "numpy", 1)
    theirs = torch_training.prepare(cell, CASES[case], "cpu", 1)
    losses = np.array([(ours(), theirs()) for _ in range(8)])
    # torch's GRU trains a second bias for r and z, so its steps are larger.
    limit = between_backends("float32", 8 * 5) if cell != "gru" else 2e-3
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=limit)
    first = between_backends("float32", 5)
    np.testing.assert_allclose(losses[0, 0], losses[0, 1], rtol=first)
    assert np.all(losses[4:] < losses[:4])


def test_gradients_are_clipped(monkeypatch):
    """Both libraries clip at the same norm."""
    seen = []
    clip = training.clip_by_norm
    monkeypatch.setattr(
        training, "clip_by_norm", lambda g, limit: seen.append(limit) or clip(g, limit)
    )
    theirs = torch_training.torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch_training.torch.nn.utils,
        "clip_grad_norm_",
        lambda p, limit: seen.append(limit) or theirs(p, limit),
    )
    training.xprnn_training("elman", CASES["last"], "numpy", 1)()
    torch_training.prepare("elman", CASES["last"], "cpu", 1)()
    assert seen == [1.0, 1.0]


def test_the_trainings():
    assert {case.tokens for case in training.CASES.values()} == {True, False}
    x, target = training.CASES["characters"].data(1)
    assert (x[0].shape, target[0].shape) == ((64, 32), (64, 32))
    np.testing.assert_array_equal(x[0][1:], target[0][:-1])
    x, target = training.CASES["forecast-last"].data(2)
    assert (x[1].shape, target[1].shape) == ((50, 32, 1), (32, 1))


def test_the_table(monkeypatch, tmp_path):
    times = {"xprnn": 0.002, "torch": 0.005}
    monkeypatch.setattr(timing, "seconds_in", lambda module, library, *_: times[library])
    words = ["--cells", "lstm", "--cases", "characters,forecast", "--out", tmp_path]
    done = run("bench", "train", *words)
    assert done.status == 0, done.err
    row = "lstm   characters      65, 128, 65, 32, 64        500.0/s     200.0/s    0.40"
    assert row in done.out.splitlines()
    assert "geometric mean of the ratios 0.40; 2 of 2 are at most 0.9" in done.out
    assert "  LSTM(" in done.out
    found = json.loads((tmp_path / "bench-train.json").read_text())
    assert [row["case"] for row in found["rows"]] == ["characters", "forecast"]
    assert found["rows"][0]["steps_per_second"] == {"xprnn": 500.0, "torch": 200.0}
    assert set(found["versions"]) == {"numpy", "torch"}


def test_in_a_process_of_its_own():
    words = "--cells elman --cases forecast-last --json --seconds 0.02 --rounds 1 --threads 1"
    done = run("bench", "train", *words.split(), "--against", "none")
    assert done.status == 0, done.err
    (row,) = json.loads(done.out)["rows"]
    assert row["ours"] > 0
    assert (row["peers"], row["ratio"]) == ({}, None)


@pytest.mark.parametrize(("library", "place"), [("xprnn", "numpy"), ("torch", "cpu")])
def test_what_a_process_prints(library, place, monkeypatch, capsys):
    held, kept = [], []
    monkeypatch.setattr(timing, "hold_to", held.append)
    monkeypatch.setattr(timing, "keep_freed_memory", lambda: kept.append(library))
    words = [library, "gru", "forecast-last", place, "1", "0.001", "float32"]
    timing.time_and_print(training.WORK, words)
    assert 0 < json.loads(capsys.readouterr().out) < 60
    assert (held, kept) == ([1], [library])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cells foo", "--cells is 'foo': expected 'elman' or 'gru' or 'lstm'"),
        ("--cases huge", "--cases is 'huge': expected 'characters'"),
        ("--against jax", "--against is 'jax': expected 'torch'"),
        ("--threads 0", "--threads is 0: expected an int of at least 1"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", "train", *words.split())
    assert done.status == 1
    assert message in done.error
