"""A forward pass, and all of its gradients under one roof."""

from typing import Any

import numpy as np

from tests.cases import Case
from tests.judge import Verdict
from xprnn import RNN, Run
from xprnn.cells import Cell
from xprnn.engine.gradients import dense


def gradients_of(
    net: RNN, run: Run, d_output: Any, d_state: Any, window: int | None = None
) -> dict[str, Any]:
    """Return the gradients of parameters, input (unless it is integers) and state, by name."""
    gradient = net.backward(run, d_output, d_state, window)
    found = {name: dense(g) for name, g in gradient.parameters.items()}
    if gradient.input is not None:
        found["input"] = gradient.input
    return found | _states(net.cell, gradient.state)


def on_numpy(
    case: Case,
    seed: int = 0,
    *,
    window: int | None = None,
    rng: Any = None,
    recompute: bool = False,
) -> tuple[Run, dict[str, np.ndarray]]:
    """Return a case's forward pass and gradients on NumPy in float64."""
    net, problem = case.make(dtype="float64"), case.problem(seed)
    net.parameters = case.parameters(seed)
    run = net.forward(problem.x, problem.state, case.lengths, rng=rng, recompute=recompute)
    return run, gradients_of(net, run, problem.d_output, problem.d_state, window)


def on_backend(
    case: Case,
    harness: Any,
    seed: int = 0,
    *,
    window: int | None = None,
    rng: Any = None,
    recompute: bool = False,
) -> tuple[Run, dict[str, np.ndarray]]:
    """Return the same on a backend: the pass as it is, the gradients on the host."""
    net, problem = harness.net(case, seed), case.problem(seed)
    x, state = harness.array(problem.x), harness.arrays(problem.state)
    run = net.forward(x, state, case.lengths, rng=rng, recompute=recompute)
    outer = harness.array(problem.d_output), harness.arrays(problem.d_state)
    return run, harness.hosts(gradients_of(net, run, *outer, window))


def all_of(verdict: Verdict, cell: Cell) -> dict[str, np.ndarray]:
    """Return the gradients that the judge has found, by the same names."""
    found = dict(verdict.d_parameters)
    if verdict.d_input is not None:
        found["input"] = verdict.d_input
    return found | _states(cell, verdict.d_state)


def _states(cell: Cell, states: tuple[Any, ...]) -> dict[str, Any]:
    return {f"state {name}": part for name, part in zip(cell.state, states, strict=True)}
