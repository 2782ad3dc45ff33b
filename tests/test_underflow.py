"""Underflow is no fault, also in programs that call ``np.seterr(all="raise")``."""

import numpy as np
import pytest

import xprnn
from xprnn import RNN, data, losses, optim, unroll, unroll_backward
from xprnn.optim import OPTIMIZERS, Averaged, ParameterGroups

TINY = {"w": np.full(4, 1e-25, "f4"), "v": np.full((2, 2), 1e-30, "f4")}
RULES = {name: rule() for name, rule in OPTIMIZERS.items()} | {
    "averaged": Averaged("adam"),
    "groups": ParameterGroups({"w": "adam"}, otherwise="rmsprop"),
}


@pytest.fixture(autouse=True)
def everything_raises():
    with np.errstate(all="raise"):
        yield


@pytest.mark.parametrize("loss", [losses.CrossEntropy(), losses.CrossEntropy("sum")])
def test_sure_logits(loss):
    logits, target = np.array([[[0, -120.0]]], "f4"), np.array([[0]])
    assert loss(logits, target) == 0
    assert loss.value_and_grad(logits, target)[1].tolist() == [[[0.0, 0.0]]]


def test_a_tiny_error():
    output, target = np.full((1, 1, 2), 1e-30, "f4"), np.zeros((1, 1, 2), "f4")
    assert losses.SquaredError()(output, target) == 0
    assert losses.SquaredError().value_and_grad(output, target)[0] == 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_tiny_gradients(rule):
    p = {k: np.ones_like(g) for k, g in TINY.items()}
    state = rule.init(p)
    for _ in range(3):
        p, state = rule.update(TINY, state, p)
    assert all(np.isfinite(a).all() for a in p.values())


def test_the_norm_of_tiny_gradients():
    assert optim.global_norm(TINY) == 0
    for clip in (optim.clip_by_norm, optim.clip_by_value):
        clip(TINY, 1.0)
    assert optim.clip_by_norm({"w": np.full(2, 1e-3, "f4")}, 1e-37)[1] > 0


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "minimal_gated"])
def test_vanishing_gradients(cell):
    rng = np.random.default_rng(0)
    net = RNN(3, 8, 2, cell=cell, rng=0)
    small = net.parameters["weight_hh_l0"] * np.float32(1e-3)
    net.parameters["weight_hh_l0"] = small
    x, d = rng.normal(size=(60, 2, 3)).astype("f4"), np.zeros((60, 2, 2), "f4")
    d[-1] = 1
    net(x * np.float32(1e-30))
    net.backward(net.forward(x), d)
    last = RNN(3, 8, 2, cell=cell, rng=0, returns="last")
    last.parameters = net.parameters
    target = np.zeros((2, 2), "f4")
    batch = data.Batch(x, target)
    for options in ({}, {"clip_norm": 1.0}, {"clip_value": 1.0, "accumulate": 2}):
        xprnn.fit(last, [batch] * 3, epochs=2, optimizer="adam", validation=batch, **options)
    if cell == "elman":
        weights = tuple(net.parameters[f"{k}_l0"] for k in ("weight_ih", "weight_hh", "bias"))
        tape = unroll(cell, weights, x).tape
        unroll_backward(cell, weights, tape, np.zeros((60, 2, 8), "f4"), (x[0, :, :1] + small[:1],))


def test_a_training_of_tokens():
    net, tokens = RNN(2, 3, 2, rng=0), np.array([[0], [1]])
    net.parameters["readout.weight"] = net.parameters["readout.weight"] * np.float32(1000)
    history = xprnn.fit(net, (tokens, tokens), loss="cross_entropy", optimizer="adam", epochs=3)
    assert len(history) == 3
    xprnn.evaluate(net, (tokens, tokens), loss="cross_entropy")


def test_overflow_still_raises():
    with pytest.raises(FloatingPointError):
        losses.SquaredError()(np.full((1, 1, 1), 1e30, "f4"), np.zeros((1, 1, 1), "f4"))
