"""What is said of compiling: that it happens, and what its absence costs."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest

from xprnn import RNN, fit
from xprnn.backend.numba import ANNOUNCED
from xprnn.cli.train.progress import Progress
from xprnn.engine.loop import lowering
from xprnn.training import hint

X = np.ones((3, 2, 2), "float32")


@dataclass(frozen=True)
class Halved:
    """h(t) = tanh(u + v / 2), which no other test compiles."""

    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        h = xp.tanh(u[0] + 0.5 * v[0])
        return (h,), (h,)

    def backward(self, xp, saved, previous, d_state):
        d = d_state[0] * (1 - saved[0] * saved[0])
        return (d,), (0.5 * d,), (None,)


def announced(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if hasattr(r, ANNOUNCED)]


@pytest.mark.slow
def test_compiling_is_announced_once_and_loading_is_not(monkeypatch, caplog):
    pytest.importorskip("numba")
    monkeypatch.setenv("XPRNN_LOWERING", "numba")
    caplog.set_level(logging.INFO, "xprnn")
    lowering.loops_of.cache_clear()
    lowering._FOUND.clear()
    net = RNN(2, 3, cell=Halved(), rng=0)
    net.value_and_grad(X, np.ones((3, 2, 3), "float32"))
    # The products, too, if no other test has compiled them.
    assert "compiling the loops for Halved in float32, once" in announced(caplog)
    assert len(announced(caplog)) == len(set(announced(caplog)))
    caplog.clear()
    # As in another process: only the code on disk is left.
    lowering.loops_of.cache_clear()
    lowering._FOUND.clear()
    net.value_and_grad(X, np.ones((3, 2, 3), "float32"))
    assert announced(caplog) == []
    lowering.loops_of.cache_clear()
    lowering._FOUND.clear()


def test_a_training_of_the_command_line_shows_it(capsys):
    log = logging.getLogger("xprnn")
    before = log.level, list(log.handlers)
    with Progress(3):
        log.info("compiling", extra={ANNOUNCED: "the loops for LSTM in float32"})
        log.info("something else")
        log.warning("a warning")
    assert (log.level, log.handlers) == before
    log.info("compiling", extra={ANNOUNCED: "after it"})
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line != "a warning"] == [
        "compiling the loops for LSTM in float32, once"
    ]


@pytest.fixture
def hints(monkeypatch, caplog):
    """Return a function that trains for an epoch, and then returns the hints so far."""
    monkeypatch.setattr(hint, "_said", set())
    monkeypatch.setattr(hint, "why_no_numba", lambda: "Numba is not installed: pip install it")
    monkeypatch.setattr(hint, "LONG", -1.0)
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    monkeypatch.setattr("xprnn.engine.loop.lowering.why_no_numba", lambda: "not asked for here")

    def train(backend="numpy"):
        net = RNN(2, 3, backend=backend, rng=0)
        fit(net, tuple(map(net.backend.asarray, (X, np.ones((3, 2, 3))))), epochs=1)
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    return train


def test_a_long_training_without_compiled_loops_says_so_once(hints):
    wanted = [
        "this training could take about half the time with compiled loops: "
        "Numba is not installed: pip install it"
    ]
    assert hints() == wanted
    assert hints() == wanted


@pytest.mark.parametrize("why", ["short", "installed", "switched off", "another backend"])
def test_no_hint(hints, monkeypatch, why):
    if why == "short":
        monkeypatch.setattr(hint, "LONG", 20.0)
    if why == "installed":
        monkeypatch.setattr(hint, "why_no_numba", lambda: "")
    if why == "switched off":
        monkeypatch.setenv("XPRNN_LOWERING", "numpy")
    assert hints("array_api_strict" if why == "another backend" else "numpy") == []
