"""What reaches every state, by others: torch's gradient of each h(t), and finite differences."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.cases import Case, Problem
from tests.judge import Masks, Network, leaf
from tests.optional import optional
from tests.steps import Tensor, Tensors

torch = optional("torch")


class Noting:
    """A case's step that notes every h, and adds to one of them.

    Attributes
    ----------
    h : list of tensor
        In the order of the calls.
    at : (int, tensor), optional
        To which h, by its number, what is added.
    """

    def __init__(self, case: Case, at: tuple[int, Tensor] | None = None) -> None:
        self.step, self.at = case.step, at
        self.h: list[Tensor] = []

    def __call__(self, m: Any, w: Any, x: Tensor, state: Tensors) -> Tensors:
        h, *others = self.step(m, w, x, state)
        if self.at is not None and self.at[0] == len(self.h):
            h = h + self.at[1]
        self.h.append(h)
        return (h, *others)


def calls(case: Case, masks: Masks) -> Iterator[tuple[int, int, slice]]:
    """Iterate over layer and direction, step, and sequences of the steps in order of the calls."""
    apart = case.lengths is not None or masks.recurrent
    groups = [(case.T, slice(None))]
    if apart:
        lengths = case.lengths or (case.T,) * case.B
        groups = [(length, slice(b, b + 1)) for b, length in enumerate(lengths)]
    for length, members in groups:
        for k in range(case.state_shape[0]):
            reverse = case.bidirectional and k % 2
            for t in range(length):
                yield k, length - 1 - t if reverse else t, members


def by_torch(
    case: Case,
    parameters: Any,
    problem: Problem,
    d_output: np.ndarray,
    masks: Masks = Masks(),  # noqa: B008
) -> np.ndarray:
    """Return ∂(Σ y·d_output + Σ s·d_state)/∂h(t), (layers·D, T, B, H)."""
    p = {name: leaf(array) for name, array in parameters.items()}
    floats = case.embedding_size is None
    x = leaf(problem.x) if floats else torch.tensor(problem.x)
    noting = Noting(case)
    y, final = Network(case.but(step=noting), p, masks).run(x, tuple(map(leaf, problem.state)))
    pairs = zip((y, *final), (d_output, *problem.d_state), strict=True)
    goal = sum((a * torch.tensor(d)).sum() for a, d in pairs)
    found = torch.autograd.grad(goal, noting.h, allow_unused=True)
    dh = np.zeros((case.state_shape[0], case.T, case.B, case.H))
    for (k, t, members), d in zip(calls(case, masks), found, strict=True):
        if d is not None:
            dh[k, t, members] = d.numpy()
    return dh


def by_differences(case: Case, parameters: Any, problem: Problem, step: float = 1e-6) -> np.ndarray:
    """Return the same of L = ½ Σ (y - target)², by adding ±step to one entry of one h(t)."""
    p = {name: torch.tensor(array) for name, array in parameters.items()}
    x, target = torch.tensor(problem.x), torch.tensor(problem.target)

    def loss(call: int, change: Tensor) -> float:
        network = Network(case.but(step=Noting(case, (call, change))), p)
        y, _ = network.run(x, tuple(map(torch.tensor, problem.state)))
        return float(((y - target) ** 2).sum() / 2)

    dh = np.zeros((case.state_shape[0], case.T, case.B, case.H))
    for call, (k, t, members) in enumerate(calls(case, Masks())):
        for b in range(case.B)[members]:
            for i in range(case.H):
                change = torch.zeros(case.B, case.H, dtype=torch.float64)
                change[b, i] = step
                change = change[members]
                dh[k, t, b, i] = (loss(call, change) - loss(call, -change)) / (2 * step)
    return dh
