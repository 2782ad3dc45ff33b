"""The steps between times: what they are, where rows are missing, and which times come next."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.tables.times.steps import (
    DAY,
    EPOCH,
    HOUR,
    Step,
    later,
    length_in_words,
    rounded,
    weekdays_in_words,
)

EVEN, UNEVEN = True, False
_MONTHS = {1: "monthly", 3: "quarterly", 12: "yearly"}
_SEASONS = {1: 12, 3: 4}
_VARIES = -1
_LEAST = 14
"""From so many days on, days of the week that never occur are no accident."""


class Spacing(NamedTuple):
    """What is known of the steps between the times of a series.

    Attributes
    ----------
    description : str
        In words: "monthly", "every 10 minutes", "business days".
    even : bool
        Whether all steps are the same; otherwise the times are labels, and nothing more.
    season : int or None
        How many steps a natural cycle has: 12 for months, 7 for days, 24 for hours.
    missing : tuple of (int, int)
        The rows after a gap, and how many are missing there.
    step : Step or None
        None: irregular, nobody knows what comes next.
    last : float
        The last time: a number, or microseconds since 1970 as clocks there showed them.
    write : callable
        Writes a time as the file does.
    """

    description: str
    even: bool
    season: int | None
    missing: tuple[tuple[int, int], ...]
    step: Step | None
    last: float
    write: Callable[[float], str]

    def future(self, steps: int) -> tuple[str, ...]:
        """Return the times of the next steps as the file would write them; empty if unknown."""
        if self.step is None:
            return ()
        try:
            return tuple(self.write(later(self.step, self.last, k)) for k in range(1, steps + 1))
        except (OverflowError, ValueError):
            # After the year 9999 there are no dates.
            return ()


def spacing_of_numbers(
    ticks: HostArray, write: Callable[[float], str], *, unit: float = 0.0
) -> Spacing:
    """Return the spacing of numbers that don't go back; ``unit`` is that of their last digit."""
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return Spacing("one time", EVEN, None, (), None, float(ticks[-1]), write)
    base = float(np.median(steps))
    made = _multiples(np.diff(ticks), base, max(0.01 * base, unit))
    step, last = Step(base), float(ticks[-1])
    years = base == 1 and unit == 0 and np.all((ticks >= 1000) & (ticks < 3000))
    what = "yearly" if years else f"steps of {base:g}"
    if made is not None:
        return Spacing(what, not made, None, made, step, last, write)
    made = _multiples(np.diff(ticks), base, 0.3 * base)
    if made is not None:
        return Spacing(f"about {what}", UNEVEN, None, made, step, last, write)
    return Spacing("irregular", UNEVEN, None, (), None, last, write)


def spacing_of_dates(ticks: HostArray, wall: HostArray, write: Callable[[float], str]) -> Spacing:
    """Return the spacing of dates that don't go back.

    Parameters
    ----------
    ticks : host array, (N,), int64
        Microseconds since 1970.
    wall : host array, (N,), int64
        The same as clocks there showed them.
    write : callable
        Writes a date, from what clocks show.
    """
    last = int(wall[-1])
    steps = np.diff(ticks)
    if not np.any(steps > 0):
        return Spacing("one time", EVEN, None, (), None, last, write)
    base = float(np.median(steps[steps > 0]))
    step = Step(base)
    for read in (ticks, wall):
        if _multiples(np.diff(read), base, 0.01 * base) == ():
            months = _months(wall)
            # Steps of equal months may be equal in days, too: three months that begin a year.
            if months is None or base < 27 * DAY or len(ticks) < 3:
                return Spacing(length_in_words(base), EVEN, _season(step), (), step, last, write)
    months = _months(wall)
    if months is not None:
        step, missing = months
        name = _MONTHS.get(step.months, f"every {step.months} months")
        if step.day == _VARIES:
            step = step._replace(day=(EPOCH + timedelta(microseconds=last)).day)
            name += " on different days"
        season = _SEASONS.get(step.months)
        return Spacing(name, not missing, season, missing, step, last, write)
    week = _week(wall, base)
    if week is not None:
        mask, missing = week
        step = Step(base, weekmask=mask)
        name = "business days" if mask == (True,) * 5 + (False,) * 2 else weekdays_in_words(mask)
        return Spacing(name, not missing, sum(mask), missing, step, last, write)
    for read in (ticks, wall):
        made = _multiples(np.diff(read), base, 0.01 * base)
        if made is not None:
            return Spacing(length_in_words(base), not made, _season(step), made, step, last, write)
    made = _multiples(steps, base, 0.3 * base)
    if made is not None:
        base = rounded(float(np.mean(steps[(steps > 0.7 * base) & (steps < 1.3 * base)])))
        step, about = Step(base), f"about {length_in_words(base)}"
        return Spacing(about, UNEVEN, _season(step), made, step, last, write)
    return Spacing("irregular", UNEVEN, None, (), None, last, write)


