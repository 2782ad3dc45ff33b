"""The networks of the examples, with their own data and losses: every gradient is right."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xprnn.testing import GradientReport, check_gradients

EXAMPLES = Path(__file__).parents[1] / "examples"


class FoundError(Exception):
    """Raised when a training asks for its first gradient."""


def first_gradient(monkeypatch, train) -> GradientReport:
    """Start a training, and check the first gradient that it asks for."""
    found = []

    def loss_and_grad(net, x, target, loss, *, state=None, lengths=None, window=None, **options):
        found.append((net, x, state, target, loss, lengths, window))
        raise FoundError

    with monkeypatch.context() as patch:
        patch.setattr("xprnn.engine.network.loss_and_grad", loss_and_grad)
        patch.setattr("xprnn.training.step.loss_and_grad", loss_and_grad)
        with pytest.raises(FoundError):
            train()
    net, x, state, target, loss, lengths, window = found[0]
    return check_gradients(
        net, x, state, target=target, loss=loss, lengths=lengths, window=window, directions=1
    )


def example(name):
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


def test_counting_ones(monkeypatch):
    counting = example("counting_ones")
    x, target = counting.every_sequence(5)
    net = counting.counter(0.8, 1.1)
    report = first_gradient(monkeypatch, lambda: net.value_and_grad(x, target))
    assert report["weight_hh_l0"].error < 1e-12


@pytest.mark.parametrize("form", ["many_to_many", "many_to_one", "one_to_many"])
def test_the_general_network(form, monkeypatch):
    general = example("general_network")
    report = first_gradient(monkeypatch, lambda: getattr(general, form)(1))
    assert report.passed
    assert report.method.startswith("forward mode")


def test_the_language_model(monkeypatch):
    language = example("language_model")
    data = language.read(60, 1000)
    report = first_gradient(
        monkeypatch, lambda: language.train(*data, hidden=6, epochs=1, window=4)
    )
    assert report.passed
    assert "the input is of integers, which have no gradient" in report.notes


@pytest.mark.parametrize("window", [None, 3])
def test_the_noisy_sine(window, monkeypatch):
    sine = example("noisy_sine")
    settings = sine.LECTURE if window else sine.OURS
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20, 1, 1))
    report = first_gradient(
        monkeypatch, lambda: sine.train(x, y, settings, epochs=1, neurons=8, window=window)
    )
    assert report["weight_hh_l0"].verdict == "right"
