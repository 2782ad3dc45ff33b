"""The formats that a date may be in, and dates in one of them, which pandas reads."""

import re
from collections.abc import Sequence

from xprnn.backend.host.arrays import np
from xprnn.data.tables.times.iso import iso_date
from xprnn.data.tables.times.months import ENGLISH, english, months_in, months_of
from xprnn.data.tables.times.periods import PERIODS
from xprnn.data.tables.times.style import Dates, Style

PANDAS = 'pip install "xprnn[data]"'
"""What to install for dates that are not in ISO 8601."""
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


def formats(text: str) -> list[str]:
    """Return the formats that one date may be in, as ``strptime`` has them."""
    rest, _ = _without_zone(english(text))
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
    if words and tokens[words[0]] not in ENGLISH:
        return []
    if not words and any(token.isspace() for token in tokens):
        # Numbers side by side.
        return []
    lengths = [len(tokens[k]) for k in numbers]
    leads = bool(words and numbers and words[0] < numbers[0])
    orders = _orders(lengths, text, named=bool(words), leads=leads)
    made = []
    for order in orders:
        parts = list(tokens)
        for k in words:
            parts[k] = "%b"
        for k, code in zip(numbers, order, strict=True):
            parts[k] = code
        made.append("".join(parts))
    return made


def _orders(lengths: list[int], text: str, *, named: bool, leads: bool) -> list[tuple[str, ...]]:
    """Return what the numbers of a date may be.

    Parameters
    ----------
    lengths : list of int
        Their digits.
    text : str
    named : bool
        Whether the month is a name.
    leads : bool
        Whether the month's name is before the first number.
    """
    # Years have four digits, or two like the others.
    kind = tuple("Y" if length == 4 else "n" if length <= 2 else "?" for length in lengths)
    made: list[tuple[str, ...]] = []
    if named:
        if kind == ("Y",):
            made = [("%Y",)]
        elif lengths == [2] and leads:
            made = [("%y",)]
        elif kind in (("Y", "n"), ("n", "Y")):
            made = [("%Y", "%d") if kind[0] == "Y" else ("%d", "%Y")]
        elif kind == ("n", "n"):
            made = [("%d", "%y")]
    elif kind == ("Y", "n", "n"):
        made = [("%Y", "%m", "%d")]
    elif kind == ("n", "n", "Y"):
        made = [("%d", "%m", "%Y"), ("%m", "%d", "%Y")]
    elif kind == ("n", "n", "n"):
        made = [("%d", "%m", "%y"), ("%m", "%d", "%y"), ("%y", "%m", "%d")]
    elif kind in (("Y", "n"), ("n", "Y")):
        made = [("%Y", "%m") if kind[0] == "Y" else ("%m", "%Y")]
    # With full stops nobody writes the month first.
    return made[:1] if "." in text else made


def looks_like_date(text: str) -> bool:
    """Whether a text may be a date: in ISO 8601, a period, or in some other format."""
    if not text or len(text) > 40 or not any(character.isdigit() for character in text):
        return False
    return (
        iso_date(text) is not None
        or any(pattern.fullmatch(text) for pattern, _, _ in PERIODS)
        or any("%d" in found or "%b" in found or "%Y" in found for found in formats(text))
    )


def named_dates(texts: Sequence[str], pattern: str) -> Dates | None:
    """Return dates in one format; None if one is not in it.

    Raises
    ------
    ImportError
        If pandas is missing.
    """
    import pandas as pd

    parts = [_without_zone(english(text)) for text in texts]
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
    style = Style(
        _with_signs(pattern, texts[-1]),
        _zone(texts[-1]) if parts[-1][1] is not None else "",
        months_of(texts),
        padded=not any(re.search(r"(?<![\d:])\d(?![\d:])", text) for text in texts),
        padded_hour=not any(re.search(r"(?<![\d:])\d:", text) for text in texts),
        upper=any(word.isupper() for word in months_in(texts[0])),
    )
    return Dates(wall - offsets, wall, style)


def _with_signs(pattern: str, text: str) -> str:
    """Return a format with the signs for year, month and day of East Asia, if a date has them."""
    for year, month, day in ("年月日", "년월일"):
        if year in text:
            space = " " if f"{year} " in text else ""
            ending = f"{space}%d{day}" if "%d" in pattern else ""
            return f"%Y{year}{space}%m{month}{ending}{''.join(pattern.partition(' ')[1:])}"
    return pattern


def _zone(text: str) -> str:
    found = _ZONE.search(text)
    return found[0] if found else ""


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
