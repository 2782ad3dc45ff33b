"""The column that is read where none is named: the only one that can be meant."""

from collections.abc import Sequence

from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.layout.rows import mostly
from xprnn.data.tables.numbers.entries import is_missing, looks_like_number
from xprnn.data.tables.options import Reading
from xprnn.data.tables.times.finding import times_of
from xprnn.data.tables.times.formats import looks_like_date

_COUNTERS = frozenset(("", "index", "id", "no", "no.", "nr", "nr.", "row", "unnamed: 0"))
"""Names of columns that number the rows, in small letters."""


def obvious_column(
    grid: Grid, reading: Reading, known: Sequence[int] = ()
) -> tuple[int, tuple[str, ...]]:
    """Return the index of the only column of numbers beside the times, and what to tell of it.

    A column that numbers the rows, as R and pandas write one, is not meant.

    Raises
    ------
    ValueError
        If there are several, or none.
    """
    found, _ = times_of(grid, reading, known)
    times = () if found is None else found.columns
    others = [k for k in range(grid.width) if k not in (*times, *known)]
    if len(others) == 1 and not (grid.choice and not _is_number(grid.column(others[0]))):
        return others[0], ()
    numbers = [k for k in others if _is_number(grid.column(k))]
    meant = [k for k in numbers if not _is_counter(grid, k)]
    if len(meant) == 1:
        return meant[0], (f"{grid.name(meant[0])} is the only column of numbers",)
    if not others or not (meant or numbers):
        raise ValueError(
            f"{grid.file} has no column of numbers beside the times: its columns are "
            f"{listed(quoted(grid.name(k)) for k in range(grid.width))}; "
            + (grid.choice or "--column NAME takes one")
        )
    names = listed(quoted(grid.name(k)) for k in meant or numbers)
    raise ValueError(
        f"{grid.file} has several columns of numbers: expected --column with one of {names}"
    )


def _is_number(texts: Sequence[str]) -> bool:
    there = [text for text in texts[:: max(1, len(texts) // 200)] if not is_missing(text)]
    # Numbers such as 20240131 are times only where they were found to be.
    dates = mostly(_is_written_date, there)
    return bool(there) and not dates and mostly(looks_like_number, there)


def _is_written_date(text: str) -> bool:
    return not text.isdecimal() and looks_like_date(text)


def _is_counter(grid: Grid, index: int) -> bool:
    """Whether a column numbers the rows: nothing but 0, 1, 2 ... or 1, 2, 3 ..."""
    if grid.headers and not any(header[index].lower() in _COUNTERS for header in grid.headers):
        return False
    texts = grid.column(index)
    first = texts[0]
    return first in ("0", "1") and texts == [str(int(first) + k) for k in range(len(texts))]