def clock_changes(wall: HostArray) -> tuple[HostArray, list[int]]:
    """Return times of clocks that were put forward and back as if they had not been.

    Where a row of the spring is one hour too late, the rows from there on are put back by an hour;
    where one of the autumn shows a time for the second time, forward.

    Returns
    -------
    ticks : host array, (N,), int64
    changes : list of int
        The rows after each change.
    """
    steps = np.diff(wall)
    known = steps[steps > 0]
    if len(known) == 0:
        return wall, []
    base = float(np.median(known))
    if not 0 < base <= HOUR:
        return wall, []
    candidates = np.flatnonzero((steps == base + HOUR) | (steps == base - HOUR))
    changes = [int(k) + 1 for k in candidates if _at_a_change(int(wall[k]))]
    ticks = wall.copy()
    for k in changes:
        ticks[k:] -= int(steps[k - 1] - base)
    return ticks, changes


def _at_a_change(tick: int) -> bool:
    date = EPOCH + timedelta(microseconds=tick)
    return date.month in (3, 4, 9, 10, 11) and (
        (date.weekday() == 6 and date.hour <= 3) or (date.weekday() == 5 and date.hour == 23)
    )


def _multiples(
    steps: HostArray, base: float, tolerance: float
) -> tuple[tuple[int, int], ...] | None:
    """Return where steps are several times the base; None if they are not multiples of it.

    Steps of zero, of rows with the same time, are left aside.
    """
    counts = np.round(steps / base)
    if np.any(np.abs(steps - counts * base) > tolerance) or np.any(counts[steps != 0] < 1):
        return None
    return tuple((int(k) + 1, int(counts[k]) - 1) for k in np.flatnonzero(counts > 1))


def _months(wall: HostArray) -> tuple[Step, tuple[tuple[int, int], ...]] | None:
    """Return the step of dates that are months apart, and the gaps."""
    dates = wall.astype("datetime64[us]")
    month = dates.astype("datetime64[M]").astype(np.int64)
    steps = np.diff(month)
    if len(steps) == 0 or np.any((steps <= 0) & (np.diff(wall) != 0)):
        return None
    base = int(np.median(steps[steps > 0])) if np.any(steps > 0) else 0
    if base == 0:
        return None
    missing = _multiples(steps.astype(np.float64), base, 0.0)
    if missing is None:
        return None
    day = _day_of_month(dates)
    if day is None:
        if len(wall) < 5 or np.any(steps == 0):
            return None
        day = _VARIES
    return Step(30.44 * DAY * base, base, day), missing


def _day_of_month(dates: HostArray) -> int | None:
    """Return the day on which all dates fall in their months, as `Step` has it; None: none."""
    if len(set((dates - dates.astype("datetime64[D]")).tolist())) > 1:
        return None
    days, starts = dates.astype("datetime64[D]"), dates.astype("datetime64[M]")
    first, end = starts.astype("datetime64[D]"), (starts + 1).astype("datetime64[D]") - 1
    number = (days - first).astype(np.int64) + 1
    largest = int(number.max())
    # The 30th of February is its last day.
    if np.all((number == largest) | ((days == end) & (number < largest))):
        return 31 if np.all(days == end) else largest
    if np.all(days == np.busday_offset(end, 0, roll="backward")):
        return 32
    if np.all(days == np.busday_offset(first, 0, roll="forward")):
        return 0
    return None


def _week(
    wall: HostArray, base: float
) -> tuple[tuple[bool, ...], tuple[tuple[int, int], ...]] | None:
    """Return the days of the week that occur, and where some are missing."""
    days = wall.astype("datetime64[us]").astype("datetime64[D]")
    if base != DAY or len(wall) < 4 or np.any(np.diff(wall) % DAY):
        return None
    weekday = (days.astype(np.int64) + 3) % 7
    mask = tuple(bool(np.any(weekday == k)) for k in range(7))
    business = mask[:5] == (True,) * 5 and not any(mask[5:])
    if all(mask) or (len(wall) < _LEAST and not business):
        return None
    # More days of each than one: else any seven-day week with a gap would do.
    counts = np.busday_count(days[:-1], days[1:], weekmask=list(mask))
    missing = tuple((int(k) + 1, int(counts[k]) - 1) for k in np.flatnonzero(counts > 1))
    return (mask, missing) if len(missing) < len(wall) / 4 else None


def _season(step: Step) -> int | None:
    if step.length == DAY:
        return 7
    if step.length < DAY and DAY % step.length == 0:
        return int(DAY // step.length)
    return None
