"""``xprnn bench memory``: a peak is what a call adds; the table has what was measured."""

import json

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn.bench import memory
from xprnn.bench.memory import MemoryRow, can_be_measured, run_long, run_memory
from xprnn.bench.timing import Setting
from xprnn.cli.bench import memory as bench_memory

pytestmark = pytest.mark.slow

SETTING = Setting(1)
on_linux = pytest.mark.skipif(bool(can_be_measured()), reason=can_be_measured() or "none")


@on_linux
def test_a_peak_is_what_a_call_adds_at_most():
    size = 2**25
    kept = np.ones(size, dtype="uint8")
    np.ones(4 * size, dtype="uint8")  # freed before: no part of the peak

    def work():
        first = np.ones(2 * size, dtype="uint8")
        del first
        return np.ones(size, dtype="uint8")

    # The system counts pages in batches.
    assert memory.peak_of(work) == pytest.approx(2 * size, rel=0.03)
    assert kept.all()


@on_linux
def test_in_a_process_of_its_own():
    """The bytes per step contain what a layer stores for its backward pass."""
    (row,) = run_memory("layer", ["lstm"], ["medium"], [], (20, 80), SETTING)
    floor = 4 * 32 * (4 * 128 + 2 * 128)  # four gates, c and tanh(c) or h, float32
    assert floor < row.per_step["xprnn"] < 8 * floor
    assert row.peak["xprnn"] > 80 * row.per_step["xprnn"] * 0.9
    assert row.ratio is None
    # Lowered to NumPy calls, the layer's arrays are nearly all that it takes.
    assert 0.6 * row.peak["xprnn"] < row.kept < 1.2 * row.peak["xprnn"]


@on_linux
@pytest.mark.parametrize(("library", "place"), [("xprnn", "numpy"), ("torch", "cpu")])
def test_what_a_process_does(library, place, monkeypatch):
    held, lengths = [], []
    monkeypatch.setattr(memory, "hold_to", held.append)
    monkeypatch.setattr(
        memory, "peak_of", lambda work: lengths.append(float(work())) or len(lengths)
    )
    found = memory._main(library, "training", "elman", "forecast", 9, place, 1)
    assert found["bytes"] == 1
    assert found["seconds"] > 0
    assert (held, len(lengths)) == ([1], 1)


def results(found, seen):
    def result_of(module, *words, what, threads, **variables):
        seen.append((*words, variables))
        library, _, _, _, steps, *_ = words
        kept = 3 * 2**19 if library == "xprnn" else 0
        return {"bytes": found[library](steps), "seconds": 2.5, "kept": kept}

    return result_of


SIZES = {"xprnn": lambda steps: 2**20 + 1024 * steps, "torch": lambda steps: 2**22 + 4096 * steps}


def test_bytes_a_step_are_a_slope(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "result_of", results(SIZES, seen))
    setting = Setting(1, lowering="off")
    (row,) = run_memory("training", ["gru"], ["forecast"], ["torch"], (100, 300), setting)
    assert row == MemoryRow(
        "training",
        "gru",
        "forecast",
        {"xprnn": 2**20 + 300 * 1024, "torch": 2**22 + 300 * 4096},
        {"xprnn": 1024.0, "torch": 4096.0},
        0.25,
        3 * 2**19,
    )
    assert [words[:5] for words in seen] == [
        (library, "training", "gru", "forecast", steps)
        for library in ("xprnn", "torch")
        for steps in (100, 300)
    ]
    assert [words[5] for words in seen] == ["numpy", "numpy", "cpu", "cpu"]
    assert [words[-1] for words in seen] == [{"XPRNN_LOWERING": "off"}] * 2 + [{}] * 2


def test_the_long_sequence_without_recompute_and_with_it(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "result_of", results(SIZES, seen))
    rows = list(run_long(["lstm"], ["torch"], SETTING, 1000))
    assert [row.recompute for row in rows] == [False, True]
    assert [list(row.peak) for row in rows] == [["xprnn", "torch"], ["xprnn"]]
    assert rows[0].seconds == {"xprnn": 2.5, "torch": 2.5}
    options = [json.loads(words[7]) for words in seen]
    assert options == [{}, {}, {"recompute": True}]


def test_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "result_of", results(SIZES, []))
    monkeypatch.setattr(bench_memory, "can_be_measured", lambda: "")
    words = ["--cells", "elman", "--cases", "small,long,forecast", "--out", tmp_path]
    done = run("bench", "memory", *words)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    values = "       1.3 MiB     1.0 KiB       5.2 MiB     4.0 KiB       1.5 MiB    0.25"
    assert f"elman  small       32, 64, 16      {values}" in lines
    assert f"elman  forecast    1, 64, 32       {values}" in lines
    assert "layer, forward and backward (peak at 300 steps)" in lines
    assert [line.split(None, 1) for line in lines[-3:-1]] == [
        ["elman", "xprnn 98.7 MiB in 2.5 s, torch 394.6 MiB in 2.5 s"],
        ["elman", "recompute   xprnn 98.7 MiB in 2.5 s"],
    ]
    facts = json.loads((tmp_path / "bench-memory.json").read_text())
    assert [row["case"] for row in facts["rows"]] == ["small", "forecast"]
    assert facts["steps"] == [100, 300]
    assert [row["recompute"] for row in facts["long"]] == [False, True]


def test_where_it_can_not_be_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    done = run("bench", "memory")
    assert done.status == 1
    assert "on Linux only" in done.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cells foo", "--cells is 'foo': expected 'elman' or 'gru' or 'lstm'"),
        ("--cases huge", "--cases is 'huge': expected 'small'"),
        ("--against jax", "--against is 'jax': expected 'torch'"),
        ("--threads 0", "--threads is 0: expected an int of at least 1"),
        ("--steps 300,100", "--steps is '300,100': expected two lengths, the smaller one first"),
        ("--steps 300", "--steps is '300': expected two lengths"),
        ("--steps a,b", "--steps is 'a,b': expected two lengths"),
        ("--lowering fast", "--lowering is 'fast': expected 'on'"),
        ("--backend cupy", "--backend is 'cupy': expected one that computes on the CPU"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", "memory", *words.split())
    assert done.status == 1
    assert message in done.error
