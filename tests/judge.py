"""What is right: a case's formula, differentiated by torch, and by finite differences."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from tests.cases import Case, Problem
from xprnn import Weights

LAYER = {"weight_ih_l0": "W", "weight_hh_l0": "U", "bias_l0": "b"}
"""A network's parameters, by their names in `Weights`."""


class Verdict(NamedTuple):
    """Host arrays in float64."""

    output: np.ndarray
    state: tuple[np.ndarray, ...]
    d_parameters: dict[str, np.ndarray]
    d_input: np.ndarray
    d_state: tuple[np.ndarray, ...]


def unrolled(
    case: Case, weights: Weights, x: torch.Tensor, state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return every step's h (T, B, H), and the final state."""
    steps = []
    for x_t in x:
        state = case.step(weights, x_t, state)
        steps.append(state[0])
    return torch.stack(steps), state


def outputs(
    case: Case, p: Mapping[str, torch.Tensor], x: torch.Tensor, state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the network's output, and its final state (1, B, H)."""
    weights = Weights(**{field: p[name] for name, field in LAYER.items() if name in p})
    y, final = unrolled(case, weights, x, tuple(part[0] for part in state))
    if case.returns == "last":
        y = y[-1]
    if case.O is not None:
        y = y @ p["readout.weight"].T
        if case.bias:
            y = y + p["readout.bias"]
    return y, tuple(part[None] for part in final)


def judge(
    case: Case,
    parameters: Mapping[str, np.ndarray],
    problem: Problem,
    objective: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Verdict:
    """Differentiate Σ y·d_output + Σ s·d_state, or an objective of the output."""
    p = {name: leaf(array) for name, array in parameters.items()}
    x, state = leaf(problem.x), tuple(leaf(part) for part in problem.state)
    y, final = outputs(case, p, x, state)
    if objective is None:
        pairs = zip((y, *final), (problem.d_output, *problem.d_state), strict=True)
        goal = sum((a * torch.tensor(d)).sum() for a, d in pairs)
    else:
        goal = objective(y)
    d_x, *d_rest = torch.autograd.grad(goal, [x, *state, *p.values()])
    arrays = [d.numpy() for d in d_rest]
    count = len(state)
    return Verdict(
        y.detach().numpy(),
        tuple(part.detach().numpy() for part in final),
        dict(zip(p, arrays[count:], strict=True)),
        d_x.numpy(),
        tuple(arrays[:count]),
    )


def distance_from_kink(case: Case, parameters: Mapping[str, np.ndarray], problem: Problem) -> float:
    """Return how near any argument of a kinked function comes to zero; infinity without one."""
    if case.kink is None:
        return np.inf
    p = {name: torch.tensor(array) for name, array in parameters.items()}
    weights = Weights(**{field: p[name] for name, field in LAYER.items() if name in p})
    state = tuple(torch.tensor(part[0]) for part in problem.state)
    nearest = np.inf
    for x_t in torch.tensor(problem.x):
        nearest = min(nearest, float(case.kink(weights, x_t, state).abs().min()))
        state = case.step(weights, x_t, state)
    return nearest


def leaf(array: np.ndarray) -> torch.Tensor:
    """Return a float64 tensor that torch differentiates by."""
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def central_differences(
    goal: Callable[[], float], arrays: Sequence[np.ndarray], step: float = 1e-5
) -> list[np.ndarray]:
    """Return the gradient of ``goal()`` by arrays that it reads; each entry is moved both ways."""
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            held = array[index]
            array[index] = held + step
            above = goal()
            array[index] = held - step
            below = goal()
            array[index] = held
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients
