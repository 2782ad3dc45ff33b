"""Quarters, half-years, weeks, and years that begin in one calendar year and end in the next."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.tables.times.steps import EPOCH
from xprnn.data.tables.times.style import Dates, Style

PERIODS = (
    # Quarters, half-years, weeks, and years that begin in one calendar year and end in the next.
    (re.compile(r"(?P<y>\d{4})\s?[-:./]?\s?[Qq](?P<q>[1-4])"), "{y:04}Q{q}", "q"),
    (re.compile(r"[Qq](?P<q>[1-4])\s?[-:./]?\s?(?P<y>\d{4})"), "Q{q} {y:04}", "q"),
    (re.compile(r"(?P<q>[1-4])\.?\s?[Qq]\s?[-:./]?\s?(?P<y>\d{4})"), "{q}Q{y:04}", "q"),
    (re.compile(r"(?P<y>\d{4})\s?[-:]?\s?[MmTt](?P<m>\d{1,2})"), "{y:04}M{m:02}", "m"),
    (re.compile(r"(?P<y>\d{4})\s?[-:]?\s?[SsHh](?P<h>[12])"), "{y:04}S{h}", "h"),
    (re.compile(r"(?P<y>\d{4})\s?-?[WwKk][Ww]?(?P<w>\d{2})"), "{y:04}-W{w:02}", "w"),
    (re.compile(r"(?P<y>\d{4})[-/](?P<next>\d{2}|\d{4})"), "{y:04}/{next:02}", "n"),
)


def periods(texts: Sequence[str]) -> Dates | None:
    """Return quarters, half-years, weeks or years of two halves; None if they are none."""
    if not texts:
        return None
    for pattern, write, kind in PERIODS:
        if not pattern.fullmatch(texts[0]) or (kind == "n" and len(set(texts)) < 2):
            # 2000-01 alone is a month.
            continue
        found = [pattern.fullmatch(text) for text in texts]
        wall = _starts([match.groupdict() for match in found if match is not None], kind)
        if None in found or wall is None:
            continue
        return Dates(wall, wall, Style(_like(texts, write, kind)))
    return None


def _starts(groups: list[dict[str, Any]], kind: str) -> HostArray | None:
    """Return when periods begin, in microseconds."""
    starts = []
    for group in groups:
        year = int(group["y"])
        try:
            if kind == "w":
                start = datetime.fromisocalendar(year, int(group["w"]), 1)
            else:
                if kind == "n" and (year + 1) % 100 != int(group["next"]) % 100:
                    return None
                month = {"q": 3, "h": 6}.get(kind, 1) * (int(group.get(kind) or 1) - 1) + 1
                start = datetime(year, 1 if kind == "n" else month, 1)
        except ValueError:
            return None
        starts.append((start.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1))
    return np.array(starts, dtype=np.int64)


def _like(texts: Sequence[str], write: str, kind: str) -> str:
    """Return the pattern of periods, with the signs between numbers that the texts have."""
    text = texts[-1]
    if kind == "m" and len({len(text) for text in texts}) > 1:
        write = write.replace("{m:02}", "{m}")
    if kind == "n":
        separator = "-" if "-" in text else "/"
        return (
            write.replace("/", separator) if len(text) < 8 else f"{{y:04}}{separator}{{next4:04}}"
        )
    pieces = re.findall(r"\d+|\D+", text)
    codes = re.findall(r"\{[^}]*\}", write)
    names = iter(codes)
    return "".join(next(names) if piece.isdigit() else piece for piece in pieces)
