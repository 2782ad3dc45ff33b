"""What is right: a case's formula, differentiated by torch, and by finite differences.

The network here knows nothing of the library's: sequences that end early are run by themselves, up
to their own ends, and a reversed direction reads its sequence backwards, step by step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.cases import Case, Problem
from tests.formulas import Tensors
from xprnn import Run
from xprnn.cells import has_layer_norm, unit_names
from xprnn.layer import ExtendedWeights


class Verdict(NamedTuple):
    """Host arrays in float64; of an input of integers None."""

    output: np.ndarray
    state: tuple[np.ndarray, ...]
    d_parameters: dict[str, np.ndarray]
    d_input: np.ndarray | None
    d_state: tuple[np.ndarray, ...]


class Masks(NamedTuple):
    """Dropout masks, as tensors; empty where there is no dropout.

    Attributes
    ----------
    between : tuple
        Below every layer but the first, (T, B, H·D).
    recurrent : tuple
        Of every layer in every direction, (B, H).
    """

    between: Tensors = ()
    recurrent: Tensors = ()


class Network(NamedTuple):
    """What the judge runs.

    Attributes
    ----------
    visit : callable
        ``visit(weights, x, state)``, called before every step.
    carry : callable
        What happens to a state on its way from one step to the next.
    """

    case: Case
    parameters: Mapping[str, torch.Tensor]
    masks: Masks = Masks()
    visit: Callable[..., Any] = lambda *_: None
    carry: Callable[[Tensors], Tensors] = lambda state: state

    def weights(self, suffix: str) -> ExtendedWeights:
        """Return what one layer has in one direction."""
        p, cell = self.parameters, self.case.cell
        norms = ("norm_ih", "norm_hh") if has_layer_norm(cell) else ()
        return ExtendedWeights(
            p[f"weight_ih{suffix}"],
            p[f"weight_hh{suffix}"],
            p.get(f"bias{suffix}"),
            tuple(p.get(f"{name}{suffix}") for name in unit_names(cell)),
            tuple(p[f"{name}{suffix}"] for name in norms),
        )

    def suffixes(self) -> Iterator[tuple[int, str]]:
        """Iterate over layers and endings, in the order of the state's first axis."""
        for layer in range(self.case.layers):
            yield layer, f"_l{layer}"
            if self.case.bidirectional:
                yield layer, f"_l{layer}_reverse"

    def run(self, x: torch.Tensor, state: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Return output and final state; x (T, B, I) or (T, B), each state (layers·D, B, H)."""
        outputs: list[Any] = [None] * x.shape[1]
        finals: list[Any] = [None] * x.shape[1]
        for members, length in self.groups(x):
            y, final = self.together(members, x[:length, members], state)
            missing = x.shape[0] - length
            if self.case.returns == "sequence":
                y = torch.cat([y, torch.zeros(missing, *y.shape[1:], dtype=y.dtype)])
            for k, b in enumerate(members):
                outputs[b] = y[..., k, :]
                finals[b] = tuple(part[:, k] for part in final)
        return torch.stack(outputs, dim=-2), tuple(
            torch.stack(parts, dim=1) for parts in zip(*finals, strict=True)
        )

    def groups(self, x: torch.Tensor) -> list[tuple[list[int], int]]:
        """Return which sequences can be run together, and their length."""
        steps, batch = x.shape[:2]
        lengths = self.case.lengths or (steps,) * batch
        if self.masks.recurrent:
            # Each has a U of its own.
            return [([b], n) for b, n in enumerate(lengths)]
        return [
            ([b for b, n in enumerate(lengths) if n == length], length)
            for length in sorted(set(lengths))
        ]

    def together(
        self, members: list[int], x: torch.Tensor, state: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """Run sequences of one length."""
        case, p = self.case, self.parameters
        if case.embedding_size is not None:
            x = p["embedding.weight"][x]
        finals: list[Tensors] = []
        h: list[torch.Tensor] = []
        for k, (layer, suffix) in enumerate(self.suffixes()):
            weights, backwards = self.weights(suffix), suffix.endswith("_reverse")
            if layer and not backwards:
                x, h = torch.cat(h, dim=-1), []
                if self.masks.between:
                    x = x * self.masks.between[layer - 1][: x.shape[0], members]
            if self.masks.recurrent:
                # A unit that is dropped is a column of zeros.
                weights = weights._replace(U=weights.U * self.masks.recurrent[k][members])
            steps, final = self.layer(
                weights, x.flip(0) if backwards else x, tuple(part[k, members] for part in state)
            )
            h.append(steps.flip(0) if backwards else steps)
            finals.append(final)
        if case.returns == "last":
            top = finals[-2:] if case.bidirectional else finals[-1:]
            h = [final[0] for final in top]
        y = torch.cat(h, dim=-1)
        if case.O is not None:
            y = y @ p["readout.weight"].T
            if case.bias:
                y = y + p["readout.bias"]
        return y, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def layer(
        self, weights: ExtendedWeights, x: torch.Tensor, state: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """Return every step's h, and the final state."""
        steps = []
        for t, x_t in enumerate(x):
            state = self.carry(state) if t else state
            self.visit(weights, x_t, state)
            state = self.case.step(weights, x_t, state)
            steps.append(state[0])
        return torch.stack(steps), state


def masks_of(run: Run) -> Masks:
    """Return the masks that a forward pass has drawn."""
    between = tuple(torch.tensor(m) for m in run.tape.masks if m is not None)
    recurrent = [tape.recurrent.mask for tape in run.tape.layers]
    return Masks(between, tuple(torch.tensor(m) for m in recurrent if m is not None))


def judge(
    case: Case,
    parameters: Mapping[str, np.ndarray],
    problem: Problem,
    objective: Callable[[torch.Tensor], torch.Tensor] | None = None,
    *,
    masks: Masks = Masks(),  # noqa: B008
    carry: Callable[[Tensors], Tensors] = lambda state: state,
) -> Verdict:
    """Differentiate Σ y·d_output + Σ s·d_state, or an objective of the output."""
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


def distance_from_kink(
    case: Case,
    parameters: Mapping[str, np.ndarray],
    problem: Problem,
    masks: Masks = Masks(),  # noqa: B008
) -> float:
    """Return how near any argument of a kinked function comes to zero; infinity without one."""
    nearest = [np.inf]
    if case.kink is not None:

        def note(*step: Any) -> None:
            nearest.append(float(case.kink(*step).abs().min()))

        p = {name: torch.tensor(array) for name, array in parameters.items()}
        state = tuple(map(torch.tensor, problem.state))
        Network(case, p, masks, note).run(torch.tensor(problem.x), state)
    return min(nearest)


def leaf(array: np.ndarray) -> torch.Tensor:
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
