"""The one table of cases: a new cell is tested everywhere by one row of ``CELLS``.

Shapes: T steps, B sequences, I inputs, H hidden units, O outputs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pytest

from tests import steps
from tests.gated import Gated
from tests.leaky import LeakyUnit
from xprnn import RNN
from xprnn.cells import (
    GRU,
    LSTM,
    SLSTM,
    Cell,
    Elman,
    GRUResetBefore,
    IndRNN,
    MinGRU,
    MinimalGated,
    MinLSTM,
    has_recurrent_matrix,
)


class Problem(NamedTuple):
    """Host arrays in float64, nothing in them zero: input, state, target and outer gradients.

    With an embedding the input is integers.
    """

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
    lengths : tuple of int, or None
        Of the problem's sequences.
    positive : tuple of str
        The state variables that are above zero in any run.
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
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    embedding_size: int | None = None
    tied: bool = False
    lengths: tuple[int, ...] | None = None
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not has_recurrent_matrix(self.cell):
            # It is refused: there is no U to drop anything before.
            object.__setattr__(self, "recurrent_dropout", 0.0)

    @property
    def features(self) -> int:
        """H·D."""
        return self.H * (2 if self.bidirectional else 1)

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(layers·D, B, H)."""
        return (self.layers * (2 if self.bidirectional else 1), self.B, self.H)

    def make(self, **options: Any) -> RNN:
        """Return the network."""
        return RNN(
            self.I,
            self.H,
            self.O,
            cell=self.cell,
            bias=self.bias,
            returns=self.returns,
            layers=self.layers,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            embedding_size=self.embedding_size,
            tied=self.tied,
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
        size = self.features if self.O is None else self.O
        output = (self.B, size) if self.returns == "last" else (self.T, self.B, size)
        state = [self.state_shape] * len(self.cell.state)

        def initial(name: str) -> np.ndarray:
            drawn = rng.normal(size=self.state_shape)
            return np.abs(drawn) + 0.5 if name in self.positive else drawn

        return Problem(
            rng.normal(size=(self.T, self.B, self.I))
            if self.embedding_size is None
            else rng.integers(0, self.I, (self.T, self.B)),
            tuple(initial(name) for name in self.cell.state),
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
    Case("gru-reset-before", GRUResetBefore(), steps.gru_reset_before),
    Case("lstm", LSTM(), steps.lstm),
    Case("lstm-peepholes", LSTM(peepholes=True), steps.lstm),
    Case("lstm-layer-norm", LSTM(layer_norm=True), steps.lstm),
    Case("lstm-everything", LSTM(1.0, peepholes=True, layer_norm=True), steps.lstm),
    Case("minimal-gated", MinimalGated(), steps.minimal_gated),
    Case("min-gru", MinGRU(), steps.min_gru),
    Case("min-lstm", MinLSTM(), steps.min_lstm),
    Case("ind-rnn", IndRNN(), steps.ind_rnn, kink=steps.ind_rnn_argument),
    Case("slstm", SLSTM(), steps.slstm, positive=("n",)),
    Case("custom-leaky", LeakyUnit(), steps.leaky),
    Case("custom-gated", Gated(), steps.gated),
)
"""One row a cell: sequence to sequence, with bias and readout."""


def row_of(name: str) -> Case:
    """Return the row of that name: where it stands in the table is nobody's business."""
    (case,) = (case for case in CELLS if case.id == name)
    return case


FEW = (row_of("gru"), row_of("lstm-everything"))
"""A cell whose two projections differ, and one with all that a layer can have."""

VARIANTS = ("elman-logistic", "elman-identity", "lstm-peepholes", "lstm-layer-norm", "min-lstm")
"""Rows of the same kind as others: on NumPy, and on other backends with FULL=1."""

FORMS: dict[str, dict[str, Any]] = {
    "": {},
    "-last": {"returns": "last"},
    "-nobias": {"bias": False},
    "-nobias-last": {"bias": False, "returns": "last"},
    "-noreadout": {"O": None},
    "-noreadout-last": {"O": None, "returns": "last"},
    "-nobias-noreadout": {"bias": False, "O": None},
    "-nobias-noreadout-last": {"bias": False, "O": None, "returns": "last"},
}
"""With and without bias and readout, returning all outputs or the last."""

PAIRS = ("", "-nobias-last", "-noreadout-last", "-nobias-noreadout")
"""Four of them, in which any two options meet in every way."""


def in_forms(rows: tuple[Case, ...], forms: tuple[str, ...]) -> tuple[Case, ...]:
    """Return every row in every form."""
    return tuple(row.but(id=row.id + name, **FORMS[name]) for row in rows for name in forms)


EVERY_FORM = in_forms(CELLS, tuple(FORMS))
"""Every cell in every form: for what is cheap."""

CASES = tuple(
    case
    for row in CELLS
    for case in in_forms((row,), tuple(FORMS) if row.id in ("elman-tanh", "gru") else PAIRS)
)
"""Every cell in four forms, and two of them in all eight."""


def in_full(rows: Iterable[Any], but: Iterable[Any]) -> list[Any]:
    """Return rows as parameters that are left out without FULL=1, but for some."""
    but = list(but)
    return [
        pytest.param(row, id=row.id, marks=[pytest.mark.full] * (row not in but)) for row in rows
    ]


each_cell = pytest.mark.parametrize("case", CELLS, ids=lambda case: case.id)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
each_form = pytest.mark.parametrize("case", EVERY_FORM, ids=lambda case: case.id)
