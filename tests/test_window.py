"""Windowed truncation: every loss reaches back through exactly k steps, and no further."""

from itertools import pairwise

import numpy as np
import pytest

from tests.cases import each_case, each_cell, row_of
from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close
from tests.harness import on_every_backend
from tests.judge import TORCH, leaf, unrolled
from tests.optional import optional
from tests.test_unroll import Leaky, by_name, each, material, named
from xprnn import RNN, fit, unroll, unroll_backward
from xprnn.losses import SquaredError
from xprnn.optim import SGD

torch = optional("torch")

WINDOWS = pytest.mark.parametrize("window", [0, 1, 2, 4, 5, 99])


def nested_loops(case, arrays, outer, window: int) -> dict[str, np.ndarray]:
    """Return the truncated gradient by its definition: one run of torch per step's loss.

    For the loss of step t the states before step t - window are constants; the initial state is a
    variable if the window includes the first step.
    """
    (weights, x, state), (dh, d_state) = arrays, outer
    w, x, state = each(leaf, weights), leaf(x), tuple(map(leaf, state))
    leaves = by_name(case, w) | {"x": x} | dict(zip(case.cell.state, state, strict=True))
    total = {name: np.zeros(tuple(a.shape)) for name, a in leaves.items()}
    steps = x.shape[0]
    before = [state]
    with torch.no_grad():
        for x_t in x:
            before.append(case.step(TORCH, w, x_t, before[-1]))
    for t in range(steps):
        start = max(0, t - window)
        at_start = state if start == 0 else before[start]
        h, end = unrolled(case, w, x[start : t + 1], at_start)
        goal = (h[-1] * torch.tensor(dh[t])).sum()
        if t == steps - 1:
            goal = goal + sum(
                (s * torch.tensor(d)).sum() for s, d in zip(end, d_state, strict=True)
            )
        found = torch.autograd.grad(goal, list(leaves.values()), allow_unused=True)
        for name, d in zip(leaves, found, strict=True):
            total[name] += 0 if d is None else d.numpy()
    return total


@WINDOWS
@pytest.mark.parametrize("bias", [True, False])
@each_cell
def test_against_the_definition(case, bias, window):
    case = case.but(T=6, bias=bias)
    weights, x, state, dh, d_state = material(case)
    _, _, tape = unroll(case.cell, weights, x, state)
    got = unroll_backward(case.cell, weights, tape, dh, d_state, window=window)
    want = nested_loops(case, (weights, x, state), (dh, d_state), window)
    assert_all_close(named(case, got), want, AUTOGRAD)


@each_cell
def test_windows_differ_until_they_hold_everything(case):
    case = case.but(T=6)
    weights, x, state, dh, d_state = material(case)
    _, _, tape = unroll(case.cell, weights, x, state)
    W = [
        unroll_backward(case.cell, weights, tape, dh, d_state, window=window).weights.W
        for window in (0, 1, 2, 3, 4, 5, 6, None)
    ]
    assert all(np.max(np.abs(a - b)) > 1e-6 for a, b in pairwise(W[:6]))
    assert_close(W[5], W[7], 0.0)
    assert_close(W[6], W[7], 0.0)


@pytest.mark.parametrize("outer", ["dh", "d_state"])
def test_one_gradient_may_be_left_out(outer):
    case = row_of("elman-tanh").but(T=6)
    weights, x, state, dh, d_state = material(case)
    _, _, tape = unroll(case.cell, weights, x, state)
    zeros = np.zeros_like(dh), tuple(np.zeros_like(part) for part in d_state)
    given = (None, d_state) if outer == "d_state" else (dh, None)
    full = (zeros[0], d_state) if outer == "d_state" else (dh, zeros[1])
    got = unroll_backward(case.cell, weights, tape, *given, window=2)
    want = unroll_backward(case.cell, weights, tape, *full, window=2)
    assert_all_close(named(case, got), named(case, want), 0.0)


