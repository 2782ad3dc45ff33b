"""Tables whose times run across their columns, such as the years of the World Bank's."""

from collections.abc import Sequence

from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.times.formats import looks_like_date

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
    times = [k for k, name in enumerate(header) if _is_time(name)]
    if len(times) < max(_LEAST, len(header) / 2) or any(
        name in row for name in wanted for row in grid.headers
    ):
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
                    else f": expected one of {listed(_names(grid, times), 6)}"
                )
            )
        chosen.append(rows[0])
    fields = [[header[k], *(grid.rows[row][k] for row in chosen)] for k in times]
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


def _is_time(name: str) -> bool:
    return looks_like_date(name) or (len(name) == 4 and name.isdecimal() and "1500" < name < "2200")


def _has(row: Sequence[str], times: Sequence[int], name: str | int) -> bool:
    return any(text == name for k, text in enumerate(row) if k not in times)


def _names(grid: Grid, times: Sequence[int]) -> list[str]:
    first = [[text for k, text in enumerate(row) if k not in times] for row in grid.rows]
    return [quoted(texts[0]) for texts in first if texts]


def _count(count: int, word: str) -> str:
    return f"{count or 'no'} {word}s are" if count != 1 else f"1 {word} is"
