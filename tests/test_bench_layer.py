"""bench layer: every library does the same work, and the table says what was measured."""

import json

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn.bench import layer
from xprnn.bench.case import CELLS, LayerCase
from xprnn.bench.peers import jax_layer, torch_layer

CASE = LayerCase(3, 4, 2, 5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_work(cell):
    gradient = layer.xprnn_layer(cell, CASE, "numpy", 1)()
    assert gradient.input.shape == (5, 2, 3)
    rows = {"elman": 1, "gru": 3, "lstm": 4}[cell] * CASE.hidden
    dx, *rest = torch_layer.prepare(cell, CASE, "cpu", 1)()
    assert tuple(dx.shape) == gradient.input.shape
    assert [tuple(d.shape) for d in rest] == [(rows, 3), (rows, 4), (rows,), (rows,)]
    y, (dx, rest) = jax_layer.prepare(cell, CASE, "cpu", 1)()
    assert y.shape == (5, 2, 4)
    assert dx.shape == gradient.input.shape
    assert [d.shape for d in rest] == [(3, rows), (4, rows), (rows,), (rows,)]
    assert {str(y.dtype), str(gradient.input.dtype)} == {"float32"}
    assert all(np.any(np.asarray(d)) for d in (dx, *rest))


def test_the_table(monkeypatch, tmp_path):
    times = {"xprnn": 0.002, "torch": 0.004, "jax": 0.008}
    monkeypatch.setattr(layer, "_seconds", lambda library, *_: times[library])
    done = run("bench", "layer", "--cells", "gru", "--cases", "tiny,wide", "--out", tmp_path)
    assert done.status == 0, done.err
    assert (
        "gru    tiny     1, 32, 1, 100           2.00 ms    4.00 ms    8.00 ms    0.50" in done.out
    )
    assert "geometric mean of the ratios 0.50; 2 of 2 are at most 0.9" in done.out
    found = json.loads((tmp_path / "bench-layer.json").read_text())
    assert [row["case"] for row in found["rows"]] == ["tiny", "wide"]
    assert set(found["versions"]) == {"numpy", "torch", "jax"}


def test_in_a_process_of_its_own():
    done = run(
        "bench", "layer", *["--cells", "elman", "--cases", "tiny", "--against", "none", "--json"]
    )
    assert done.status == 0, done.err
    (row,) = json.loads(done.out)["rows"]
    assert row["ours"] > 0
    assert (row["peers"], row["ratio"]) == ({}, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cells foo", "--cells is 'foo': expected 'elman' or 'gru' or 'lstm'"),
        ("--cases huge", "--cases is 'huge': expected 'tiny'"),
        ("--against mxnet", "--against is 'mxnet': expected 'torch' or 'jax'"),
        ("--threads 0", "--threads is 0: expected an int of at least 1"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", "layer", *words.split())
    assert done.status == 1
    assert message in done.error
