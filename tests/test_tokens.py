"""Integer input: one-hot vectors that are never formed, and sparse gradients."""

import numpy as np
import pytest

from tests.cases import each_case, each_cell, row_of
from tests.closeness import (
    FLOAT64,
    assert_all_close,
    assert_close,
    assert_same_history,
    between_backends,
)
from tests.harness import on_every_backend
from tests.test_unroll import material
from xprnn import RNN, evaluate, fit, unroll, unroll_backward
from xprnn.cells import has_recurrent_matrix
from xprnn.engine.gradients import SparseGradient, dense
from xprnn.optim import SGD

TOKENS = np.array([[2, 0, 2], [5, 2, 2], [0, 5, 2], [1, 1, 0]])
"""Four steps of three sequences: some words come twice, the words 3, 4 and 6 never."""

VOCABULARY = 7


def one_hot(tokens: np.ndarray) -> np.ndarray:
    return np.eye(VOCABULARY)[tokens]


def case_of(row):
    return row.but(I=VOCABULARY, T=4, B=3)


def by_one_hot_vectors(case, window=None):
    """Return a network's run and gradients on NumPy, with one-hot vectors for tokens."""
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    run = net.forward(one_hot(TOKENS), problem.state)
    return run, net.backward(run, problem.d_output, problem.d_state, window)


def by_tokens(case, harness, window=None):
    """Return the same on a backend, with tokens."""
    net, problem = harness.net(case), case.problem()
    run = net.forward(harness.array(TOKENS), harness.arrays(problem.state))
    d_state = harness.arrays(problem.d_state)
    return run, net.backward(run, harness.array(problem.d_output), d_state, window)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@on_every_backend()
def test_tokens_are_one_hot_vectors(case, harness, dtype):
    case, harness = case_of(case), harness.at(dtype)
    run, got = by_tokens(case, harness)
    want_run, want = by_one_hot_vectors(case)
    tolerance = between_backends(dtype, case.T)
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    parameters = {name: dense(g) for name, g in got.parameters.items()}
    assert_all_close(harness.hosts(parameters), want.parameters, tolerance)
    assert got.input is None
    for part, want_part in zip(got.state, want.state, strict=True):
        assert_close(harness.host(part), want_part, tolerance, "state")


@pytest.mark.parametrize("window", [None, 1])
@each_case
def test_in_every_network(case, window):
    case = case_of(case)
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    run = net.forward(TOKENS, problem.state)
    got = net.backward(run, problem.d_output, problem.d_state, window)
    want_run, want = by_one_hot_vectors(case, window)
    assert_close(run.output, want_run.output, FLOAT64)
    parameters = {name: dense(g) for name, g in got.parameters.items()}
    assert_all_close(parameters, want.parameters, FLOAT64)
    assert_close(got.state, want.state, FLOAT64)


def test_the_gradient_holds_the_words_seen_and_no_others(harness):
    case = case_of(row_of("elman-tanh"))
    _, got = by_tokens(case, harness)
    g = got.parameters["weight_ih_l0"]
    assert isinstance(g, SparseGradient)
    assert (g.shape, g.axis) == ((case.H, VOCABULARY), 1)
    assert harness.backend.to_numpy(g.indices).tolist() == [0, 1, 2, 5]
    assert harness.host(g.values).shape == (case.H, 4)


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_any_integers_do(harness, dtype):
    case = case_of(row_of("elman-tanh"))
    net, problem = harness.net(case), case.problem()
    output, _ = net(harness.array(TOKENS.astype(dtype)))
    want, _ = net(harness.array(one_hot(TOKENS)))
    assert_close(harness.host(output), harness.host(want), FLOAT64)
    target = harness.array(problem.target)
    _, got = net.value_and_grad(harness.array(TOKENS.astype(dtype)), target)
    _, want = net.value_and_grad(harness.array(one_hot(TOKENS)), target)
    assert_close(
        harness.host(dense(got.parameters["weight_ih_l0"])),
        harness.host(want.parameters["weight_ih_l0"]),
        FLOAT64,
    )


def test_an_empty_batch(harness):
    case = case_of(row_of("elman-tanh")).but(B=0)
    net, problem = harness.net(case), case.problem()
    value, gradient = net.value_and_grad(
        harness.array(TOKENS[:, :0]), harness.array(problem.target)
    )
    assert harness.host(value) == 0
    whole = gradient.parameters["weight_ih_l0"].to_dense()
    assert harness.host(whole).tolist() == np.zeros((case.H, VOCABULARY)).tolist()
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
    if has_recurrent_matrix(case.cell):
        assert_close(got.weights.U, want.weights.U, FLOAT64)


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.05, "clip_value": 0.01, "window": 1}],
    ids=["plain", "clipped"],
)
@pytest.mark.parametrize(
    "sgd", [SGD(0.5), SGD(0.5, momentum=0.5, nesterov=True)], ids=["plain", "momentum"]
)
def test_training_on_tokens_is_training_on_one_hot_vectors(harness, sgd, options):
    case = case_of(row_of("elman-tanh"))
    target = case.problem().target
    net, twin = harness.net(case), case.make(dtype="float64")
    twin.parameters = case.parameters()
    data = [(TOKENS, target), (TOKENS[::-1], target)]
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
        (TOKENS - 1, ValueError, r"x\[0, 1\] is -1: expected 0 to 6 \(padding"),
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
