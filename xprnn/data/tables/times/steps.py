"""A step of time: its length, months or days of the week; its name, and what comes after."""

from datetime import UTC, datetime
from typing import NamedTuple

from xprnn.backend.host.arrays import np

SECOND = 1_000_000
DAY = 86_400 * SECOND
HOUR = 3600 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (
    (7 * DAY, "week"),
    (DAY, "day"),
    (HOUR, "hour"),
    (60 * SECOND, "minute"),
    (SECOND, "second"),
)
_ADVERBS = {7 * DAY: "weekly", DAY: "daily", HOUR: "hourly"}


class Step(NamedTuple):
    """A step of time: a fixed length, some months, or days of the week.

    Attributes
    ----------
    length : float
        For dates in microseconds, for numbers in their unit.
    months : int
        The months in a step; 0: its length is fixed.
    day : int
        The day of the month, at most its last; 32: the last business day; 0: the first.
    weekmask : tuple of bool
        The days of the week that occur, Monday first; empty: all.
    """

    length: float
    months: int = 0
    day: int = 0
    weekmask: tuple[bool, ...] = ()


def weekdays_in_words(mask: tuple[bool, ...]) -> str:
    """Return which days of the week do not occur, in words."""
    names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    absent = [f"{name}s" for name, there in zip(names, mask, strict=True) if not there]
    return f"daily without {' and '.join(absent)}"


def length_in_words(base: float) -> str:
    """Return the length of a step in words."""
    if base in _ADVERBS:
        return _ADVERBS[int(base)]
    for length, name in _UNITS:
        if base % length == 0:
            count = int(base // length)
            return f"every {count} {name}s" if count > 1 else f"every {name}"
    return f"every {base / SECOND:g} s"


def rounded(base: float) -> float:
    """Return a length of time that is a whole number of days, hours, minutes or seconds, if near.

    Clocks that jitter have a mean a little beside what was meant.
    """
    for unit in (DAY, HOUR, 60 * SECOND, SECOND):
        nearest = round(base / unit) * unit
        if nearest and abs(base - nearest) < 0.02 * base:
            return float(nearest)
    return base


def later(step: Step, last: float, count: int) -> float:
    """Return the time some steps after the last."""
    if step.months:
        moment = np.datetime64(int(last), "us")
        within = moment - moment.astype("datetime64[D]")
        month = moment.astype("datetime64[M]") + count * step.months
        first, end = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]") - 1
        if step.day == 0:
            day = np.busday_offset(first, 0, roll="forward")
        elif step.day == 32:
            day = np.busday_offset(end, 0, roll="backward")
        else:
            day = min(first + (step.day - 1), end)
        return int((day.astype("datetime64[us]") + within).astype(np.int64))
    if step.weekmask:
        moment = np.datetime64(int(last), "us")
        day = moment.astype("datetime64[D]")
        shifted = np.busday_offset(day, count, roll="forward", weekmask=list(step.weekmask))
        return int(last) + int((shifted - day).astype(np.int64)) * DAY
    return last + count * step.length
