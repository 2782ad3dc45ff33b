"""Numbers and times in files, and the check that times are evenly spaced."""

import calendar
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted


def parse_number(text: str) -> float | None:
    """Return the number that the text is, which may be infinite or NaN; None if it is none."""
    # Python accepts "1_000" as a number, other programs do not.
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def check_spacing(file: Path, lines: Sequence[int], column: str, times: Sequence[str]) -> None:
    """Refuse times that can't be read or are not evenly spaced; messages cite their ``lines``."""
    readings = _readings(file, lines, column, times)
    if len(times) < 2:
        return
    # One even reading is enough: the first days of months are evenly spaced in months, not in days.
    offenders = [_first_uneven(reading) for reading in readings]
    if None in offenders:
        return
    k = max(offender for offender in offenders if offender is not None)
    problem = "does not go forward" if k == 1 else "differs from the one before"
    raise ValueError(
        f"{str(file)!r}, line {lines[k]}, column {quoted(column)}: the step from "
        f"{quoted(times[k - 1])} to {quoted(times[k])} {problem}: expected evenly spaced rows, as "
        "they are assumed to be if no time column is named"
    )


def _readings(
    file: Path, lines: Sequence[int], column: str, times: Sequence[str]
) -> list[HostArray]:
    """Return the times as numbers, once for each way to read them: in seconds, in months."""
    dates, numbers = [_date(text) for text in times], [parse_number(text) for text in times]
    for line, text, date, number in zip(lines, times, dates, numbers, strict=True):
        if date is None and (number is None or not math.isfinite(number)):
            raise ValueError(
                f"{str(file)!r}, line {line}, column {quoted(column)}: {quoted(text)} is "
                "neither a number nor an ISO 8601 date"
            )
    days = [date for date in dates if date is not None]
    if len(days) == len(times):
        readings = [np.array([(day - days[0]).total_seconds() for day in days])]
        one_day = len({day.day for day in days}) == 1 or all(map(_ends_month, days))
        if one_day and len({day.time() for day in days}) == 1:
            readings.append(np.array([12.0 * day.year + day.month for day in days]))
        return readings
    if None in numbers:
        k = numbers.index(None) if dates[0] is None else dates.index(None)
        raise ValueError(
            f"{str(file)!r}, line {lines[k]}, column {quoted(column)}: {quoted(times[k])} is a "
            f"{'date' if numbers[k] is None else 'number'}, unlike {quoted(times[0])}"
        )
    return [np.array(numbers, dtype=np.float64)]


def _first_uneven(times: HostArray) -> int | None:
    """Return the first index whose step differs from the first step or does not go forward."""
    steps = np.diff(times)
    # Decimals in files are rounded: 0.333, 0.667, 1 is evenly spaced.
    tolerance = 0.01 * abs(steps[0])
    uneven = np.flatnonzero((np.abs(steps - steps[0]) > tolerance) | (steps <= 0))
    return int(uneven[0]) + 1 if len(uneven) else None


def _date(text: str) -> datetime | None:
    # Four digits are a year, which is a number; "1958-03" is a month, which Python does not parse.
    if text.isdecimal() and len(text) != 8:
        return None
    for candidate in (text, f"{text}-01"):
        try:
            date = datetime.fromisoformat(candidate)
        except ValueError:
            continue
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None


def _ends_month(date: datetime) -> bool:
    return date.day == calendar.monthrange(date.year, date.month)[1]
