"""Layer normalisation: its two formulas, what a network becomes invariant to, and its gains."""

import numpy as np
import pytest

from tests.cases import CELLS
from tests.closeness import (
    AUTOGRAD,
    DIFFERENCES,
    FLOAT64,
    assert_all_close,
    assert_close,
    between_backends,
)
from tests.judge import FOURTH_ORDER, central_differences, layer_weights, leaf
from tests.optional import optional
from tests.passes import gradients_of
from tests.stacks import LENGTHS, SIZES
from xprnn import RNN, Weights, fit, unroll, unroll_backward
from xprnn.cells import LSTM
from xprnn.engine.gradients import SparseGradient
from xprnn.engine.normalization import EPSILON, normalize, normalize_backward
from xprnn.optim import SGD

torch = optional("torch")

RNG = np.random.default_rng(0)
A, GAIN, DV = RNG.normal(1.0, 3.0, (4, 3, 7)), RNG.uniform(0.5, 1.5, 7), RNG.normal(size=(4, 3, 7))
NORMALISED = tuple(row for row in CELLS if row.id in ("lstm-layer-norm", "custom-leaky"))
each_normalised = pytest.mark.parametrize("case", NORMALISED, ids=lambda case: case.id)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_formulas_against_torch(harness, dtype):
    harness = harness.at(dtype)
    xp, gain = harness.backend.xp, harness.array(GAIN)
    found = normalize(xp, harness.array(A))
    da, d_gain = normalize_backward(xp, found, gain, harness.array(DV))
    a, g = leaf(A), leaf(GAIN)
    v = torch.nn.functional.layer_norm(a, (7,), g, eps=1e-5)
    want_a, want_gain = torch.autograd.grad((v * torch.tensor(DV)).sum(), [a, g])
    tolerance = between_backends(dtype, 1)
    assert_close(harness.host(gain * found.n), v.detach(), tolerance)
    assert_close(harness.host(da), want_a, tolerance)
    assert_close(harness.host(d_gain).sum(axis=(0, 1)), want_gain, tolerance)


@pytest.mark.parametrize("spread", [3.0, 1e-2, 1e-4])
def test_the_gradient_against_finite_differences(spread):
    """Also where the variance is as small as the ε that is added to it."""
    a, gain = spread * A[0], GAIN.copy()

    def goal() -> float:
        return float(np.sum(DV[0] * gain * normalize(np, a).n))

    da, d_gain = normalize_backward(np, normalize(np, a), gain, DV[0])
    want_a, want_gain = central_differences(goal, [a, gain], 1e-3 * spread, FOURTH_ORDER)
    assert_close(da, want_a, DIFFERENCES, floor=1e-8)
    assert_close(d_gain.sum(axis=0), want_gain, DIFFERENCES, floor=1e-8)


def test_mean_and_variance():
    n, r = normalize(np, A)
    assert_close(np.mean(n, axis=-1), np.zeros((4, 3)), 0.0, floor=1e-14)
    variance = np.var(A, axis=-1)
    assert_close(np.var(n, axis=-1), variance / (variance + EPSILON), FLOAT64)
    assert_close(r[..., 0], 1 / np.sqrt(variance + 1e-5), FLOAT64)


def test_equal_entries_are_zero_and_finite():
    found = normalize(np, np.full((2, 5), 3.0))
    assert not np.any(found.n)
    da, d_gain = normalize_backward(np, found, np.ones(5), np.ones((2, 5)))
    assert not np.any(da)
    assert not np.any(d_gain)


@each_normalised
def test_both_projections_are_normalised_by_themselves(case):
    """Neither the scale of W and U matters, nor a constant added to all rows."""
    case = case.but(**SIZES, layers=2)
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    want = net(problem.x, problem.state)[0]
    for name in [name for name in net.parameters if name.startswith("weight_")]:
        held = net.parameters[name]
        shifted = held + RNG.normal(size=(1, held.shape[1]))
        # The scale matters only through the ε beside the variance.
        for changed, tolerance in ((100 * held, 1e-2), (shifted, 1e-10)):
            net.parameters[name] = changed
            assert_close(net(problem.x, problem.state)[0], want, tolerance, name)
            net.parameters[name] = held
    net.parameters["norm_hh_l1"] = 100 * net.parameters["norm_hh_l1"]
    assert np.max(np.abs(net(problem.x, problem.state)[0] - want)) > 0.01


@each_normalised
def test_the_bias_is_added_after(case):
    """A gain of zero leaves the bias alone."""
    case = case.but(**SIZES)
    net, problem = case.make(dtype="float64"), case.problem()
    zeros = {k: 0 * p for k, p in case.parameters().items() if k.startswith("norm_")}
    net.parameters = case.parameters() | zeros
    assert np.array_equal(net(problem.x)[0], net(2 * problem.x)[0])
    assert np.any(net(problem.x)[0] != 0)
    run = net.forward(problem.x, problem.state)
    found = gradients_of(net, run, problem.d_output, problem.d_state)
    for name in ("weight_ih_l0", "weight_hh_l0", "input"):
        assert not np.any(found[name]), name
    for name in ("norm_ih_l0", "norm_hh_l0", "bias_l0"):
        assert np.any(found[name] != 0), name


@pytest.mark.parametrize("window", [None, 1])
@each_normalised
def test_tokens_are_one_hot_vectors(case, window):
    case = case.but(**SIZES | {"I": 7}, layers=2, lengths=LENGTHS)
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    tokens = RNG.integers(0, 6, problem.x.shape[:2])
    found = []
    for x in (tokens, np.eye(7)[tokens]):
        run = net.forward(x, problem.state, case.lengths)
        gradient = net.backward(run, problem.d_output, problem.d_state, window)
        found.append(gradients_of(net, run, problem.d_output, problem.d_state, window))
    assert not isinstance(gradient.parameters["weight_ih_l0"], SparseGradient)
    found[1].pop("input")
    assert_all_close(found[0], found[1], FLOAT64)


@each_normalised
def test_the_functional_core(case):
    case = case.but(**SIZES | {"O": None})
    problem = case.problem()
    weights = layer_weights(case.cell, case.parameters())
    assert isinstance(weights, Weights)
    assert len(weights.gains) == 2
    h, _, tape = unroll(case.cell, weights, problem.x)
    got = unroll_backward(case.cell, weights, tape, problem.d_output, window=1)
    net = case.make(dtype="float64")
    net.parameters = case.parameters()
    want = net.backward(net.forward(problem.x), problem.d_output, window=1)
    assert_close(h, net(problem.x)[0], 0.0)
    for gain, name in zip(got.weights.gains, ("norm_ih_l0", "norm_hh_l0"), strict=True):
        assert_close(gain, want.parameters[name], AUTOGRAD, name)


def test_it_can_be_trained_where_the_input_is_badly_scaled():
    """With inputs a thousand times too large, a plain network's gates stay saturated."""
    rng = np.random.default_rng(0)
    x = 1000 * rng.normal(size=(8, 20, 3))
    target = np.tanh(np.cumsum(x[..., :1], axis=0) / 1000)
    losses = []
    for layer_norm in (False, True):
        net = RNN(3, 8, 1, cell=LSTM(layer_norm=layer_norm), dtype="float64", rng=0)
        history = fit(net, (x, target), optimizer=SGD(0.3, momentum=0.9), epochs=60)
        losses.append(history.loss[-1])
    assert losses[1] < 0.5 * losses[0]
