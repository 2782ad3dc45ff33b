"""Integers for input: one-hot vectors that are never made, and gradients that are sparse."""

import numpy as np
import pytest

from tests.cases import CELLS, each_cell
from tests.closeness import (
    FLOAT64,
    assert_all_close,
    assert_close,
    assert_same_history,
    between_backends,
)
from tests.test_unroll import material
from xprnn import RNN, evaluate, fit, unroll, unroll_backward
from xprnn.optim import SGD
from xprnn.sparse import SparseGradient

TOKENS = np.array([[2, 0, 2], [5, 2, 2], [0, 5, 2], [1, 1, 0]])
"""Four steps of three sequences, with words that come again, and without the words 3, 4 and 6."""

VOCABULARY = 7


def one_hot(tokens: np.ndarray) -> np.ndarray:
    return np.eye(VOCABULARY)[tokens]


def case_of(row):
    return row.but(I=VOCABULARY, T=4, B=3)


def both(case, harness, **options):
    """Return the gradients by tokens on a backend, and by one-hot vectors on NumPy."""
    problem = case.problem()
    net = harness.net(case)
    run = net.forward(harness.array(TOKENS), harness.arrays(problem.state))
    got = net.backward(
        run, harness.array(problem.d_output), harness.arrays(problem.d_state), **options
    )
    twin = case.make(dtype="float64")
    twin.parameters = case.parameters()
    want_run = twin.forward(one_hot(TOKENS), problem.state)
    want = twin.backward(want_run, problem.d_output, problem.d_state, **options)
    return (run, got), (want_run, want)


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@each_cell
def test_tokens_are_one_hot_vectors(case, harness, dtype, window, returns):
    case, harness = case_of(case).but(returns=returns), harness.at(dtype)
    (run, got), (want_run, want) = both(case, harness, window=window)
    tolerance = between_backends(dtype, case.T)
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    dense = {
        name: g.to_dense() if isinstance(g, SparseGradient) else g
        for name, g in got.parameters.items()
    }
    assert_all_close(harness.hosts(dense), want.parameters, tolerance)
    assert got.input is None
    for part, want_part in zip(got.state, want.state, strict=True):
        assert_close(harness.host(part), want_part, tolerance, "state")


def test_the_gradient_holds_the_words_seen_and_no_others(harness):
    case = case_of(CELLS[0])
    (_, got), _ = both(case, harness)
    g = got.parameters["weight_ih_l0"]
    assert isinstance(g, SparseGradient)
    assert (g.shape, g.axis) == ((case.H, VOCABULARY), 1)
    assert harness.backend.to_numpy(g.indices).tolist() == [0, 1, 2, 5]
    assert harness.host(g.values).shape == (case.H, 4)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8"])
def test_any_integers_do(harness, dtype):
    case = case_of(CELLS[0])
    net, problem = harness.net(case), case.problem()
    output, _ = net(harness.array(TOKENS.astype(dtype)))
    want, _ = net(harness.array(one_hot(TOKENS)))
    assert_close(harness.host(output), harness.host(want), FLOAT64)
    _, gradient = net.value_and_grad(
        harness.array(TOKENS.astype(dtype)), harness.array(problem.target)
    )
    _, dense = net.value_and_grad(harness.array(one_hot(TOKENS)), harness.array(problem.target))
    assert_close(
        harness.host(gradient.parameters["weight_ih_l0"].to_dense()),
        harness.host(dense.parameters["weight_ih_l0"]),
        FLOAT64,
    )


def test_an_empty_batch(harness):
    case = case_of(CELLS[0]).but(B=0)
    net, problem = harness.net(case), case.problem()
    value, gradient = net.value_and_grad(
        harness.array(TOKENS[:, :0]), harness.array(problem.target)
    )
    assert harness.host(value) == 0
    dense = gradient.parameters["weight_ih_l0"].to_dense()
    assert harness.host(dense).tolist() == np.zeros((case.H, VOCABULARY)).tolist()
    moved, _ = SGD().update(gradient.parameters, SGD().init(net.parameters), net.parameters)
    assert_all_close(harness.hosts(moved), harness.hosts(dict(net.parameters)), 0.0)


