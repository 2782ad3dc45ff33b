"""Recurrent cells: one file per cell, with its equations and their derivatives."""

from dataclasses import asdict, fields
from typing import Any, cast

from xprnn import checks
from xprnn.backend.host.quoting import quoted
from xprnn.cells.activations import ACTIVATIONS, Activation
from xprnn.cells.elman import Elman
from xprnn.cells.gru import GRU
from xprnn.cells.gru_reset_before import GRUResetBefore
from xprnn.cells.ind_rnn import IndRNN
from xprnn.cells.lstm import LSTM
from xprnn.cells.min_gru import MinGRU
from xprnn.cells.min_lstm import MinLSTM
from xprnn.cells.minimal_gated import MinimalGated
from xprnn.cells.protocol import (
    Arrays,
    Cell,
    Gradients,
    has_layer_norm,
    has_recurrent_matrix,
    initial_bias,
    recurrent_blocks,
    retention,
    second_product,
    unit_names,
    unit_ranges,
)
from xprnn.cells.slstm import SLSTM

CELLS: dict[str, type[Cell]] = {
    "elman": Elman,
    "gru": GRU,
    "gru_reset_before": GRUResetBefore,
    "lstm": LSTM,
    "minimal_gated": MinimalGated,
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "ind_rnn": IndRNN,
    "slstm": SLSTM,
}

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "GRU",
    "LSTM",
    "SLSTM",
    "Activation",
    "Arrays",
    "Cell",
    "Elman",
    "GRUResetBefore",
    "Gradients",
    "IndRNN",
    "MinGRU",
    "MinLSTM",
    "MinimalGated",
    "cell_config",
    "get_cell",
    "has_layer_norm",
    "has_recurrent_matrix",
    "initial_bias",
    "recurrent_blocks",
    "retention",
    "second_product",
    "unit_names",
    "unit_ranges",
]


def get_cell(cell: str | Cell) -> Cell:
    """Return the cell of that name with its default options, or the cell itself.

    Parameters
    ----------
    cell : str or Cell

    Raises
    ------
    ValueError
        If there is no cell of that name, or the cell's ``second_product`` is out of range or meets
        a layer normalisation.
    TypeError
        If it is neither a name nor a cell, or lacks a method that its ``second_product`` needs.
    """
    made = checks.instance(
        "cell",
        cell,
        CELLS,
        Cell,
        "a name or a cell instance, with the attributes gates and state and the methods forward "
        "and backward",
    )
    if second_product(made):
        _check_second_product(made)
    return made


def _check_second_product(cell: Cell) -> None:
    """Refuse a cell whose second product can't be computed."""
    blocks: object = second_product(cell)
    if type(blocks) is not int or not 0 < blocks < cell.gates:
        raise ValueError(
            f"{cell} has second_product = {blocks!r}: expected how many of its {cell.gates} blocks "
            "of v come from the second product, at least one and not all"
        )
    for method in ("operand", "operand_backward"):
        if not callable(getattr(cell, method, None)):
            raise TypeError(f"{cell} has a second_product: expected a method {method}, too")
    if not has_recurrent_matrix(cell):
        raise ValueError(
            f"{cell} has a second_product, but no recurrent_matrix: expected one of them"
        )
    if has_layer_norm(cell):
        raise ValueError(
            f"{cell} has both layer_norm and second_product: expected one of them, since a layer "
            "normalises all blocks of a product together"
        )


def cell_config(cell: Cell) -> dict[str, Any] | None:
    """Return a cell's name and options as plain data; None if it is not a cell of this package."""
    for name, kind in CELLS.items():
        if type(cell) is kind:
            options = asdict(cast("Any", cell))
            if all(
                isinstance(value, str | int | float | bool | None) for value in options.values()
            ):
                return {"name": name, **options}
    return None


def cell_from_config(config: object) -> Cell:
    """Return the cell that `cell_config` has described.

    Raises
    ------
    TypeError, ValueError
        If it describes no cell of this package, or an option is missing, unknown or out of range.
    """
    if not isinstance(config, dict):
        raise TypeError(f"cell is {quoted(config)}: expected an object with a name and options")
    name = config.get("name")
    kind = checks.known("cell", name, CELLS)
    options = {key: value for key, value in config.items() if key != "name"}
    known = [field.name for field in fields(cast("Any", kind))]
    for option in (*options, *known):
        if option not in known:
            raise ValueError(f"the cell {name!r} has no option {quoted(option)}")
        if option not in options:
            raise ValueError(f"the option {option!r} of the cell {name!r} is missing")
    return kind(**options)