@on_every_backend()
def test_every_backend_agrees_with_numpy(case, harness):
    problem = case.problem()
    net = harness.net(case)
    run = net.forward(harness.array(problem.x), harness.arrays(problem.state))
    d_output, d_state = harness.array(problem.d_output), harness.arrays(problem.d_state)
    gradient = net.backward(run, d_output, d_state, window=1)
    twin = case.make(dtype="float64")
    twin.parameters = case.parameters()
    want_run = twin.forward(problem.x, problem.state)
    want = twin.backward(want_run, problem.d_output, problem.d_state, window=1)
    assert_all_close(harness.hosts(gradient.parameters), want.parameters, FLOAT64)
    assert_close(harness.host(gradient.input), want.input, FLOAT64, "input")
    for got, part in zip(gradient.state, want.state, strict=True):
        assert_close(harness.host(got), part, FLOAT64, "state")


@each_case
def test_the_network_truncates_its_layer(case):
    """The window truncates the layer's gradient, and never the readout's."""
    case = case.but(T=6)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state)
    full = net.backward(run, problem.d_output, problem.d_state)
    cut = net.backward(run, problem.d_output, problem.d_state, window=1)
    for name in net.parameters:
        if name.startswith("readout"):
            assert_close(cut.parameters[name], full.parameters[name], 0.0)
        elif case.returns == "sequence":
            assert np.max(np.abs(cut.parameters[name] - full.parameters[name])) > 1e-6
    reached = np.any(cut.input != 0, axis=(1, 2))
    last_only = case.returns == "last"
    assert reached.tolist() == [not last_only] * 4 + [True] * 2


def test_value_and_grad_and_training_take_a_window():
    case = row_of("elman-tanh").but(T=6)
    problem = case.problem()
    net, twin = (case.make(dtype="float64", rng=0) for _ in range(2))
    value, cut = net.value_and_grad(problem.x, problem.target, window=2)
    whole_value, full = net.value_and_grad(problem.x, problem.target)
    assert value == whole_value
    assert np.any(cut.parameters["weight_hh_l0"] != full.parameters["weight_hh_l0"])

    run = twin.forward(problem.x)
    _, d_output = SquaredError().value_and_grad(run.output, problem.target)
    want = twin.backward(run, d_output, window=2)
    assert_all_close(cut.parameters, want.parameters, FLOAT64)

    fit(net, (problem.x, problem.target), optimizer=SGD(0.1), window=2)
    moved = {name: p - 0.1 * want.parameters[name] for name, p in twin.parameters.items()}
    assert_all_close(dict(net.parameters), moved, FLOAT64)


def test_a_cell_that_saves_nothing():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    x, dh = rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 3))
    _, _, tape = unroll(Leaky(), weights, x)
    cut = unroll_backward(Leaky(), weights, tape, dh, window=0)
    # With a window of 0 each loss reaches its own step only.
    assert_close(cut.weights.W, np.einsum("tbh,tbi->hi", dh, x), FLOAT64)
    assert_close(cut.x, dh @ weights[0], FLOAT64)


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (-1, ValueError, "window is -1: expected 0 or more steps, or None"),
        (1.0, TypeError, r"window is 1\.0: expected an int, or None for no truncation"),
        (True, TypeError, "window is True: expected an int, or None"),
        ("2", TypeError, "window is '2': expected an int, or None"),
    ],
)
def test_what_is_no_window(window, error, message):
    net, x, y = RNN(2, 3, 1, dtype="float64", rng=0), np.ones((4, 3, 2)), np.ones((4, 3, 1))
    weights = tuple(net.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0"))
    _, _, tape = unroll("elman", weights, x)
    for use in (
        lambda: net.backward(net.forward(x), y, window=window),
        lambda: net.value_and_grad(x, y, window=window),
        lambda: fit(net, (x, y), window=window),
        lambda: unroll_backward("elman", weights, tape, None, window=window),
    ):
        with pytest.raises(error, match=message):
            use()
