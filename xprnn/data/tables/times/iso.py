"""Dates in ISO 8601, which need no other library."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from xprnn.backend.host.arrays import np
from xprnn.data.tables.times.steps import EPOCH
from xprnn.data.tables.times.style import Dates, Style

_COMPACT = {
    6: "%Y%m",
    8: "%Y%m%d",
    10: "%Y%m%d%H",
    12: "%Y%m%d%H%M",
    14: "%Y%m%d%H%M%S",
}
# Python also reads an hour with any digits after it.
_ISO = re.compile(
    r"\d{4}-?(\d{2}|W\d{2})(-?\d{1,2})?([^\d](\d{2}:?\d{2}(:?\d{2}([.,]\d{1,9})?)?|\d{2})"
    r"(Z|[+-]\d{2}(:?\d{2})?)?)?$"
)
_CENTURY = re.compile(r"1[0-9]|2[01]")


def iso_dates(texts: Sequence[str]) -> Dates | None:
    """Return dates in ISO 8601, years and months alone included; None if one is not."""
    if not texts or iso_date(texts[0]) is None:
        return None
    dates = []
    for text in texts:
        date = iso_date(text)
        if date is None:
            return None
        dates.append(date)
    aware = [date.tzinfo is not None for date in dates]
    if any(aware) and not all(aware):
        return None
    shown = [date.replace(tzinfo=UTC) for date in dates]
    wall = np.array([(date - EPOCH) // timedelta(microseconds=1) for date in shown], dtype=np.int64)
    ticks = wall
    if all(aware):
        ticks = np.array(
            [(date - EPOCH) // timedelta(microseconds=1) for date in dates], dtype=np.int64
        )
    return Dates(ticks, wall, _iso_style(texts[-1]))


def compact_dates(texts: Sequence[str]) -> Dates | None:
    """Return dates written as digits alone, such as 195803 or 195803291200; None if one is not."""
    length = len(texts[0])
    if length not in _COMPACT or not all(_CENTURY.match(text) for text in texts):
        return None
    spread = [
        f"{text[:4]}-{text[4:6]}-{text[6:8] or '01'}T{text[8:10] or '00'}"
        f":{text[10:12] or '00'}:{text[12:] or '00'}"
        for text in texts
    ]
    dates = iso_dates(spread)
    return None if dates is None else dates._replace(style=Style(_COMPACT[length]))


def iso_date(text: str) -> datetime | None:
    """Return a date in ISO 8601, a year and a month included; None if it is none."""
    # Four digits are a year, which is a number; "1958-03" is a month, which Python does not parse.
    if (text.isdecimal() and len(text) != 8) or not _ISO.match(text):
        return None
    for candidate in (text, f"{text}-01"):
        try:
            return datetime.fromisoformat(candidate)
        except ValueError:
            continue
    return None


def _iso_style(text: str) -> Style:
    """Return the style of the last of dates in ISO 8601."""
    if re.fullmatch(r"\d{8}", text):
        return Style("%Y%m%d")
    zone = re.search(r"(Z|[+-]\d{2}(:?\d{2})?)$", text[10:])
    suffix = zone[0] if zone else ""
    found = re.fullmatch(
        r"\d{4}(?P<compact>\d{4})?(-\d{2}(?P<day>-\d{2})?)?(?P<gap>[^\d])?(?P<hour>\d{2})?(?P<minute>:\d{2})?"
        r"(?P<second>:\d{2})?(?P<fraction>\.\d+)?",
        text[: len(text) - len(suffix)],
    )
    if not found:
        return Style("%Y-%m-%dT%H:%M:%S", suffix)
    pattern = "%Y%m%d" if found["compact"] else "%Y-%m" + ("-%d" if found["day"] else "")
    pattern += found["gap"] or ""
    pattern += "%H" if found["hour"] else ""
    pattern += ":%M" if found["minute"] else ""
    pattern += ":%S" if found["second"] else ""
    if found["fraction"]:
        pattern += ".%3f" if len(found["fraction"]) == 4 else ".%f"
    return Style(pattern, suffix)
