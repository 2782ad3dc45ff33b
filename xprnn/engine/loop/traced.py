"""Cells by their traced formulas, traced once if they can't change.

A frozen, hashable cell is traced once, any other at every use, since it may have changed.
"""

import logging
from functools import lru_cache
from typing import Any, NamedTuple

from xprnn.cells import Cell
from xprnn.engine.loop.trace import Formulas, trace
from xprnn.engine.loop.tracer import Untraceable

_log = logging.getLogger("xprnn")


class Traced(NamedTuple):
    """A cell's formulas, and their text, which determines them: equal text, equal formulas.

    ``cell`` is the name of the class that they were traced from, one of perhaps several.
    """

    text: str
    formulas: Formulas
    cell: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Traced) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def formulas_of(cell: Cell) -> Formulas | None:
    """Return a cell's traced formulas; None if it can't be traced."""
    traced = traced_formulas(cell)
    return None if isinstance(traced, str) else traced.formulas


def traced_formulas(cell: Cell) -> Traced | str:
    """Return a cell's formulas, or the reason why it can't be traced."""
    kind: Any = type(cell)
    hashable: Any = cell
    if is_frozen(cell):
        # By its methods, too, since those of a class can be replaced.
        return _traced_once(hashable, kind.forward, kind.backward)
    return _trace(cell)


def is_frozen(cell: Cell) -> bool:
    """Whether a cell is known not to change: a frozen dataclass of fields that can be hashed."""
    options = getattr(type(cell), "__dataclass_params__", None)
    if options is None or not options.frozen:
        return False
    try:
        hash(cell)
    except TypeError:
        # A field that can't be hashed can change.
        return False
    return True


@lru_cache(maxsize=256)
def _traced_once(cell: Cell, *methods: object) -> Traced | str:
    del methods
    return _trace(cell)


def _trace(cell: Cell) -> Traced | str:
    try:
        formulas = trace(cell)
    except Untraceable as error:
        _log.info("%s runs as plain array code: %s", cell, error)
        return f"{error}"
    return Traced(repr(formulas), formulas, type(cell).__name__)
