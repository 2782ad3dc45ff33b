"""Trainings on CuPy, or on its stand-in, against the same on NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.closeness import assert_close
from xprnn import RNN, fit
from xprnn.optim import Averaged, Optimizer


def series(backend: str = "cupy", **options: Any) -> tuple[RNN, Any, str]:
    """Return a network, one batch, and the loss."""
    net = RNN(2, 3, 2, cell="lstm", backend=backend, rng=0, dtype="float64", **options)
    x = net.backend.asarray(np.random.default_rng(0).normal(size=(5, 2, 2)))
    return net, (x, x), "squared_error"


def text(backend: str = "cupy", **options: Any) -> tuple[RNN, Any, str]:
    """Return the same with tokens."""
    net = RNN(4, 3, 4, cell="lstm", backend=backend, rng=0, dtype="float64", **options)
    # Not all of the vocabulary, so that a sparse gradient lacks a column.
    x = net.backend.asarray(np.random.default_rng(0).choice([0, 1, 3], (5, 2)))
    return net, (x, x), "cross_entropy"


def same_as_numpy(make: Callable[[str], Any], rule: Optimizer, tolerance: float = 1e-11) -> None:
    """Compare the losses, the norms and the weights of a training."""
    ends = []
    for backend in ("numpy", "cupy"):
        net, batch, loss = make(backend)
        history = fit(net, [batch] * 3, loss=loss, optimizer=Averaged(rule), clip_norm=0.1)
        ends.append((net, history))
    (numpy_net, want), (net, got) = ends
    close = tolerance / 100
    assert got.loss == pytest.approx(want.loss, rel=close)
    norms = [history.records[0].gradient_norm for history in (got, want)]
    assert norms[0] == pytest.approx(norms[1], rel=close)
    for name, p in numpy_net.parameters.items():
        there = net.backend.to_numpy(net.parameters[name])
        assert_close(there, p, tolerance, name, floor=close)
