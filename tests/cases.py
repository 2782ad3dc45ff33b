"""The one table of cases: a new cell is tested everywhere by one row of ``CELLS``.

Shapes: T steps, B sequences, I inputs, H hidden units, O outputs.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pytest

from tests import steps
from tests.gated import Gated
from xprnn import RNN
from xprnn.cells import GRU, LSTM, Cell, Elman, MinimalGated


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
        The judges' copy of the cell's equations; see `tests.steps`.
    kink : callable or None
        Of a cell that can't be differentiated everywhere: the tensor that must stay away from zero.
    """

    id: str
    cell: Cell
    step: steps.Formula
    kink: steps.Formula | None = None
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
        """Return host weights in float64, no two of them alike."""
        arrays = dict(self.make(dtype="float64", rng=seed).parameters)
        rng = np.random.default_rng([seed, 2])
        # Gains are made as ones, which would hide that one is forgotten.
        return {
            name: rng.uniform(0.5, 1.5, array.shape) if name.startswith("norm_") else array
            for name, array in arrays.items()
        }

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


CELLS = (
    Case("elman-tanh", Elman("tanh"), steps.elman("tanh")),
    Case("elman-logistic", Elman("logistic"), steps.elman("sigmoid")),
    Case("elman-relu", Elman("relu"), steps.elman("relu"), kink=steps.argument),
    Case("elman-identity", Elman("identity"), steps.elman("identity")),
    Case("gru", GRU(), steps.gru),
    Case("lstm", LSTM(), steps.lstm),
    Case("lstm-peepholes", LSTM(peepholes=True), steps.lstm),
    Case("lstm-layer-norm", LSTM(layer_norm=True), steps.lstm),
    Case("minimal-gated", MinimalGated(), steps.minimal_gated),
    Case("custom-gated", Gated(), steps.gated),
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
