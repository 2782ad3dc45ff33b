"""Tables whose times run across their columns, such as the years of the World Bank's."""

import re
from collections.abc import Sequence

from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.times.formats import looks_like_date

_YEAR = re.compile(r"(?P<year>\d{4}) \[YR(?P=year)\]")
_LEAST = 5
"""So many names in a row that are times are no accident."""


def upright(grid: Grid, wanted: Sequence[str | int]) -> Grid:
    """Return a table with its times below each other: each row becomes a column.

    A table whose times are below each other already, or whose header has the columns that are
    wanted, is returned as it is.

    Raises
    ------
    ValueError
        If several rows have the name of a column that is wanted.
    """
    if not grid.headers:
        return grid
    header = grid.headers[-1]
    times = _across(grid)
    if not times or any(name in row for name in wanted for row in grid.headers):
        return grid
    chosen = []
    for name in wanted:
        rows = [k for k, row in enumerate(grid.rows) if _has(row, times, name)]
        if len(rows) != 1:
            raise ValueError(
                f"{grid.file}: the times run across the columns ({header[times[0]]} to "
                f"{header[times[-1]]}), and {_count(len(rows), grid.word)} called {quoted(name)}"
                + (
                    "; --where says which"
                    if rows
                    else f": expected one of {listed(map(quoted, _names(grid, times)), 6)}"
                )
            )
        chosen.append(rows[0])
    fields = [[_plain(header[k]), *(grid.rows[row][k] for row in chosen)] for k in times]
    return Grid(
        file=grid.file,
        rows=fields,
        lines=[k + 1 for k in times],
        headers=[["time", *map(str, wanted)]],
        word="column",
        delimiter=grid.delimiter,
        notes=(
            *grid.notes,
            f"the times run across the columns of {grid.word} {grid.lines[chosen[0]]}",
        ),
    )


def only_row(grid: Grid) -> str | None:
    """Return the name of the only row of a table whose times run across its columns.

    None if they don't.

    Raises
    ------
    ValueError
        If there are several rows.
    """
    times = _across(grid)
    if not times:
        return None
    names = _names(grid, times)
    if len(names) == 1 and names[0]:
        return names[0]
    header = grid.headers[-1]
    raise ValueError(
        f"{grid.file}: the times run across the columns ({header[times[0]]} to "
        f"{header[times[-1]]}), and each {grid.word} is a series: expected --column with one of "
        f"{listed(map(quoted, names), 6)}"
    )


def _across(grid: Grid) -> list[int]:
    """Return the columns whose names are times; none if those of most columns are none."""
    header = grid.headers[-1] if grid.headers else []
    times = [k for k, name in enumerate(header) if _is_time(name)]
    return times if len(times) >= max(_LEAST, len(header) / 2) else []


def _plain(name: str) -> str:
    """Return a year as it is usually written; the World Bank's selections have 1960 [YR1960]."""
    found = _YEAR.fullmatch(name)
    return name if found is None else found["year"]


def _is_time(name: str) -> bool:
    name = _plain(name)
    return looks_like_date(name) or (len(name) == 4 and name.isdecimal() and "1500" < name < "2200")


def _has(row: Sequence[str], times: Sequence[int], name: str | int) -> bool:
    return any(text == name for k, text in enumerate(row) if k not in times)


def _names(grid: Grid, times: Sequence[int]) -> list[str]:
    first = [[text for k, text in enumerate(row) if k not in times] for row in grid.rows]
    return [texts[0] for texts in first if texts]


def _count(count: int, word: str) -> str:
    return f"{count or 'no'} {word}s are" if count != 1 else f"1 {word} is"
