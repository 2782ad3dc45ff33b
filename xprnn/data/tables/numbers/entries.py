"""Single numbers as people and programs write them, taken apart."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

MISSING = frozenset(
    (
        *("", "na", "nan", "n/a", "n.a.", "null", "none", "nil", "missing", "nodata", "no data"),
        *("-", "--", "---", "–", "—", "?", ".", "..", "...", "…", ":", "\\n"),
        *("#n/a", "#nv", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#wert!"),
        *(
            "#bezug!",
            "#zahl!",
            "#n/d",
            "#nombre?",
            "#valeur!",
            "<na>",
            "-nan",
            "#n/a n/a",
            "1.#qnan",
        ),
    )
)
"""Entries that stand for a missing value, in small letters."""
_SPACES = "\u00a0\u1680\u2002\u2003\u2007\u2009\u200a\u200b\u202f\u2060\u3000\ufeff"
_SIGNS = str.maketrans(
    {
        **dict.fromkeys(_SPACES, " "),
        **dict.fromkeys("−﹣－‐‑‒–", "-"),
        **dict.fromkeys("’‘´`ʼ＇", "'"),
        "٫": ".",
        "٬": "'",
        "＋": "+",
        "．": ".",
        "，": ",",
    }
)
_CURRENCY = (
    r"(?:US\$|R\$|A\$|C\$|HK\$|NZ\$|S\$|[$€£¥₹₽₩₺₴₪₫฿₱元円]|zł|kr\.?|Kč|Ft|lei|Fr\.|SFr\.?|Rs\.?|"
    r"USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|RUB|TRY|KRW)"
)
_FORM = re.compile(
    rf"(?P<outside>{_CURRENCY}(?=\s*\())?\s*(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[+-])?\s*"
    r"(?P<digits>[\d.,' ]*\d[.,]?)(?P<exponent>[eEdD][+-]?\d{1,4})?"
    rf"(?:\s*(?P<trailing>-))?(?P<after>\s*(?:{_CURRENCY}))?(?P<unit>\s*[^\d\s().,'+-][^\d()]{{0,14}}[²³]?"
    r"(?:\s*\([^)]{1,12}\))?)?\s*(?P<close>\))?"
)
_SCALES = {
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "B": 1e9,
    "T": 1e12,
    "mn": 1e6,
    "bn": 1e9,
    "tn": 1e12,
    "Tsd.": 1e3,
    "Tsd": 1e3,
    "Mio.": 1e6,
    "Mio": 1e6,
    "Mrd.": 1e9,
    "Mrd": 1e9,
    "Mia.": 1e9,
    "million": 1e6,
    "billion": 1e9,
    "万": 1e4,
    "億": 1e8,
    "亿": 1e8,
}


class Parts(NamedTuple):
    """A number, taken apart: its digits with their signs, and what is around them."""

    digits: str
    negative: bool
    exponent: str
    scale: float
    unit: str
    scaled: str


def plain_number(text: str) -> float | None:
    """Return the number that Python reads in a text, which may be infinite or NaN."""
    # Python accepts "1_000" as a number, other programs do not.
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def is_missing(text: str, na: Sequence[str] = ()) -> bool:
    """Whether an entry stands for a missing value."""
    if text.lower() in MISSING or text in na:
        return True
    return bool(na) and plain_number(text) in [plain_number(entry) for entry in na if entry]


def looks_like_number(text: str) -> bool:
    """Whether a text may be a number, in some notation, with some unit."""
    value = plain_number(text)
    if value is not None:
        return not math.isnan(value)
    if len(text) > 60:
        return False
    found = _FORM.fullmatch(_clean(text))
    return found is not None and bool(found["open"]) == bool(found["close"])


def parts_of(text: str) -> Parts | None:
    """Return a number taken apart; None if it is none."""
    if len(text) > 200:
        return None
    found = _FORM.fullmatch(_clean(text))
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    signs = [found[name] for name in ("sign", "sign2", "trailing") if found[name]]
    if len(signs) > 1 or (signs and found["open"]):
        return None
    unit, scale, scaled = (found["unit"] or "").strip(), 1.0, ""
    first = unit.split(" ")[0]
    # "293 K" are kelvins, "293K" are thousands.
    if first in _SCALES and (len(first) > 1 or not (found["unit"] or " ").startswith(" ")):
        scale, scaled, unit = _SCALES[first], first, unit[len(first) :].strip()
    currency = (found["outside"] or found["before"] or found["after"] or "").strip()
    negative = bool(found["open"]) or "-" in signs
    exponent = (found["exponent"] or "").lower().replace("d", "e")
    return Parts(found["digits"].strip(), negative, exponent, scale, unit or currency, scaled)


def _clean(text: str) -> str:
    """Return a text with plain signs, without what spreadsheets put around numbers."""
    text = text.translate(_SIGNS).strip()
    if text.startswith('="') and text.endswith('"'):
        text = text[2:-1].strip()
    if text.startswith("'") and len(text) > 1:
        text = text[1:]
    return text
