"""Disagreements that are expected, as ``--xfail`` names them.

The file is TOML, with reasons by function and by cell, for all backends or for one:

    [functions]
    unique_inverse = "counts NaN twice"

    [cells]
    gru = "the same, in the gradient of tokens"

    ["dpnp:".functions]
    where = "wrong for flipped arrays, reported"

It is strict: what is expected to disagree and agrees is an error, so the file can't grow stale.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xprnn.backend.registry import NAMES
from xprnn.cells import CELLS
from xprnn.cli.parity.places import Place, names_of
from xprnn.testing import Row, Side
from xprnn.testing.parity.functions import CALLS
from xprnn.testing.parity.suite import Result

KNOWN = {"functions": CALLS, "cells": CELLS}
"""By table of the file, the names that may be in it."""


@dataclass
class _Entry:
    """One line of the file.

    Attributes
    ----------
    backend : str
        Empty for every backend other than the reference.
    table, name, reason : str
    agreed, disagreed : bool
        Whether anything that it applies to did so.
    """

    backend: str
    table: str
    name: str
    reason: str
    agreed: bool = False
    disagreed: bool = False

    def applies(self, place: str, cell: str, row: Row, *, reference: bool) -> bool:
        """Whether it is about a row of a backend in the list, compared for a cell."""
        what = row.name if row.quantity == "functions" else cell
        table = "functions" if row.quantity == "functions" else "cells"
        mine = self.backend == place if self.backend else not reference
        return mine and (self.table, self.name) == (table, what)

    def __str__(self) -> str:
        return f"{f'{self.backend} ' if self.backend else ''}{self.table} {self.name}"


@dataclass
class Expected:
    """The disagreements that are expected; empty without a file."""

    entries: list[_Entry] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "Expected":
        """Read a file.

        Raises
        ------
        OSError
            If it can't be read.
        ValueError
            If it is no TOML, or has a name that is not known or a reason that is no text; the
            message names the file and the key.
        """
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"--xfail {str(path)!r}: {error}") from error
        return cls(list(_entries(str(path), tables)))

    def marked(self, result: Result, places: Sequence[Place]) -> Result:
        """Return a result with the reasons in its rows."""
        if not self.entries:
            return result
        sides = tuple(
            replace(side, rows=tuple(self._marked(result, side, place, row) for row in side.rows))
            for side, place in zip(
                result.report.sides, map(names_of(places), result.report.sides), strict=True
            )
        )
        return result._replace(report=replace(result.report, sides=sides))

    def _marked(self, result: Result, side: Side, place: str, row: Row) -> Row:
        reference = side.backend == result.report.reference
        for entry in self.entries:
            if not row.skipped and entry.applies(place, result.cell, row, reference=reference):
                if row.agrees:
                    entry.agreed = True
                else:
                    entry.disagreed = True
                    row = replace(row, expected=entry.reason)
        return row

    def stale(self) -> list[str]:
        """Return in words what was compared and agrees, though it was expected not to."""
        return [
            f"{entry} is expected to disagree ({entry.reason}), but it agrees"
            for entry in self.entries
            if entry.agreed and not entry.disagreed
        ]


def _entries(path: str, tables: dict[str, object], backend: str = "") -> Iterator[_Entry]:
    for key, table in tables.items():
        where = f"--xfail {path!r}: {f'{backend!r}.' if backend else ''}{key}"
        if not isinstance(table, dict):
            raise ValueError(f"{where} is {table!r}: expected a table")
        if key not in KNOWN:
            if backend or not (key in NAMES or ":" in key or "@" in key):
                raise ValueError(
                    f"{where} is unknown: expected functions, cells or the name of a backend"
                )
            yield from _entries(path, table, key)
            continue
        for name, reason in table.items():
            if name not in KNOWN[key]:
                known = ", ".join(KNOWN[key])
                raise ValueError(f"{where}.{name} is unknown: known are {known}")
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"{where}.{name} is {reason!r}: expected a reason, as text")
            yield _Entry(backend, key, name, reason)
