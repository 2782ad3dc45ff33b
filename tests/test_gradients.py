"""Every gradient of every case: by finite differences, by torch, and on every backend.

Of one layer; `tests.test_layers` goes on from there.
"""

import numpy as np
import pytest

from tests.cases import CASES, CELLS, FEW, each_case, each_cell, each_form, in_full
from tests.closeness import (
    AUTOGRAD,
    DIFFERENCES,
    DIFFERENCES_FLOOR,
    assert_all_close,
    assert_close,
    between_backends,
)
from tests.harness import on_every_backend
from tests.judge import central_differences, distance_from_kink, judge, judge_by_jax
from tests.optional import optional
from tests.passes import all_of, on_backend, on_numpy
from xprnn import losses

torch = optional("torch")


def test_the_cases_are_hard_enough():
    assert all(case.T >= 3 and case.B >= 2 for case in CASES)
    for case in CASES:
        assert len({case.T, case.B, case.I, case.H}) == 4, "a mixed-up axis must change a shape"
        assert all(np.all(part != 0) for part in case.problem().state)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.kink is not None], ids=lambda case: case.id
)
def test_data_stay_away_from_a_kink(case):
    # Farther than a finite difference moves any argument.
    assert distance_from_kink(case, case.parameters(), case.problem()) > 1e-3


@each_case
def test_against_finite_differences(case):
    net = case.make(dtype="float64")
    net.parameters = {name: array.copy() for name, array in case.parameters().items()}
    problem = case.problem()

    def goal() -> float:
        y, state = net(problem.x, problem.state)
        return float(
            np.sum(y * problem.d_output)
            + sum(np.sum(s * d) for s, d in zip(state, problem.d_state, strict=True))
        )

    names = [*net.parameters, "input", *(f"state {name}" for name in case.cell.state)]
    moved = [*net.parameters.values(), problem.x, *problem.state]
    want = dict(zip(names, central_differences(goal, moved), strict=True))
    assert_all_close(on_numpy(case)[1], want, DIFFERENCES, DIFFERENCES_FLOOR)


@each_form
def test_against_autograd(case):
    run, gradients = on_numpy(case)
    verdict = judge(case, case.parameters(), case.problem())
    assert_close(run.output, verdict.output, AUTOGRAD, "output")
    assert_close(run.state, verdict.state, AUTOGRAD, "state")
    assert_all_close(gradients, all_of(verdict, case.cell), AUTOGRAD)


@pytest.mark.parametrize("case", in_full(CELLS, but=FEW))
def test_against_grad_of_jax(case):
    run, gradients = on_numpy(case)
    verdict = judge_by_jax(case, case.parameters(), case.problem())
    assert_close(run.output, verdict.output, AUTOGRAD, "output")
    assert_close(run.state, verdict.state, AUTOGRAD, "state")
    assert_all_close(gradients, all_of(verdict, case.cell), AUTOGRAD)


def agrees_with_numpy(case, harness):
    run, gradients = on_backend(case, harness)
    want_run, want = on_numpy(case)
    tolerance = between_backends(harness.dtype, case.T)
    # `host` looks at namespace, device and dtype first, `assert_close` at the shape.
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    for got, part in zip(run.state, want_run.state, strict=True):
        assert_close(harness.host(got), part, tolerance, "state")
    assert_all_close(gradients, want, tolerance)


@on_every_backend(CASES, on_jax=CELLS)
def test_every_backend_agrees_with_numpy(case, harness):
    agrees_with_numpy(case, harness)


@on_every_backend()
def test_every_backend_agrees_in_single_precision(case, harness):
    agrees_with_numpy(case, harness.at("float32"))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@each_case
def test_value_and_grad_against_autograd(case, reduction):
    problem = case.problem()
    net = case.make(dtype="float64")
    net.parameters = case.parameters()
    value, gradient = net.value_and_grad(
        problem.x, problem.target, losses.SquaredError(reduction), problem.state
    )
    reduce = torch.mean if reduction == "mean" else torch.sum

    def objective(y: torch.Tensor) -> torch.Tensor:
        return reduce(0.5 * (y - torch.tensor(problem.target)) ** 2)

    verdict = judge(case, case.parameters(), problem, objective)
    assert float(value) == pytest.approx(
        float(objective(torch.tensor(verdict.output))), rel=AUTOGRAD
    )
    assert_all_close(gradient.parameters, verdict.d_parameters, AUTOGRAD)
    assert_close(gradient.input, verdict.d_input, AUTOGRAD)
    for got, want in zip(gradient.state, verdict.d_state, strict=True):
        assert_close(got, want, AUTOGRAD)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@on_every_backend()
def test_value_and_grad_on_every_backend(case, harness, dtype):
    harness = harness.at(dtype)
    problem = case.problem()
    value, gradient = harness.net(case).value_and_grad(
        harness.array(problem.x),
        harness.array(problem.target),
        state=harness.arrays(problem.state),
    )
    net = case.make(dtype="float64")
    net.parameters = case.parameters()
    want_value, want = net.value_and_grad(problem.x, problem.target, state=problem.state)
    tolerance = between_backends(dtype, case.T)
    assert_close(harness.host(value), want_value, tolerance, "value")
    assert_all_close(harness.hosts(gradient.parameters), want.parameters, tolerance)
    assert_close(harness.host(gradient.input), want.input, tolerance, "input")


@each_cell
def test_no_state_gradient_means_a_zero_one(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state)
    zeros = tuple(np.zeros_like(part) for part in problem.d_state)
    left_out = net.backward(run, problem.d_output)
    given = net.backward(run, problem.d_output, zeros)
    assert_all_close(left_out.parameters, given.parameters, 0.0)
    assert_close(left_out.input, given.input, 0.0)


@each_cell
def test_no_state_means_a_zero_one(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    zeros = tuple(np.zeros_like(part) for part in problem.state)
    left_out, given = net.forward(problem.x), net.forward(problem.x, zeros)
    assert_close(left_out.output, given.output, 0.0)
    assert_close(
        net.backward(left_out, problem.d_output).input,
        net.backward(given, problem.d_output).input,
        0.0,
    )


@each_cell
def test_backward_twice_gives_the_same(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state)
    first = net.backward(run, problem.d_output, problem.d_state)
    second = net.backward(run, problem.d_output, problem.d_state)
    assert_all_close(first.parameters, second.parameters, 0.0)
    assert_close(first.state, second.state, 0.0)
