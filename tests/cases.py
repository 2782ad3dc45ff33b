"""The one table of cases: a new cell is tested everywhere by one row of ``CELLS``.

Shapes: T steps, B sequences, I inputs, H hidden units, O outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import pytest
import torch

from tests.gated import Gated
from xprnn import RNN, Weights
from xprnn.cells import Cell, Elman

Tensors: TypeAlias = tuple[torch.Tensor, ...]
Formula: TypeAlias = Callable[[Weights, torch.Tensor, Tensors], Any]


class Problem(NamedTuple):
    """Host arrays in float64, nothing in them zero: input, state, target and outer gradients."""

    x: np.ndarray
    state: tuple[np.ndarray, ...]
    target: np.ndarray
    d_output: np.ndarray
    d_state: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Case:
    """A network and its judge.

    Attributes
    ----------
    step : callable
        ``step(weights, x (B, I), state) -> state`` in torch, written without looking at the cell's
        own code: the judge.
    kink : callable or None
        Of a cell that can't be differentiated everywhere: the tensor that must stay away from zero.
    """

    id: str
    cell: Cell
    step: Formula
    kink: Formula | None = None
    T: int = 4
    B: int = 3
    I: int = 2  # noqa: E741
    H: int = 5
    O: int | None = 2  # noqa: E741
    bias: bool = True
    returns: str = "sequence"

    def make(self, **options: Any) -> RNN:
        """Return the network."""
        return RNN(
            self.I,
            self.H,
            self.O,
            cell=self.cell,
            bias=self.bias,
            returns=self.returns,
            **options,
        )

    def parameters(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return host weights in float64."""
        return dict(self.make(dtype="float64", rng=seed).parameters)

    def problem(self, seed: int = 0) -> Problem:
        """Return data for the network."""
        rng = np.random.default_rng([seed, 1])
        size = self.H if self.O is None else self.O
        output = (self.B, size) if self.returns == "last" else (self.T, self.B, size)
        state = [(1, self.B, self.H)] * len(self.cell.state)
        return Problem(
            rng.normal(size=(self.T, self.B, self.I)),
            tuple(rng.normal(size=shape) for shape in state),
            rng.normal(size=output),
            rng.normal(size=output),
            tuple(rng.normal(size=shape) for shape in state),
        )

    def but(self, **changes: Any) -> Self:
        """Return the case with other sizes or options."""
        return replace(self, **changes)


def _sum(w: Weights, x: torch.Tensor, state: Tensors) -> torch.Tensor:
    z = x @ w.W.T + state[0] @ w.U.T
    return z if w.b is None else z + w.b


def _elman(activation: Callable[[torch.Tensor], torch.Tensor]) -> Formula:
    return lambda w, x, state: (activation(_sum(w, x, state)),)


def _gated(w: Weights, x: torch.Tensor, state: Tensors) -> Tensors:
    u, v = x @ w.W.T, state[0] @ w.U.T
    u = u if w.b is None else u + w.b
    (u_1, u_2), (v_1, v_2) = u.chunk(2, dim=-1), v.chunk(2, dim=-1)
    c = torch.tanh(u_1 + state[1] * v_1)
    return c * (u_2 + v_2) + 0.5 * state[0], c


CELLS = (
    Case("elman-tanh", Elman("tanh"), _elman(torch.tanh)),
    Case("elman-logistic", Elman("logistic"), _elman(torch.sigmoid)),
    Case("elman-relu", Elman("relu"), _elman(torch.relu), kink=_sum),
    Case("elman-identity", Elman("identity"), _elman(lambda z: z)),
    Case("custom-gated", Gated(), _gated),
)
"""One row a cell: sequence to sequence, with bias and readout."""

_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-nobias": {"bias": False},
    "-noreadout": {"O": None},
    "-nobias-noreadout": {"bias": False, "O": None},
}

CASES = tuple(
    row.but(id=row.id + words + ending, returns=returns, **changes)
    for row in CELLS
    for words, changes in _VARIANTS.items()
    for returns, ending in (("sequence", ""), ("last", "-last"))
)
"""Every cell, with and without bias and readout, returning all outputs or the last."""

each_cell = pytest.mark.parametrize("case", CELLS, ids=lambda case: case.id)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
