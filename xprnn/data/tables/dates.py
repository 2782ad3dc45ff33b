"""Dates as files write them: which formats they may be in, and reading them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.tables.spacing import EPOCH

PANDAS = 'pip install "xprnn[data]"'
"""What to install for dates that are not in ISO 8601."""

_MONTHS = {
    # English, German, French, Spanish, Italian, Portuguese, Dutch: the letters that tell months
    # apart, after accents are taken off.
    1: ("jan", "ene", "gen"),
    2: ("feb", "fev", "fevr"),
    3: ("mar", "mrz", "maerz", "marz", "mrt", "maart", "mars"),
    4: ("apr", "avr", "abr"),
    5: ("may", "mai", "mag", "mei", "mayo", "maio"),
    6: ("jun", "juin", "giu"),
    7: ("jul", "juil", "lug"),
    8: ("aug", "aou", "ago"),
    9: ("sep", "set"),
    10: ("oct", "okt", "ott", "out"),
    11: ("nov",),
    12: ("dec", "dez", "dic"),
}
_MONTH_OF = {name: k for k, names in _MONTHS.items() for name in names}
_ENGLISH = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_PLAIN = str.maketrans("àáâäãçèéêëìíîïñòóôöõùúûü", "aaaaaceeeeiiiinooooouuuu")
_WEEKDAY = re.compile(
    r"^(mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim)[a-z]*[.,]?\s+",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"(?P<gap>[T ,:]\s*)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?P<second>:\d{2})?"
    r"(?P<fraction>[.,]\d{1,9})?(?P<half>\s*[AaPp]\.?[Mm]\.?)?$"
)
_ZONE = re.compile(r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2}|[A-Z]{3,4})$")
_ZONES = {
    "UTC": 0,
    "GMT": 0,
    "WET": 0,
    "WEST": 1,
    "BST": 1,
    "CET": 1,
    "CEST": 2,
    "MEZ": 1,
    "MESZ": 2,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
    "JST": 9,
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
}
_PERIODS = (
    # Quarters, half-years, weeks, and years that begin in one calendar year and end in the next.
    (re.compile(r"(?P<y>\d{4})\s?[-:./]?\s?[Qq](?P<q>[1-4])"), "{y:04}Q{q}", "q"),
    (re.compile(r"[Qq](?P<q>[1-4])\s?[-:./]?\s?(?P<y>\d{4})"), "Q{q} {y:04}", "q"),
    (re.compile(r"(?P<q>[1-4])\.?\s?[Qq]\s?[-:./]?\s?(?P<y>\d{4})"), "{q}Q{y:04}", "q"),
    (re.compile(r"(?P<y>\d{4})\s?[-:]?\s?[MmTt](?P<m>\d{2})"), "{y:04}M{m:02}", "m"),
    (re.compile(r"(?P<y>\d{4})\s?[-:]?\s?[SsHh](?P<h>[12])"), "{y:04}S{h}", "h"),
    (re.compile(r"(?P<y>\d{4})\s?-?[WwKk][Ww]?(?P<w>\d{2})"), "{y:04}-W{w:02}", "w"),
    (re.compile(r"(?P<y>\d{4})[-/](?P<next>\d{2}|\d{4})"), "{y:04}/{next:02}", "n"),
)


class Dates(NamedTuple):
    """Dates that were read.

    Attributes
    ----------
    ticks : host array, (N,), int64
        Microseconds since 1970, of UTC where the file has a zone.
    wall : host array, (N,), int64
        The same as clocks there showed them.
    style : Style
        How the file writes them.
    """

    ticks: HostArray
    wall: HostArray
    style: "Style"


class Style(NamedTuple):
    """How a file writes dates.

    Attributes
    ----------
    pattern : str
        As ``strftime`` has it, or as one of the periods above.
    offset : int
        The microseconds by which the last date's clock was ahead of UTC.
    suffix : str
        The zone, as it is written.
    months : tuple of str
        The names of the months, if they are not English.
    padded : bool
        Whether days and months below 10 have a zero before them.
    upper : bool
        Whether names of months are in capitals.
    """

    pattern: str
    offset: int = 0
    suffix: str = ""
    months: tuple[str, ...] = ()
    padded: bool = True
    upper: bool = False

    def write(self, tick: float) -> str:
        """Return a date as the file would write it, from microseconds."""
        date = EPOCH + timedelta(microseconds=int(tick) + self.offset)
        if "{" in self.pattern:
            return self.pattern.format(
                y=date.isocalendar().year if "w" in self.pattern else date.year,
                q=(date.month + 2) // 3,
                m=date.month,
                h=(date.month + 5) // 6,
                w=date.isocalendar().week,
                next=(date.year + 1) % 100,
            )
        pattern = self.pattern.replace("%Y", f"{date.year:04}")
        for code, names in (("%b", _ENGLISH), ("%B", _FULL)):
            name = (self.months or names)[date.month - 1]
            pattern = pattern.replace(code, name.upper() if self.upper else name)
        if not self.padded:
            for code, number in (("%d", date.day), ("%m", date.month), ("%H", date.hour)):
                pattern = pattern.replace(code, str(number))
        if "%3f" in pattern:
            pattern = pattern.replace("%3f", f"{date.microsecond // 1000:03}")
        return date.strftime(pattern) + self.suffix


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
    return Dates(ticks, wall, _iso_style(texts[-1], int(wall[-1] - ticks[-1])))


def iso_date(text: str) -> datetime | None:
    """Return a date in ISO 8601, a year and a month included; None if it is none."""
    # Four digits are a year, which is a number; "1958-03" is a month, which Python does not parse.
    if text.isdecimal() and len(text) != 8:
        return None
    for candidate in (text, f"{text}-01"):
        try:
            return datetime.fromisoformat(candidate)
        except ValueError:
            continue
    return None


def formats(text: str) -> list[str]:
    """Return the formats that one date may be in, as ``strptime`` has them."""
    rest, _ = _without_zone(_english(text))
    clock, found = "", _TIME.search(rest)
    if found:
        rest = rest[: found.start()]
        hour = "%I" if found["half"] else "%H"
        clock = found["gap"] + hour + ":%M" + (":%S" if found["second"] else "")
        if found["fraction"]:
            clock += found["fraction"][0] + "%f"
        if found["half"]:
            clock += found["half"][: -len(found["half"].strip())] + "%p"
    return [f"{date}{clock}" for date in _date_formats(rest)]


def _date_formats(text: str) -> list[str]:
    """Return the formats that a date without a clock may be in."""
    tokens = re.findall(r"\d+|[^\W\d_]+|[\W_]+", text)
    words = [k for k, token in enumerate(tokens) if token.isalpha()]
    numbers = [k for k, token in enumerate(tokens) if token.isdecimal()]
    if len(words) > 1 or any(token in "%" for token in tokens):
        return []
    if words and tokens[words[0]] not in _ENGLISH:
        return []
    lengths = [len(tokens[k]) for k in numbers]
    named = bool(words)
    orders = _orders(lengths, named, text, words, numbers)
    made = []
    for order in orders:
        parts = list(tokens)
        for k in words:
            parts[k] = "%b"
        for k, code in zip(numbers, order, strict=True):
            parts[k] = code
        made.append("".join(parts))
    return made


def _orders(
    lengths: list[int], named: bool, text: str, words: list[int], numbers: list[int]
) -> list[tuple[str, ...]]:
    """Return what the numbers of a date may be."""
    if named:
        table = {
            (4,): [("%Y",)],
            (2,): [("%y",)] if numbers[0] > words[0] else [],
        }
        if tuple(lengths) in table:
            return table[(lengths[0],)]
        if len(lengths) == 2 and max(lengths) == 4 and min(lengths) <= 2:
            return [("%Y", "%d")] if lengths[0] == 4 else [("%d", "%Y")]
        if len(lengths) == 2 and max(lengths) <= 2:
            return [("%d", "%y")]
        return []
    if len(lengths) == 3 and lengths[0] == 4 and max(lengths[1:]) <= 2:
        return [("%Y", "%m", "%d")]
    if len(lengths) == 3 and lengths[2] == 4 and max(lengths[:2]) <= 2:
        # With full stops nobody writes the month first.
        first = [("%d", "%m", "%Y")]
        return first if "." in text else [*first, ("%m", "%d", "%Y")]
    if len(lengths) == 3 and max(lengths) <= 2:
        two = [("%d", "%m", "%y")]
        return two if "." in text else [*two, ("%m", "%d", "%y"), ("%y", "%m", "%d")]
    if len(lengths) == 2 and lengths[0] == 4 and lengths[1] <= 2:
        return [("%Y", "%m")]
    if len(lengths) == 2 and lengths[1] == 4 and lengths[0] <= 2:
        return [("%m", "%Y")]
    if len(lengths) == 1:
        whole = {6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
        return [(whole[lengths[0]],)] if lengths[0] in whole else []
    return []


def looks_like_date(text: str) -> bool:
    """Whether a text may be a date: in ISO 8601, a period, or in some other format."""
    if not text or len(text) > 40 or not any(character.isdigit() for character in text):
        return False
    return (
        iso_date(text) is not None
        or any(pattern.fullmatch(text) for pattern, _, _ in _PERIODS)
        or any("%d" in found or "%b" in found or "%Y" in found for found in formats(text))
    )


def periods(texts: Sequence[str]) -> Dates | None:
    """Return quarters, half-years, weeks or years of two halves; None if they are none."""
    if not texts:
        return None
    for pattern, write, kind in _PERIODS:
        if not pattern.fullmatch(texts[0]):
            continue
        found = [pattern.fullmatch(text) for text in texts]
        wall = _starts([match.groupdict() for match in found if match is not None], kind)
        if None in found or wall is None:
            continue
        return Dates(wall, wall, Style(_like(texts[-1], write, kind)))
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


def _like(text: str, write: str, kind: str) -> str:
    """Return the pattern of a period, with the signs between its numbers as the text has them."""
    if kind == "n":
        separator = "-" if "-" in text else "/"
        return write.replace("/", separator) if len(text) < 8 else "{y:04}" + separator + "{next4}"
    pieces = re.findall(r"\d+|\D+", text)
    codes = re.findall(r"\{[^}]*\}", write)
    names = iter(codes)
    return "".join(next(names) if piece.isdigit() else piece for piece in pieces)


def named_dates(texts: Sequence[str], pattern: str) -> Dates | None:
    """Return dates in one format; None if one is not in it.

    Raises
    ------
    ImportError
        If pandas is missing.
    """
    import pandas as pd

    english = [_english(text) for text in texts]
    parts = [_without_zone(text) for text in english]
    if len({offset is None for _, offset in parts}) > 1:
        return None
    bare = [text for text, _ in parts]
    if "%p" in pattern:
        bare = [re.sub(r"([AaPp])\.?[Mm]\.?$", r"\1M", text) for text in bare]
    if "," in pattern and "%f" in pattern and pattern.rindex(",") == pattern.index("%f") - 1:
        bare = [text[::-1].replace(",", ".", 1)[::-1] for text in bare]
        pattern = pattern.replace(",%f", ".%f")
    try:
        read = pd.to_datetime(pd.Series(bare, dtype=object), format=pattern, errors="raise")
    except (ValueError, OverflowError):
        # Full names of months: March beside Mar.
        return None
    wall = read.to_numpy().astype("datetime64[us]").astype(np.int64)
    offsets = np.array([offset or 0 for _, offset in parts], dtype=np.int64)
    last = texts[-1]
    suffix = last[len(last.rstrip()) - len(english[-1]) + len(bare[-1]) :]
    zone = _ZONE.search(english[-1]) if parts[-1][1] is not None else None
    style = Style(
        pattern,
        int(offsets[-1]),
        zone[0] if zone else "",
        _months_of(texts),
        not any(re.search(r"(?<!\d)\d(?!\d)", text) for text in texts),
        any(re.search(r"[A-Z]{3}", text) for text in texts[:1]),
    )
    del suffix
    return Dates(wall - offsets, wall, style)


def _without_zone(text: str) -> tuple[str, int | None]:
    """Return a date without its zone, and the microseconds that it is ahead of UTC."""
    found = _ZONE.search(text)
    if not found or ":" not in text[: found.start()]:
        return text, None
    zone = found["zone"]
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        hours = minutes / 60 * (1 if zone[0] == "+" else -1)
    elif zone == "Z":
        hours = 0.0
    elif zone in _ZONES:
        hours = _ZONES[zone]
    else:
        return text, None
    return text[: found.start()], int(hours * 3_600_000_000)


def _english(text: str) -> str:
    """Return a date with the English name of its month, without that of the day of the week."""
    text = _WEEKDAY.sub("", text.strip())
    if "年" in text or "년" in text:
        text = re.sub(r"[年月년월]\s*(?=\d)", "-", text)
        text = re.sub(r"[年月日년월일]\s*", " ", text).strip()
    return re.sub(r"[^\W\d_]{3,}\.?", lambda found: _english_month(found[0]), text)


def _english_month(word: str) -> str:
    number = _month_of(word)
    return word if number is None else _ENGLISH[number - 1]


def _month_of(word: str) -> int | None:
    plain = word.rstrip(".").lower().translate(_PLAIN)
    for length in (5, 4, 3):
        found = _MONTH_OF.get(plain[:length])
        if found is not None:
            return found
    return None


def _months_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all months as they are written; empty if they are not all there."""
    names: dict[int, str] = {}
    for text in texts[:400]:
        for word in re.findall(r"[^\W\d_]{3,}\.?", _WEEKDAY.sub("", text)):
            number = _month_of(word)
            if number is not None:
                names.setdefault(number, word)
    return tuple(names[k] for k in range(1, 13)) if len(names) == 12 else ()


def _iso_style(text: str, offset: int) -> Style:
    """Return the style of the last of dates in ISO 8601."""
    if re.fullmatch(r"\d{8}", text):
        return Style("%Y%m%d")
    zone = re.search(r"(Z|[+-]\d{2}(:?\d{2})?)$", text[10:])
    suffix = zone[0] if zone else ""
    found = re.fullmatch(
        r"\d{4}-\d{2}(?P<day>-\d{2})?(?P<gap>[^\d])?(?P<hour>\d{2})?(?P<minute>:\d{2})?"
        r"(?P<second>:\d{2})?(?P<fraction>\.\d+)?",
        text[: len(text) - len(suffix)],
    )
    if not found:
        return Style("%Y-%m-%dT%H:%M:%S", offset, suffix)
    pattern = "%Y-%m" + ("-%d" if found["day"] else "") + (found["gap"] or "")
    pattern += "%H" if found["hour"] else ""
    pattern += ":%M" if found["minute"] else ""
    pattern += ":%S" if found["second"] else ""
    if found["fraction"]:
        pattern += ".%3f" if len(found["fraction"]) == 4 else ".%f"
    return Style(pattern, offset, suffix)
