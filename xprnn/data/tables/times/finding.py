"""Finding the column of times in a table."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.quoting import quoted
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.numbers.entries import is_missing, plain_number
from xprnn.data.tables.options import NO_TIME, Reading
from xprnn.data.tables.times.column import NotTimesError, Times, read_times
from xprnn.data.tables.times.formats import looks_like_date
from xprnn.data.tables.times.months import month_of

_NAMES = frozenset(
    (
        *("t", "time", "date", "datetime", "timestamp", "epoch", "unix", "year", "years", "yyyymm"),
        *(
            "yyyymmdd",
            "month",
            "period",
            "step",
            "ts",
            "datum",
            "zeit",
            "jahr",
            "monat",
            "zeitpunkt",
        ),
        *("zeitstempel", "année", "annee", "anno", "ano", "año", "fecha", "data", "ora", "mois"),
        *("mes", "anni", "time_period", "observation_date", "decimal", "decimal date", "日期"),
        *("时间", "年", "年份", "月份", "日付", "年月", "날짜", "连续", "дата", "год", "время"),
    )
)
"""Names of columns that hold times, in small letters, even where they are mere numbers."""
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s*[AaPp]\.?[Mm]\.?)?")
_DIGITS = re.compile(r"([01]\d|2[0-3])[0-5]\d([0-5]\d)?")
_PARTS = {
    "year": ("year", "yr", "yyyy", "jahr", "année", "annee", "anno", "año", "ano", "年"),
    "month": ("month", "mo", "mon", "mm", "monat", "mois", "mese", "mes", "月"),
    "day": ("day", "dy", "dd", "tag", "jour", "giorno", "dia", "día", "日"),
    "hour": ("hour", "hr", "hh", "stunde", "heure", "ora", "hora"),
}


class Found(NamedTuple):
    """The times of a table, and where they are.

    Attributes
    ----------
    name : str
    texts : list of str
        The entries.
    times : Times
    columns : tuple of int
        The columns that they are in.
    notes : tuple of str
        What was found, for the user.
    """

    name: str
    texts: list[str]
    times: Times
    columns: tuple[int, ...]
    notes: tuple[str, ...] = ()


def times_of(grid: Grid, reading: Reading, used: Sequence[int]) -> tuple[Found | None, list[str]]:
    """Return the times of a table, if there are any, and notes for the user.

    Parameters
    ----------
    grid : Grid
    reading : Reading
        Names the column of times, or leaves it to be found.
    used : sequence of int
        The columns whose values are read, which are no times.

    Raises
    ------
    ValueError
        If the column that is named holds no times, or what is found can be read in two ways.
    ImportError
        If the column that is named needs pandas, which is missing.
    """
    if reading.time == NO_TIME and not any(NO_TIME in header for header in grid.headers):
        return None, []
    if reading.time is not None:
        index = grid.find(reading.time, "--time")
        if index in used:
            raise ValueError(
                f"{grid.file}: column {quoted(grid.name(index))} is to be forecast, and so it "
                "can't be the column of times"
            )
        return _read(grid, (index,), reading), []
    return _find(grid, reading, used)


def _find(grid: Grid, reading: Reading, used: Sequence[int]) -> tuple[Found | None, list[str]]:
    joined = _year_month_day(grid, used)
    if joined is not None:
        return joined, []
    second, unclear = None, None
    for k in range(grid.width):
        if k in used:
            continue
        kind = _kind(grid, k)
        if kind is None:
            continue
        try:
            found = _read(grid, (k,), reading)
        except ImportError as error:
            return None, [f"{grid.name(k)} is not used, and the rows are taken in order: {error}"]
        except ValueError as error:
            unclear = unclear or (error if kind == "date" else None)
            continue
        direction = _direction(found)
        if direction > 0.9 and (kind == "date" or found.times.dates or _is_time(grid, k, found)):
            return found, []
        if kind == "date" and second is None:
            second = found
    if second is None and unclear is not None:
        raise unclear
    if second is None and grid.width > len(set(used)):
        return None, ["no column of times was found: the rows are taken in order"]
    return second, []


def _is_time(grid: Grid, index: int, found: Found) -> bool:
    """Whether a column of numbers that go one way are times."""
    ticks = found.times.ticks
    steps = np.diff(ticks)
    if len(steps) == 0 or np.any(steps == 0):
        return False
    if _named(grid, index) is not None:
        return True
    if not np.all((ticks >= 1500) & (ticks < 2200)) or len(ticks) < 4:
        return False
    base = float(np.median(steps))
    if np.all(ticks == np.round(ticks)):
        return bool(np.all(steps == base) and abs(base) <= 10)
    # Decimal years: months are not all as long.
    return bool(abs(base) < 1 and np.all(np.abs(steps - base) < 0.3 * abs(base)))


def _named(grid: Grid, index: int) -> str | None:
    """Return the name of a column, if it is one that times have."""
    for header in grid.headers:
        if header[index].strip("<>[]() ").lower() in _NAMES:
            return header[index]
    return None


def _direction(found: Found) -> float:
    """Return the larger share of the steps that go one way."""
    steps = np.diff(found.times.ticks)
    steps = steps[steps != 0]
    if len(steps) == 0:
        return 0.0 if len(found.texts) > 1 else 1.0
    forward = float(np.mean(steps > 0))
    return max(forward, 1 - forward)


def _kind(grid: Grid, index: int) -> str | None:
    """Return whether a column looks like dates or like numbers, from some of its entries."""
    rows = grid.rows
    step = max(1, len(rows) // 40)
    sample = [text for row in rows[::step] if not is_missing(text := row[index])]
    if not sample or (
        len(rows) > 1
        and len({row[index] for row in rows}) == 1
        and _clock_beside(grid, index, sample) is None
    ):
        # What is the same everywhere, such as the day of an export, is no time.
        return None
    if sum(plain_number(text) is not None for text in sample) == len(sample):
        return "number"
    dates = [text for text in sample if plain_number(text) is None and looks_like_date(text)]
    # Years beside quarters are times that can't be read, and not no times.
    years = [text for text in sample if len(text) == 4 and text.isdecimal()] if dates else []
    return "date" if len(dates) + len(years) > 0.8 * len(sample) else None


def _read(grid: Grid, columns: tuple[int, ...], reading: Reading) -> Found:
    """Return the times in a column, with those of the clock in the next if it has them."""
    index = columns[0]
    texts, name = grid.column(index), _named(grid, index) or grid.name(index)
    clock = _clock_beside(grid, index, texts)
    if clock is not None:
        times_of_day = [_with_colons(row[clock]) for row in grid.rows]
        texts = [f"{text} {later}" for text, later in zip(texts, times_of_day, strict=True)]
        name = f"{name} {grid.name(clock)}"
        columns = (index, clock)
    for k, text in enumerate(texts):
        if not text:
            raise ValueError(
                f"{grid.file}, {grid.word} {grid.lines[k]}, column {quoted(name)}: the time is "
                f"missing; --time names another column, and --time {NO_TIME} takes the rows in "
                "order"
            )
    try:
        times = read_times(texts, reading.dayfirst)
    except NotTimesError as error:
        hint = "" if error.asks else f"; --time {NO_TIME} takes the rows in order"
        raise ValueError(
            f"{grid.file}, {grid.word} {grid.lines[error.index]}, column {quoted(name)}: "
            f"{error}{hint}"
        ) from error
    return Found(name, texts, times, columns, times.notes)


def _clock_beside(grid: Grid, index: int, texts: Sequence[str]) -> int | None:
    """Return the column of times of day beside a column of dates without them."""
    if any(":" in text for text in texts[:5]) or not looks_like_date(texts[0] if texts else ""):
        return None
    for k in (index + 1, index - 1):
        if not 0 <= k < grid.width:
            continue
        if all(_CLOCK.fullmatch(row[k]) for row in grid.rows):
            return k
        # 093000 may be anything, if the column is not called a time.
        digits = all(_DIGITS.fullmatch(row[k]) for row in grid.rows)
        if digits and any("time" in header[k].lower() for header in grid.headers):
            return k if len({row[k] for row in grid.rows}) > 1 else None
    return None


def _with_colons(text: str) -> str:
    """Return a time of day with colons, where it is written without."""
    if not _DIGITS.fullmatch(text):
        return text
    return ":".join(text[k : k + 2] for k in range(0, len(text), 2))


def _year_month_day(grid: Grid, used: Sequence[int]) -> Found | None:
    """Return times whose years, months and days are in columns of their own."""
    places: dict[str, int] = {}
    for header in grid.headers:
        for k, text in enumerate(header):
            for part, names in _PARTS.items():
                if text.lower() in names and k not in used:
                    places.setdefault(part, k)
    if "year" not in places or "month" not in places or ("hour" in places and "day" not in places):
        return None
    columns = tuple(places[part] for part in _PARTS if part in places)
    try:
        texts = [_joined([_part(row[k]) for k in columns]) for row in grid.rows]
        times = read_times(texts)
    except ValueError:
        return None
    name = " ".join(grid.name(k) for k in columns)
    return Found(name, texts, times, columns)


def _part(text: str) -> int:
    number = month_of(text) if text.isalpha() else int(text)
    if number is None:
        raise ValueError(text)
    return number


def _joined(parts: Sequence[int]) -> str:
    year, *others = parts
    text = "-".join([f"{year:04}", *(f"{part:02}" for part in others[:2])])
    return text if len(others) < 3 else f"{text}T{others[2]:02}:00"
