"""A cell and a network to plant faults in, and the messages of the checks."""

from dataclasses import dataclass

import numpy as np
import pytest

from xprnn import RNN
from xprnn.testing import GradientError, assert_parity, check_gradients

X = np.random.default_rng(0).normal(size=(5, 3, 2))
MODES = ("central", "complex", "directions", "forward")
every_mode = pytest.mark.parametrize("mode", MODES)


@dataclass(frozen=True)
class Carried:
    """h(t) = tanh(u + v) + 0.3 h(t-1), with the right backward."""

    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        a = xp.tanh(u[0] + v[0])
        return (a + 0.3 * state[0],), (a,)

    def backward(self, xp, saved, previous, d_state):
        (a,), (dh,) = saved, d_state
        dz = dh * (1 - a * a)
        return (dz,), (dz,), (0.3 * dh,)


def network(cell=None, backend="numpy", **options):
    return RNN(2, 4, 2, cell=cell or Carried(), backend=backend, rng=0, **options)


def caught(kind=GradientError, cell=None, **options) -> str:
    """Return the message, without the table, of a check of gradients that must fail."""
    with pytest.raises(kind) as info:
        check_gradients(network(cell), X, **options)
    return str(info.value).partition("\n\n")[0]


def disagreement(cell=None, backend="torch") -> str:
    with pytest.raises(AssertionError) as info:
        assert_parity(lambda backend: network(cell, backend), X, [backend], steps=2)
    return str(info.value)


def after(monkeypatch, module, name, change):
    """Make a function of the engine return ``change(result)``."""
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: change(right(*a, **k)))
