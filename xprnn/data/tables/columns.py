"""Reading columns of a table: from a source to values with their times."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.choosing import obvious_column
from xprnn.data.tables.gaps import fill_gaps
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.layout.upright import only_row, upright
from xprnn.data.tables.numbers.column import read_numbers
from xprnn.data.tables.numbers.signs import NotNumbersError, Signs
from xprnn.data.tables.options import Reading
from xprnn.data.tables.series import Columns
from xprnn.data.tables.sheets import is_frame, of_frame
from xprnn.data.tables.sources import open_table
from xprnn.data.tables.times.finding import Found, times_of
from xprnn.data.tables.times.order import duplicates, order_of
from xprnn.data.tables.times.spacing import Spacing

DEFAULTS = Reading()
"""Everything is found in the table."""


def read_columns(
    source: Any,
    columns: Sequence[str | int],
    reading: Reading = DEFAULTS,
    *,
    known: Sequence[str | int] = (),
) -> Columns:
    """Read several columns of a table.

    Parameters
    ----------
    source : path, DataFrame or Series
    columns : sequence of str or int
        Those that are to be forecast, by name or by number from 1; empty: the only column of
        numbers beside the times.
    reading : Reading
        How the table is read.
    known : sequence of str or int
        Further columns, whose entries may go on after the last of those to be forecast.

    Returns
    -------
    Columns
        First ``columns``, then ``known``.

    Raises
    ------
    OSError, ValueError, ImportError
        As those of `read_series`.
    """
    wanted = [*columns, *known]
    if hasattr(source, "to_pandas"):
        # polars, pyarrow and others.
        source = source.to_pandas()
    if is_frame(source):
        asked = wanted if columns else None
        grid = of_frame(source, f"the {type(source).__name__}", reading, asked)
    elif isinstance(source, str | os.PathLike):
        grid = open_table(source, reading, wanted if columns else None)
    else:
        raise TypeError(
            f"source is a {type(source).__name__}: expected a path, or a pandas DataFrame or Series"
        )
    grid = _chosen(grid, reading.where)
    if not columns:
        row = only_row(grid)
        if row is None:
            beside = [grid.find(name, "--covariate") for name in known]
            index, chosen = obvious_column(grid, reading, beside)
            grid, wanted = grid.told(*chosen), [index + 1, *known]
        else:
            wanted = [row, *known]
    targets = len(wanted) - len(known)
    grid = upright(grid, wanted)
    used = [grid.find(name, "--column") for name in wanted]
    found, notes = times_of(grid, reading, used)
    if found is not None:
        order = order_of(grid, found, used)
        grid, found = grid.taken(order.rows.tolist()), _ordered(found, order.rows)
        notes += [*found.notes, *order.notes, *duplicates(grid, found)]
    names = tuple(
        " ".join(str(name).split()) if _is_named(grid, name) else grid.name(k)
        for k, name in zip(used, wanted, strict=True)
    )
    values, signs, told = _values(grid, used, names, reading)
    filled = fill_gaps(
        values,
        names,
        grid.lines,
        reading.missing,
        file=grid.file,
        word=grid.word,
        targets=targets,
    )
    ahead = values[filled.stop :].copy()
    kept = slice(filled.start, filled.stop)
    spacing, times = None, None
    if found is not None:
        part = found.times.taken(np.arange(len(values))[kept])
        times = tuple(found.texts[kept])
        spacing, changes = part.spacing()
        notes += _gap_notes(spacing, changes, times, grid.lines[kept], grid.word)
    return Columns(
        names,
        filled.values,
        times,
        None if found is None else found.name,
        spacing,
        (*grid.notes, *told, *notes, *filled.notes),
        ahead,
        signs,
    )


def _is_named(grid: Grid, name: str | int) -> bool:
    return any(" ".join(str(name).split()) in header for header in grid.headers)


def _chosen(grid: Grid, where: Mapping[str, str]) -> Grid:
    """Return the rows that have certain entries."""
    for name, entry in where.items():
        index = grid.find(name, "--where")
        entries = grid.column(index)
        kept = [k for k, text in enumerate(entries) if _same(text, entry)]
        if not kept:
            there = listed(map(quoted, dict.fromkeys(entries)), 8)
            raise ValueError(
                f"{grid.file}: no {grid.word} has {quoted(entry)} in column {quoted(name)}: "
                f"expected one of {there}"
            )
        grid = grid.taken(kept).told(f"{len(kept)} of {len(entries)} rows have {name}={entry}")
    return grid


def _same(text: str, entry: str) -> bool:
    if text == entry.strip():
        return True
    try:
        return float(text) == float(entry)
    except ValueError:
        return False


def _ordered(found: Found, rows: HostArray) -> Found:
    return found._replace(
        texts=[found.texts[k] for k in rows.tolist()], times=found.times.taken(rows)
    )


def _values(
    grid: Grid, used: Sequence[int], names: Sequence[str], reading: Reading
) -> tuple[HostArray, dict[str, str], list[str]]:
    """Return the values of columns, (N, C), the signs that they have, and notes."""
    columns: list[HostArray] = []
    signs: dict[str, str] = {}
    notes: list[str] = []
    for index, name in zip(used, names, strict=True):
        others = [grid.column(k)[:200] for k in range(grid.width) if k != index][:30]
        try:
            read = read_numbers(
                grid.column(index),
                given=Signs(reading.decimal, reading.thousands),
                others=others,
                semicolon_delimited=grid.delimiter == ";",
                likely=reading.likely,
                na=reading.na,
            )
        except NotNumbersError as error:
            where = "" if error.index is None else f", {grid.word} {grid.lines[error.index]}"
            raise ValueError(f"{grid.file}{where}, column {quoted(name)}: {error}") from error
        columns.append(read.values)
        signs |= {name: sign for name, sign in read.signs._asdict().items() if sign}
        prefix = f"{name}: " if len(used) > 1 and read.notes else ""
        notes += [prefix + ", ".join(read.notes)] if read.notes else []
    return np.column_stack(columns), signs, notes


def _gap_notes(
    spacing: Spacing,
    changes: Sequence[int],
    times: Sequence[str],
    lines: Sequence[int],
    word: str,
) -> list[str]:
    """Return notes about gaps between the times."""

    def between(k: int) -> str:
        return f"{word}s {lines[k - 1]} and {lines[k]} ({times[k - 1]}, {times[k]})"

    notes = []
    if changes:
        notes.append(f"clocks change between {between(changes[0])}")
    if spacing.description == "irregular":
        notes.append("the times are labels: rows count as steps")
    if spacing.missing:
        total = sum(count for _, count in spacing.missing)
        what = "weekdays" if spacing.step is not None and spacing.step.weekmask else "times"
        shown = ", ".join(between(k) for k, _ in spacing.missing[:2])
        more = len(spacing.missing) - 2
        verb = "is" if total == 1 else "are"
        what = what.removesuffix("s") if total == 1 else what
        notes.append(
            f"{total} {what} {verb} missing, between {shown}"
            + (f" and {more} more places" if more > 0 else "")
        )
    return notes
