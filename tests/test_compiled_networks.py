"""Whole networks with compiled loops: their gradients by differences, and against plain ones."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.cases import row_of
from tests.closeness import assert_all_close, assert_close
from xprnn import RNN
from xprnn.cells import LSTM
from xprnn.engine.loop import lowering
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.testing import check_cell, check_gradients

pytestmark = pytest.mark.slow

pytest.importorskip("numba")

STACK = {"layers": 2, "bidirectional": True, "dropout": 0.3, "recurrent_dropout": 0.2}
LENGTHS = (4, 1, 3)

NAMES = ("elman-tanh", "gru", "lstm-peepholes")
each_cell = pytest.mark.parametrize("case", [row_of(name) for name in NAMES], ids=NAMES)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@pytest.fixture
def calls(monkeypatch):
    """Return the directions of the compiled loops that are called."""
    from xprnn.engine.loop.numba.loops import NumbaLoops

    seen, run = [], NumbaLoops._run

    def counted(self, direction, *arguments, **options):
        seen.append(direction)
        run(self, direction, *arguments, **options)

    monkeypatch.setattr(NumbaLoops, "_run", counted)
    return seen


# A compiled loop is held to the plain one, which is held to differences for every cell.
@pytest.mark.parametrize(
    "case", [row_of("gru"), row_of("lstm-peepholes")], ids=lambda case: case.id
)
def test_gradients_by_differences(case, calls):
    net = case.but(H=3, **STACK).make(dtype="float64", rng=0)
    x = np.random.default_rng(1).normal(size=(4, 3, case.I))
    report = check_gradients(net, x, lengths=LENGTHS)
    assert report.passed
    assert {"forward", "backward"} == set(calls)


@each_cell
def test_the_same_as_without_lowering(case):
    net = case.but(T=6, B=4, H=9, **STACK).make(dtype="float64", rng=0)
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(6, 4, case.I)), rng.normal(size=(6, 4, 2))
    for window, lengths in ((None, None), (None, (6, 2, 1, 5)), (2, (6, 2, 1, 5))):
        with lowering.disable_lowering():
            want = passes(net, x, target, lengths, window)
        got = passes(net, x, target, lengths, window)
        assert_close(got[0], want[0], 1e-12, "output")
        assert_all_close(got[1], want[1], 1e-11, floor=1e-14)


def passes(net, x, target, lengths, window):
    run = net.forward(x, lengths=lengths, rng=np.random.default_rng(5))
    gradient = net.backward(run, target, window=window)
    return run.output, {**gradient.parameters, "input": gradient.input}


def test_a_check_of_a_cell_checks_both_lowerings():
    names = [finding.name for finding in check_cell(LSTM(peepholes=True)).findings]
    for words in ("lowered h", "lowered masked du", "lowered by numba h"):
        assert words in names
    assert "lowered by numba masked d_peephole_i" in names


def test_a_cell_of_the_user_s_own(calls):
    path = Path(__file__).parents[1] / "examples" / "bring_your_own_cell.py"
    cell = runpy.run_path(str(path), run_name="example")["Leaky"]()
    check_cell(cell)
    calls.clear()
    net = RNN(2, 5, 1, cell=cell, layers=2, bidirectional=True, rng=0)
    x = np.random.default_rng(1).normal(size=(6, 3, 2))
    assert check_gradients(net, x).passed
    assert {"forward", "backward"} == set(calls)
    first, second = explain_lowering(cell).splitlines()
    assert "is compiled by Numba" in first
    assert "forward in float64 " in first
    assert second == "where that does not suit, it is lowered to NumPy calls"


def test_single_precision_trains():
    net = RNN(2, 20, 1, cell="lstm", rng=0)
    x = np.random.default_rng(1).normal(size=(8, 5, 2)).astype("float32")
    value, gradient = net.value_and_grad(x, x[:, :, :1])
    with lowering.disable_lowering():
        want_value, want = net.value_and_grad(x, x[:, :, :1])
    assert float(value) == pytest.approx(float(want_value), rel=1e-6)
    assert_all_close(gradient.parameters, want.parameters, 1e-5)
