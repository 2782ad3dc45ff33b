"""What is built of every cell: layers, directions, lengths, dropout, in a form that changes.

Sizes are small, and all of them differ: a mixed-up axis must change a shape.
"""

from itertools import product
from typing import Any

import pytest

from tests.cases import CELLS, FORMS, Case

SIZES = {"T": 5, "B": 3, "I": 2, "H": 4, "O": 6}
LENGTHS = (3, 5, 1)
"""Of the first sequence some steps are missing, of the second none, of the third all but one."""

DROPOUT = {"dropout": 0.4, "recurrent_dropout": 0.3}


def _named(case: Case, changes: dict[str, Any]) -> Case:
    case = case.but(**changes)
    words = [case.id, f"{case.layers}"]
    words += ["both"] * case.bidirectional
    words += ["lengths"] * (case.lengths is not None)
    words += ["dropout"] * (case.recurrent_dropout > 0)
    return case.but(id="-".join(words))


def _stack(row: Case, k: int, options: tuple[Any, ...]) -> Case:
    layers, bidirectional, lengths, dropout = options
    changes = {"layers": layers, "bidirectional": bidirectional, "lengths": lengths}
    form = list(FORMS.values())[k % len(FORMS)]
    return _named(row, SIZES | changes | dropout | form)


OPTIONS = tuple(product((1, 2, 3), (False, True), (None, LENGTHS), ({}, DROPOUT)))

STACKS = tuple(
    # The forms go round, and begin elsewhere for every cell.
    _stack(row, k + 3 * number, options)
    for number, row in enumerate(CELLS)
    for k, options in enumerate(OPTIONS)
)
"""Every cell with 1, 2 and 3 layers, in one and both directions, with and without lengths and
dropout."""

PAIRS = (
    (1, False, LENGTHS, DROPOUT),
    (1, True, None, {}),
    (2, False, None, DROPOUT),
    (2, True, LENGTHS, {}),
    (3, False, LENGTHS, {}),
    (3, True, None, DROPOUT),
)
"""Six of them, in which any two options meet."""

SOME = tuple(
    _stack(row, 5 * k + number, options)
    for number, row in enumerate(CELLS)
    for k, options in enumerate(PAIRS)
)
"""Every cell in these."""

DEEP = tuple(_stack(row, number, (2, True, LENGTHS, DROPOUT)) for number, row in enumerate(CELLS))
"""Every cell once, with everything."""


def deep_of(name: str) -> Case:
    """Return that of the row of this name."""
    (deep,) = (deep for row, deep in zip(CELLS, DEEP, strict=True) if row.id == name)
    return deep


each_stack = pytest.mark.parametrize("case", STACKS, ids=lambda case: case.id)
each_deep = pytest.mark.parametrize("case", DEEP, ids=lambda case: case.id)
