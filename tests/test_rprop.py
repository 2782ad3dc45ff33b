"""Rprop: steps worked out by hand, and torch's trajectories."""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, assert_all_close, assert_close, between_backends
from tests.optional import optional
from xprnn.optim import Rprop

torch = optional("torch")


def steps_of(rprop: Rprop, gradients) -> list[float]:
    p, found = {"w": np.array([1.0])}, []
    state = rprop.init(p)
    for g in gradients:
        p, state = rprop.update({"w": np.array([g])}, state, p)
        found.append(float(p["w"][0]))
    return found


@pytest.mark.parametrize(
    ("gradients", "figures"),
    [
        # No previous sign: Δ stays 0.1; then it grows twice.
        ((3.0, 1e-9, 7.0), (0.9, 0.78, 0.636)),
        # A change of sign halves Δ and takes no step; the next update has no previous sign.
        ((1.0, -1.0, -1.0, -1.0), (0.9, 0.9, 0.95, 1.01)),
        ((1.0, -1.0, 1.0), (0.9, 0.9, 0.85)),
        # No gradient: no step, and Δ stays.
        ((1.0, 0.0, 1.0), (0.9, 0.9, 0.8)),
    ],
)
def test_the_first_steps_by_hand(gradients, figures):
    assert steps_of(Rprop(0.1), gradients) == pytest.approx(figures, abs=1e-15)


def test_steps_have_bounds():
    rprop = Rprop(0.1, grow=2, shrink=0.5, smallest=0.08, largest=0.3)
    # 0.1, 0.2, 0.3 (not 0.4), 0.3; then halved to 0.15, to 0.08 (not 0.075).
    figures = (0.9, 0.7, 0.4, 0.1, 0.1, 0.25, 0.25, 0.17)
    got = steps_of(rprop, (1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0))
    assert got == pytest.approx(figures, abs=1e-15)


def test_a_hundred_steps_beside_torch():
    rng = np.random.default_rng(0)
    A = np.eye(4) + 0.3 * rng.normal(size=(4, 4))
    start = {"a": rng.normal(size=4), "b": rng.normal(size=(2, 4))}
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in start.items()}
    optimizer = torch.optim.Rprop(theirs.values(), lr=0.01)
    rprop, ours = Rprop(), start
    state = rprop.init(ours)
    for _ in range(100):
        optimizer.zero_grad()
        sum((torch.sin(p @ torch.tensor(A)) ** 2).sum() for p in theirs.values()).backward()
        optimizer.step()
        gradients = {name: np.sin(2 * (p @ A)) @ A.T for name, p in ours.items()}
        ours, state = rprop.update(gradients, state, ours)
    assert_all_close(ours, {name: p.detach().numpy() for name, p in theirs.items()}, AUTOGRAD)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_backend_takes_the_same_steps(harness, dtype):
    harness, start = harness.at(dtype), np.random.default_rng(0).normal(size=(3, 2))
    found = []
    for array in (harness.array, np.array):
        p = {"w": array(start)}
        state = Rprop().init(p)
        for _ in range(10):
            p, state = Rprop().update({"w": p["w"] - 0.3}, state, p)
        found.append(p["w"])
    assert_close(harness.host(found[0]), found[1], between_backends(dtype, 10))


def test_arguments_stay_as_they_are(harness):
    rprop = Rprop(0.1)
    p, g = ({"w": harness.array([1.0, value])} for value in (2.0, -3.0))
    first = rprop.init(p)
    moved, second = rprop.update(g, first, p)
    rprop.update(g, second, moved)
    assert harness.host(p["w"]).tolist() == [1, 2]
    assert harness.host(g["w"]).tolist() == [1, -3]
    assert harness.host(first.step["w"]).tolist() == [0.1, 0.1]
    assert harness.host(first.sign["w"]).tolist() == [0, 0]
    assert harness.host(second.sign["w"]).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"initial": 0}, ValueError, r"initial is 0\.0: expected a number above 0"),
        ({"grow": 1}, ValueError, r"grow is 1\.0: expected a number above 1"),
        ({"shrink": 1}, ValueError, r"shrink is 1\.0: expected a number above 0 and below 1"),
        ({"shrink": 0}, ValueError, r"shrink is 0\.0: expected a number above 0 and below 1"),
        ({"smallest": 0}, ValueError, r"smallest is 0\.0: expected a number above 0"),
        ({"smallest": "a"}, TypeError, r"smallest is 'a' \(str\): expected a number"),
        ({"largest": 1e-6}, ValueError, r"largest is 1e-06: expected a number above 1e-06"),
        ({"largest": None}, TypeError, r"largest is None \(NoneType\): expected a number"),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        Rprop(**options)
