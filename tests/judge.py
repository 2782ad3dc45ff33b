"""What is right: a case's formula, differentiated by torch, by JAX, and by finite differences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from tests.cases import Case, Problem
from tests.steps import JAX, TORCH, Tensor, Tensors, Words
from xprnn.cells import Cell, has_layer_norm, unit_names
from xprnn.layer import ExtendedWeights


class Verdict(NamedTuple):
    """Host arrays in float64."""

    output: np.ndarray
    state: tuple[np.ndarray, ...]
    d_parameters: dict[str, np.ndarray]
    d_input: np.ndarray
    d_state: tuple[np.ndarray, ...]


def layer_weights(cell: Cell, p: Mapping[str, Any]) -> ExtendedWeights:
    """Return the weights of a network's first layer."""
    return ExtendedWeights(
        p["weight_ih_l0"],
        p["weight_hh_l0"],
        p.get("bias_l0"),
        tuple(p.get(f"{name}_l0") for name in unit_names(cell)),
        (p["norm_ih_l0"], p["norm_hh_l0"]) if has_layer_norm(cell) else (),
    )


def unrolled(
    case: Case, w: ExtendedWeights, x: Tensor, state: Tensors, m: Words = TORCH
) -> tuple[Tensor, Tensors]:
    """Return every step's h (T, B, H), and the final state."""
    steps = []
    for x_t in x:
        state = case.step(m, w, x_t, state)
        steps.append(state[0])
    return m.stack(steps), state


def outputs(
    case: Case, p: Mapping[str, Tensor], x: Tensor, state: Tensors, m: Words = TORCH
) -> tuple[Tensor, Tensors]:
    """Return the network's output, and its final state (1, B, H)."""
    w, first = layer_weights(case.cell, p), tuple(part[0] for part in state)
    y, final = unrolled(case, w, x, first, m)
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
    """Let torch differentiate Σ y·d_output + Σ s·d_state, or an objective of the output."""
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


def judge_by_jax(case: Case, parameters: Mapping[str, np.ndarray], problem: Problem) -> Verdict:
    """Let JAX differentiate Σ y·d_output + Σ s·d_state."""
    jax.config.update("jax_enable_x64", True)

    def goal(p: dict[str, Tensor], x: Tensor, state: Tensors) -> tuple[Tensor, Any]:
        y, final = outputs(case, p, x, state, JAX)
        pairs = zip((y, *final), (problem.d_output, *problem.d_state), strict=True)
        return sum((a * d).sum() for a, d in pairs), (y, final)

    p, x, state = jax.tree.map(jnp.asarray, (dict(parameters), problem.x, problem.state))
    gradient, (y, final) = jax.grad(goal, argnums=(0, 1, 2), has_aux=True)(p, x, state)
    d_parameters, d_x, d_state = jax.tree.map(np.asarray, gradient)
    return Verdict(np.asarray(y), tuple(map(np.asarray, final)), d_parameters, d_x, d_state)


def distance_from_kink(case: Case, parameters: Mapping[str, np.ndarray], problem: Problem) -> float:
    """Return how near any argument of a kinked function comes to zero; infinity without one."""
    if case.kink is None:
        return np.inf
    p = {name: torch.tensor(array) for name, array in parameters.items()}
    w = layer_weights(case.cell, p)
    state = tuple(torch.tensor(part[0]) for part in problem.state)
    nearest = np.inf
    for x_t in torch.tensor(problem.x):
        nearest = min(nearest, float(case.kink(TORCH, w, x_t, state).abs().min()))
        state = case.step(TORCH, w, x_t, state)
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