@each_cell
def test_the_functional_core_takes_tokens(case):
    case = case_of(case)
    weights, _, state, dh, d_state = material(case)
    h, _, tape = unroll(case.cell, weights, TOKENS, state)
    got = unroll_backward(case.cell, weights, tape, dh, d_state)
    want_h, _, tape = unroll(case.cell, weights, one_hot(TOKENS), state)
    want = unroll_backward(case.cell, weights, tape, dh, d_state)
    assert_close(h, want_h, FLOAT64)
    assert got.x is None
    assert_close(got.weights.W.to_dense(), want.weights.W, FLOAT64)
    assert_close(got.weights.U, want.weights.U, FLOAT64)


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.05, "clip_value": 0.01, "window": 1}],
    ids=["plain", "clipped"],
)
@pytest.mark.parametrize(
    "sgd",
    [SGD(0.5), SGD(0.5, momentum=0.5, decay=0.1), SGD(0.5, momentum=0.5, nesterov=True)],
    ids=["plain", "momentum", "nesterov"],
)
def test_training_on_tokens_is_training_on_one_hot_vectors(harness, sgd, options):
    case = case_of(CELLS[0])
    target = case.problem().target
    net, twin = harness.net(case), case.make(dtype="float64")
    twin.parameters = case.parameters()
    data = [(TOKENS, target), (TOKENS[:2, :2], target[:2, :2])]
    ours = [(harness.array(x), harness.array(y)) for x, y in data]
    history = fit(net, ours, optimizer=sgd, epochs=3, **options)
    theirs = [(one_hot(x), y) for x, y in data]
    want = fit(twin, theirs, optimizer=sgd, epochs=3, **options)
    assert_same_history(history.records, want.records, 1e-11)
    assert_all_close(harness.hosts(dict(net.parameters)), dict(twin.parameters), 1e-11)
    assert evaluate(net, ours) == pytest.approx(evaluate(twin, theirs), rel=1e-11)


def test_weights_of_words_that_do_not_come_stay():
    net = RNN(VOCABULARY, 3, 1, dtype="float64", rng=0)
    before = net.parameters["weight_ih_l0"].copy()
    fit(net, (TOKENS, np.ones((4, 3, 1))), optimizer=SGD(0.1))
    changed = np.any(net.parameters["weight_ih_l0"] != before, axis=0)
    assert changed.tolist() == [True, True, True, False, False, True, False]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (TOKENS + 2, ValueError, r"x\[1, 0\] is 7: expected 0 to 6$"),
        (TOKENS - 1, ValueError, r"x\[0, 1\] is -1: expected 0 to 6$"),
        (TOKENS[:0], ValueError, r"x has shape \(0, 3\): expected at least one step"),
        (TOKENS[0], TypeError, "x has dtype int64: expected floats"),
        (TOKENS[..., None], TypeError, "x has dtype int64: expected floats"),
        (TOKENS > 1, TypeError, "x has dtype bool: expected floats"),
        (TOKENS.astype(float), ValueError, r"x has shape \(4, 3\): expected \(T, B, 7\)"),
        (TOKENS.tolist(), TypeError, "x is a list: expected an array of the backend 'numpy'"),
    ],
)
def test_what_is_no_token(x, error, message):
    net = RNN(VOCABULARY, 3, 1, dtype="float64", rng=0)
    for use in (net, net.forward, lambda x: net.value_and_grad(x, np.ones((4, 3, 1)))):
        with pytest.raises(error, match=message):
            use(x)


def test_tokens_on_another_device():
    net = RNN(VOCABULARY, 3, 1, backend="array_api_strict", device="device1")
    here = net.to("array_api_strict", "device2").backend.asarray(TOKENS)
    with pytest.raises(ValueError, match=r"x is on device .*device2"):
        net(here)
