"""What is right: a case's formula, differentiated by torch, by JAX, and by finite differences.

The network here knows nothing of the library's: sequences that end early are run by themselves, up
to their own ends, and a reversed direction reads its sequence backwards, step by step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.cases import Case, Problem
from tests.optional import optional
from tests.steps import Tensor, Tensors, Words
from xprnn import Run, Weights
from xprnn.cells import Cell, has_layer_norm, unit_names

torch = optional("torch")
jax = optional("jax")
jnp = optional("jax.numpy")


def later(library: Any, name: str) -> Callable[..., Any]:
    """Return a function that looks another one up when it is called: the library may be missing."""

    def function(*arguments: Any) -> Any:
        return getattr(library, name)(*arguments)

    return function


TORCH = Words(
    later(torch, "tanh"),
    later(torch, "sigmoid"),
    later(torch, "relu"),
    later(torch, "exp"),
    later(torch, "log"),
    later(torch, "where"),
    later(torch, "stack"),
    lambda parts: torch.cat(parts, dim=-1),
    lambda a, n: a.chunk(n, dim=-1),
    lambda a: a.flip(0),
)
JAX = Words(
    later(jnp, "tanh"),
    later(optional("jax.nn"), "sigmoid"),
    later(optional("jax.nn"), "relu"),
    later(jnp, "exp"),
    later(jnp, "log"),
    later(jnp, "where"),
    later(jnp, "stack"),
    lambda parts: jnp.concatenate(parts, axis=-1),
    lambda a, n: jnp.split(a, n, axis=-1),
    lambda a: a[::-1],
)


class Verdict(NamedTuple):
    """Host arrays in float64; of an input of integers None."""

    output: np.ndarray
    state: tuple[np.ndarray, ...]
    d_parameters: dict[str, np.ndarray]
    d_input: np.ndarray | None
    d_state: tuple[np.ndarray, ...]


class Masks(NamedTuple):
    """Dropout masks, as tensors of torch; empty where there is no dropout.

    Attributes
    ----------
    between : tuple
        Below every layer but the first, (T, B, H·D).
    recurrent : tuple
        Of every layer in every direction, (B, H).
    """

    between: Tensors = ()
    recurrent: Tensors = ()


def as_it_is(state: Tensors) -> Tensors:
    return state


def layer_weights(cell: Cell, p: Mapping[str, Any], ending: str = "_l0") -> Weights:
    """Return what one layer of a network has in one direction."""
    norms = ("norm_ih", "norm_hh") if has_layer_norm(cell) else ()
    return Weights(
        p[f"weight_ih{ending}"],
        p.get(f"weight_hh{ending}"),
        p.get(f"bias{ending}"),
        tuple(p.get(f"{name}{ending}") for name in unit_names(cell)),
        tuple(p[f"{name}{ending}"] for name in norms),
    )


def unrolled(
    case: Case,
    w: Weights,
    x: Tensor,
    state: Tensors,
    m: Words = TORCH,
    carry: Callable[[Tensors], Tensors] = as_it_is,
) -> tuple[Tensor, Tensors]:
    """Return every step's h (T, B, H), and the final state.

    ``carry`` is what happens to a state on its way from one step to the next.
    """
    steps = []
    for t, x_t in enumerate(x):
        state = case.step(m, w, x_t, carry(state) if t else state)
        steps.append(state[0])
    return m.stack(steps), state


class Network(NamedTuple):
    """A case with parameters, in torch's words or in JAX's."""

    case: Case
    parameters: Mapping[str, Tensor]
    masks: Masks = Masks()
    m: Words = TORCH
    carry: Callable[[Tensors], Tensors] = as_it_is

    def stack(self) -> Iterator[tuple[int, str]]:
        """Iterate over layers and endings of names, in the order of the state's first axis."""
        for layer in range(self.case.layers):
            yield layer, f"_l{layer}"
            if self.case.bidirectional:
                yield layer, f"_l{layer}_reverse"

    def run(self, x: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """Return output and final state; x (T, B, I) or (T, B), each state (layers·D, B, H)."""
        if self.case.lengths is None and not self.masks.recurrent:
            return self.together(x, state, slice(None))
        steps, batch = x.shape[:2]
        outputs, finals = [], []
        for b, length in enumerate(self.case.lengths or [steps] * batch):
            mine = slice(b, b + 1)
            y, final = self.together(x[:length, mine], tuple(s[:, mine] for s in state), mine)
            if self.case.returns == "sequence":
                y = torch.cat([y, torch.zeros(steps - length, *y.shape[1:], dtype=y.dtype)])
            outputs.append(y)
            finals.append(final)
        return torch.cat(outputs, dim=-2), tuple(
            torch.cat(parts, dim=1) for parts in zip(*finals, strict=True)
        )

    def together(self, x: Tensor, state: Tensors, members: slice) -> tuple[Tensor, Tensors]:
        """Run some of the sequences, all of one length."""
        case, p, m = self.case, self.parameters, self.m
        if case.embedding_size is not None:
            x = p["embedding.weight"][x]
        finals: list[Tensors] = []
        h: list[Tensor] = []
        for k, (layer, ending) in enumerate(self.stack()):
            w, turn = layer_weights(case.cell, p, ending), as_it_is
            if ending.endswith("_reverse"):
                turn = m.turn
            elif layer:
                x, h = m.join(h), []
                if self.masks.between:
                    x = x * self.masks.between[layer - 1][: x.shape[0], members]
            if self.masks.recurrent:
                # A unit that is dropped is a column of zeros, of a U of the sequence's own.
                w = w._replace(U=w.U * self.masks.recurrent[k][members])
            first = tuple(part[k] for part in state)
            steps, final = unrolled(case, w, turn(x), first, m, self.carry)
            h.append(turn(steps))
            finals.append(final)
        if case.returns == "last":
            h = [final[0] for final in finals[-2 if case.bidirectional else -1 :]]
        y = m.join(h)
        if case.O is not None:
            y = y @ p["embedding.weight" if case.tied else "readout.weight"].T
            if case.bias:
                y = y + p["readout.bias"]
        return y, tuple(m.stack(parts) for parts in zip(*finals, strict=True))


def masks_of(run: Run) -> Masks:
    """Return the masks that a forward pass has drawn."""
    between = tuple(torch.tensor(m) for m in run.tape.masks if m is not None)
    recurrent = [tape.recurrent.mask for tape in run.tape.layers]
    return Masks(between, tuple(torch.tensor(m) for m in recurrent if m is not None))


def judge(
    case: Case,
    parameters: Mapping[str, np.ndarray],
    problem: Problem,
    objective: Callable[[Tensor], Tensor] | None = None,
    *,
    masks: Masks = Masks(),  # noqa: B008
    carry: Callable[[Tensors], Tensors] = as_it_is,
) -> Verdict:
    """Let torch differentiate Σ y·d_output + Σ s·d_state, or an objective of the output."""
    p = {name: leaf(array) for name, array in parameters.items()}
    floats = case.embedding_size is None
    x = leaf(problem.x) if floats else torch.tensor(problem.x)
    state = tuple(leaf(part) for part in problem.state)
    y, final = Network(case, p, masks, carry=carry).run(x, state)
    if objective is None:
        pairs = zip((y, *final), (problem.d_output, *problem.d_state), strict=True)
        goal = sum((a * torch.tensor(d)).sum() for a, d in pairs)
    else:
        goal = objective(y)
    leaves = [*state, *p.values(), *([x] if floats else [])]
    arrays = [d.numpy() for d in torch.autograd.grad(goal, leaves)]
    return Verdict(
        y.detach().numpy(),
        tuple(part.detach().numpy() for part in final),
        dict(zip(p, arrays[len(state) :], strict=not floats)),
        arrays[-1] if floats else None,
        tuple(arrays[: len(state)]),
    )


def judge_by_jax(case: Case, parameters: Mapping[str, np.ndarray], problem: Problem) -> Verdict:
    """Let JAX differentiate Σ y·d_output + Σ s·d_state, of a case without lengths."""
    jax.config.update("jax_enable_x64", True)

    def goal(p: dict[str, Tensor], x: Tensor, state: Tensors) -> tuple[Tensor, Any]:
        y, final = Network(case, p, m=JAX).run(x, state)
        pairs = zip((y, *final), (problem.d_output, *problem.d_state), strict=True)
        return sum((a * d).sum() for a, d in pairs), (y, final)

    p, x, state = jax.tree.map(jnp.asarray, (dict(parameters), problem.x, problem.state))
    gradient, (y, final) = jax.grad(goal, argnums=(0, 1, 2), has_aux=True)(p, x, state)
    d_parameters, d_x, d_state = jax.tree.map(np.asarray, gradient)
    return Verdict(np.asarray(y), tuple(map(np.asarray, final)), d_parameters, d_x, d_state)


def distance_from_kink(
    case: Case,
    parameters: Mapping[str, np.ndarray],
    problem: Problem,
    masks: Masks = Masks(),  # noqa: B008
) -> float:
    """Return how near any argument of a kinked function comes to zero; infinity without one."""
    nearest = [np.inf]
    if case.kink is not None:

        def noting(*arguments: Any) -> Any:
            nearest.append(float(case.kink(*arguments).abs().min()))
            return case.step(*arguments)

        p = {name: torch.tensor(array) for name, array in parameters.items()}
        state = tuple(map(torch.tensor, problem.state))
        Network(case.but(step=noting), p, masks).run(torch.tensor(problem.x), state)
    return min(nearest)


def leaf(array: np.ndarray) -> Tensor:
    """Return a float64 tensor that torch differentiates by."""
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


SECOND_ORDER = (1 / 2,)
FOURTH_ORDER = (2 / 3, -1 / 12)
"""Weights of (f(kh) - f(-kh)) / h, k = 1, 2, ...; the cut-off is of order h² and h⁴."""


def central_differences(
    goal: Callable[[], float],
    arrays: Sequence[np.ndarray],
    step: float = 1e-5,
    weights: Sequence[float] = SECOND_ORDER,
) -> list[np.ndarray]:
    """Return the gradient of ``goal()`` by arrays that it reads; each entry is moved both ways."""
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            held = array[index]
            for k, weight in enumerate(weights, start=1):
                array[index] = held + k * step
                above = goal()
                array[index] = held - k * step
                below = goal()
                gradient[index] += weight * (above - below) / step
            array[index] = held
        gradients.append(gradient)
    return gradients
