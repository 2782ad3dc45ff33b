"""A column of times: which column it is, and what its entries mean."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted
from xprnn.data.tables.numbers.entries import plain_number
from xprnn.data.tables.times.formats import PANDAS, formats, looks_like_date, named_dates
from xprnn.data.tables.times.iso import compact_dates, iso_dates
from xprnn.data.tables.times.periods import periods
from xprnn.data.tables.times.spacing import (
    Spacing,
    clock_changes,
    spacing_of_dates,
    spacing_of_numbers,
)
from xprnn.data.tables.times.steps import SECOND
from xprnn.data.tables.times.style import Dates

_EPOCHS = {
    10: ("seconds", 1e6),
    13: ("milliseconds", 1e3),
    16: ("microseconds", 1.0),
    19: ("nanoseconds", 1e-3),
}
_POINT = re.compile(r"\d{4}\.(0[1-9]|1[0-2])")
_FIRST, _END = 631_152_000 * SECOND, 4_102_444_800 * SECOND
"""Epochs are of the years 1990 to 2099."""


class Times(NamedTuple):
    """A column of times.

    Attributes
    ----------
    ticks : host array, (N,)
        Numbers, float64; or microseconds since 1970, int64.
    wall : host array, (N,)
        The same as clocks there showed them.
    write : callable
        Writes a time as the file does.
    dates : bool
    unit : float
        Of the last digit of numbers.
    notes : tuple of str
        What was found, for the user.
    """

    ticks: HostArray
    wall: HostArray
    write: Callable[[float], str]
    dates: bool
    unit: float = 0.0
    notes: tuple[str, ...] = ()

    def taken(self, kept: HostArray) -> "Times":
        """Return some of the times, in an order."""
        return self._replace(ticks=self.ticks[kept], wall=self.wall[kept])

    def spacing(self) -> tuple[Spacing, list[int]]:
        """Return the spacing, and the rows after each change of the clocks."""
        if not self.dates:
            return spacing_of_numbers(self.ticks, self.write, unit=self.unit), []
        changes: list[int] = []
        if np.array_equal(self.ticks, self.wall):
            ticks, changes = clock_changes(self.wall)
            if changes:
                spacing = spacing_of_dates(ticks, ticks, self.write)
                if spacing.step is not None:
                    return spacing._replace(last=int(self.wall[-1])), changes
        return spacing_of_dates(self.ticks, self.wall, self.write), []


class NotTimesError(ValueError):
    """Entries that are no times, or can be read in two ways.

    Attributes
    ----------
    index : int
        Of the entry.
    asks : bool
        Whether they are times, but in two ways.
    """

    def __init__(self, message: str, index: int, *, asks: bool = False) -> None:
        super().__init__(message)
        self.index, self.asks = index, asks


def read_times(texts: Sequence[str], dayfirst: bool | None = None) -> Times:
    """Return the times that a column holds: numbers or dates.

    Raises
    ------
    NotTimesError
        If an entry is no time, or all could be read in two ways.
    ImportError
        If pandas is needed and missing.
    """
    numbers = [plain_number(text) for text in texts]
    known = [number for number in numbers if number is not None and np.isfinite(number)]
    if len(known) == len(texts):
        return _of_numbers(texts, np.array(known))
    dates = periods(texts) or iso_dates(texts)
    if dates is None:
        dates = _in_some_format(texts, dayfirst)
    return Times(dates.ticks, dates.wall, dates.style.write, dates=True)


def _of_numbers(texts: Sequence[str], values: HostArray) -> Times:
    """Return numbers, or the dates that they stand for."""
    lengths = {len(text) for text in texts}
    if len(lengths) == 1 and all(text.isdecimal() and text.isascii() for text in texts):
        compact = compact_dates(texts)
        if compact is not None:
            return Times(compact.ticks, compact.wall, compact.style.write, dates=True)
    months = _of_points(texts)
    if months is not None:
        return months
    epoch = _of_epoch(texts, values)
    if epoch is not None:
        return epoch
    decimals = max(len(text.partition(".")[2]) if "e" not in text.lower() else 0 for text in texts)
    unit = 10.0**-decimals if decimals else 0.0

    def write(tick: float) -> str:
        return f"{tick:.{decimals}f}"

    return Times(values, values, write, dates=False, unit=unit)


def _of_points(texts: Sequence[str]) -> Times | None:
    """Return years and months with a point between, 1991.07, if they are a month apart."""
    if len(texts) < 3 or not all(map(_POINT.fullmatch, texts)):
        return None
    dates = iso_dates([text.replace(".", "-") for text in texts])
    if dates is None:
        return None
    backward = -1 if dates.ticks[0] > dates.ticks[-1] else 1
    style = dates.style._replace(pattern="%Y.%m")
    spacing = spacing_of_dates(dates.ticks[::backward], dates.wall[::backward], style.write)
    if not (spacing.even and spacing.description == "monthly"):
        return None
    return Times(dates.ticks, dates.wall, style.write, dates=True)


def _of_epoch(texts: Sequence[str], values: HostArray) -> Times | None:
    """Return numbers that count seconds, or parts of them, from the beginning of 1970."""
    lengths = {len(text.partition(".")[0]) for text in texts}
    if len(lengths) != 1 or (length := lengths.pop()) not in _EPOCHS:
        return None
    name, unit = _EPOCHS[length]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.round(values * unit)
    if not np.all((scaled >= _FIRST) & (scaled < _END)):
        return None
    ticks = scaled.astype(np.int64)
    decimals = len(texts[-1].partition(".")[2])

    def write(tick: float) -> str:
        return f"{tick / unit:.{decimals}f}"

    return Times(ticks, ticks, write, dates=True, notes=(f"{name} since 1970",))


def _in_some_format(texts: Sequence[str], dayfirst: bool | None) -> Dates:
    """Return dates in the one format that they all have."""
    candidates = formats(texts[0])
    if not candidates:
        _refuse(texts)
    if dayfirst is not None:
        order = "d" if dayfirst else "m"
        candidates = [
            pattern
            for pattern in candidates
            if "%m" not in pattern or "%d" not in pattern or _codes(pattern)[0] in (order, "Y")
        ] or candidates
    if find_spec("pandas") is None:
        raise ImportError(f"dates such as {quoted(texts[0])} need pandas: {PANDAS}")
    # An entry that is in no format is found sooner than by reading all.
    read = [(pattern, named_dates(texts, pattern)) for pattern in candidates]
    fitting = [(pattern, dates) for pattern, dates in read if dates is not None]
    if not fitting:
        _refuse(texts, candidates)
    first = fitting[0][1]
    if all(np.array_equal(dates.ticks, first.ticks) for _, dates in fitting):
        return first
    forward = [(pattern, dates) for pattern, dates in fitting if _one_way(dates.ticks)]
    even = [(pattern, dates) for pattern, dates in forward if _is_even(dates)]
    for group in (forward, even):
        if len(group) == 1:
            return group[0][1]
    names = " or ".join(_order(pattern) for pattern, _ in fitting)
    raise NotTimesError(
        f"{quoted(texts[0])} may be {names}: expected --dayfirst or --no-dayfirst (from "
        "Python, dayfirst=True or False)",
        0,
        asks=True,
    )


def _order(pattern: str) -> str:
    names = {"d": "day", "m": "month", "y": "year", "Y": "year"}
    return "-".join(names[code] for code in _codes(pattern))


def _codes(pattern: str) -> list[str]:
    return re.findall("%([dmyY])", pattern)


def _one_way(ticks: HostArray) -> bool:
    steps = np.diff(ticks)
    return bool(np.all(steps >= 0) or np.all(steps <= 0))


def _is_even(dates: Dates) -> bool:
    backward = len(dates.ticks) > 1 and dates.ticks[0] > dates.ticks[-1]
    order = slice(None, None, -1) if backward else slice(None)
    times = Times(dates.ticks[order], dates.wall[order], dates.style.write, dates=True)
    spacing, _ = times.spacing()
    return spacing.even or spacing.description == "business days"


def _is_number(text: str) -> bool:
    number = plain_number(text)
    return number is not None and bool(np.isfinite(number))


def _refuse(texts: Sequence[str], candidates: Sequence[str] = ()) -> None:
    """Name the first entry that is unlike the first, or no time at all."""
    number = _is_number(texts[0])
    for k, text in enumerate(texts):
        is_number = _is_number(text)
        is_date = looks_like_date(text)
        if not is_number and not is_date:
            raise NotTimesError(f"{quoted(text)} is neither a number nor a date that is known", k)
        if is_number != number and not (is_date and is_number and not number):
            kind = "number" if is_number else "date"
            raise NotTimesError(f"{quoted(text)} is a {kind}, unlike {quoted(texts[0])}", k)
        if candidates and not set(formats(text)) & set(candidates):
            raise NotTimesError(f"{quoted(text)} is written unlike {quoted(texts[0])}", k)
    if candidates:
        for k, text in enumerate(texts):
            if all(named_dates([text], pattern) is None for pattern in candidates):
                raise NotTimesError(f"{quoted(text)} is no date, unlike {quoted(texts[0])}", k)
    raise NotTimesError(f"{quoted(texts[0])} and the others are not dates of one form", 0)
