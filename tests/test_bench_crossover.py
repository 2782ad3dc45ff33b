"""``xprnn bench crossover``, and the hint that a small network may not need a device."""

import json
import logging
from typing import ClassVar

import numpy as np
import pytest

from tests.cli_tools import run
from tests.device_arrays import device_arrays
from xprnn import RNN, fit
from xprnn.backend import get_backend
from xprnn.bench import crossover
from xprnn.bench.crossover import CrossoverRow, crossovers, run_crossover
from xprnn.bench.timing import Setting
from xprnn.cells import CELLS, has_recurrent_matrix
from xprnn.training import hint


def row(batch, hidden, ratio):
    return CrossoverRow(hidden, batch, {"numpy": 1.0, "cupy": ratio}, ratio)


@pytest.mark.parametrize(
    ("ratios", "found"),
    [
        ({8: 2, 16: 1.5, 32: 0.9, 64: 0.5}, 32),
        ({8: 0.9, 16: 0.8}, 8),
        ({8: 2, 16: 1.0}, None),
        # Faster at 8 by chance: what counts is where it stays so.
        ({8: 0.9, 16: 1.1, 32: 0.7}, 32),
        ({8: 0.9, 16: 0.8, 32: 1.2}, None),
    ],
)
def test_where_the_second_stays_faster(ratios, found):
    rows = [row(4, hidden, ratio) for hidden, ratio in ratios.items()]
    assert crossovers(rows[::-1]) == {4: found}
    assert crossovers([row(1, 8, 3), *rows]) == {1: None, 4: found}


class Clock:
    """Workers whose figures depend on the shape alone."""

    asked: ClassVar[list] = []

    def __init__(self, module, library, setting):
        assert (module, library) == ("training", "xprnn")
        self.backend = setting.backend

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        Clock.asked.append("end")

    def seconds(self, cell, case):
        Clock.asked.append((self.backend, cell, *case[:5]))
        return 0.004 if self.backend == "cupy" else 0.0001 * case.hidden


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(crossover, "Worker", Clock)
    monkeypatch.setattr(Clock, "asked", [])


@pytest.mark.usefixtures("clock")
def test_the_backends_take_turns_at_every_shape():
    settings = {name: Setting(1, name) for name in ("numpy", "cupy")}
    (found,) = run_crossover("training", "gru", [50], [3], settings, inputs=2, steps=7)
    assert found == CrossoverRow(50, 3, {"numpy": 0.005, "cupy": 0.004}, 0.8)
    shape = (2, 50, 2, 3, 7)
    assert Clock.asked == [("numpy", "gru", *shape), ("cupy", "gru", *shape), "end", "end"]


@pytest.mark.usefixtures("clock")
def test_it_ends_when_it_is_told_to():
    settings = {name: Setting(1, name) for name in ("numpy", "cupy")}
    answers = iter([True, True, False])
    rows = run_crossover("training", "gru", [8, 9], [3, 4], settings, while_=lambda: next(answers))
    assert [(r.batch, r.hidden) for r in rows] == [(3, 8), (3, 9)]


@pytest.mark.usefixtures("clock")
def test_the_table(tmp_path):
    with device_arrays():
        words = ["--hidden", "64,16,32", "--batches", "4", "--out", tmp_path]
        done = run("bench", "crossover", *words)
    assert done.status == 0, done.err
    assert "     4     32      3.20 ms      4.00 ms    1.25" in done.out
    assert "B = 4: cupy is the faster one from H = 64 on" in done.out
    found = json.loads((tmp_path / "bench-crossover.json").read_text())
    assert [each["hidden"] for each in found["rows"]] == [16, 32, 64]
    assert found["crossover"] == {"4": 64}


@pytest.mark.slow
@pytest.mark.parametrize("work", ["training", "layer"])
def test_two_backends_on_the_cpu(work):
    words = "--backends numpy,array_api_strict --hidden 3 --batches 2 --inputs 2 --steps 2"
    options = ["--seconds", "0.01", "--threads", "1", "--json", "--work", work]
    done = run("bench", "crossover", *words.split(), *options)
    assert done.status == 0, done.err
    (found,) = json.loads(done.out)["rows"]
    assert min(found["seconds"].values()) > 0
    assert found["ratio"] == found["seconds"]["array_api_strict"] / found["seconds"]["numpy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--backends numpy", "--backends is 'numpy': expected two backends: numpy,cupy"),
        ("--backends numpy,numpy", "expected two backends"),
        ("--backends numpy,abacus", "unknown backend 'abacus'"),
        ("--hidden 0", "--hidden is '0': expected integers of at least 1"),
        ("--batches 1,,2", "--batches is '1,,2': expected integers of at least 1"),
        ("--work sleep", "--work is 'sleep': expected 'training' or 'layer'"),
        ("--cell lstn", "--cell is 'lstn': expected 'elman'"),
        ("--steps 0", "--steps is 0: expected an int of at least 1"),
    ],
)
def test_what_makes_no_sense(words, message):
    backends = "" if "--backends" in words else "--backends numpy,array_api_strict "
    done = run("bench", "crossover", *(backends + words).split())
    assert done.status == 1
    assert message in done.error


@pytest.fixture
def unsaid(monkeypatch):
    monkeypatch.setattr(hint, "_said", set())


def train(backend, hidden=3, batch=2):
    net = RNN(2, hidden, 2, cell="lstm", backend=backend, rng=0)
    x = net.backend.asarray(np.ones((2, batch, 2)))
    fit(net, (x, x), epochs=2)


@pytest.mark.usefixtures("unsaid")
def test_a_small_network_on_a_device_is_told_once(caplog, monkeypatch):
    numpy = type(get_backend("numpy").library)
    monkeypatch.setattr(numpy, "is_accelerator", lambda self, device: True)
    with caplog.at_level(logging.WARNING, "xprnn"):
        train("numpy")
        train("numpy")
    (said,) = caplog.messages
    assert said.startswith("this network makes G·H·H·B = 72 multiplications in a time step")
    assert "xprnn bench crossover measures it" in said


@pytest.mark.usefixtures("unsaid")
def test_nothing_is_said_on_the_cpu_or_of_a_large_network(caplog, monkeypatch):
    train("numpy")
    train("torch")
    numpy = type(get_backend("numpy").library)
    monkeypatch.setattr(numpy, "is_accelerator", lambda self, device: True)
    monkeypatch.setattr(hint, "FEW", 72)
    train("numpy")
    assert not caplog.messages


def test_which_devices_are_accelerators():
    with device_arrays():
        cupy = get_backend("cupy")
        assert cupy.library.is_accelerator(cupy.device)
    for name in ("numpy", "array_api_strict", "torch", "jax"):
        backend = get_backend(name)
        assert not backend.library.is_accelerator(backend.device)
    assert get_backend("torch").library.is_accelerator(get_backend("torch", "meta").device)


@pytest.mark.parametrize("cell", CELLS)
def test_the_multiplications_of_a_step(cell):
    """As many as U has entries, for each sequence."""
    net = RNN(2, 5, cell=cell)
    entries = net.parameters["weight_hh_l0"].size if has_recurrent_matrix(net.cell) else 0
    assert hint.multiplications(net, 7) == 7 * entries
