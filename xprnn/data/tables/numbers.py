"""Numbers as people and programs write them: which signs mean what, and reading them.

A column has one meaning of ``.`` and ``,``, which is found from all its entries; where two meanings
are possible, it is asked for.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted

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

_SPACES = "    \u2002\u2003\u2009\u200a\u200b\u2060\ufeff"
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
    rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[+-])?\s*"
    r"(?P<digits>[\d.,' ]*\d[.,]?)(?P<exponent>[eEdD][+-]?\d{1,4})?"
    rf"\s*(?P<trailing>-)?(?P<after>\s*(?:{_CURRENCY}))?(?P<unit>\s*[^\d\s().,'+-][^\d()]{{0,14}}[²³]?"
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
_GROUPS = re.compile(r"\d{1,3}(?P<sign>[.,' ])\d{3}(?:(?P=sign)\d{3})*")
_LAKH = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}")
_SENTINELS = (99.0, 99.9, 99.99, 999.0, 999.9, 999.99, 9999.0, 9999.9, 9999.99, 99999.0, 999999.0)


class Unclear(NamedTuple):
    """Numbers that can be read in two ways, and an entry that shows it."""

    sign: str
    index: int


class Signs(NamedTuple):
    """The meaning of the signs in a column of numbers; None: does not occur."""

    decimal: str | None = None
    thousands: str | None = None


class Numbers(NamedTuple):
    """A column of numbers.

    Attributes
    ----------
    values : host array, (N,), float64
        NaN where a value is missing.
    signs : Signs
    notes : tuple of str
        What was found, for the user.
    """

    values: HostArray
    signs: Signs
    notes: tuple[str, ...]


class NotNumbersError(ValueError):
    """An entry that is no number.

    Attributes
    ----------
    index : int or None
        Of the entry; None: the whole column.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


def plain_number(text: str) -> float | None:
    """Return the number that Python reads in a text, which may be infinite or NaN."""
    # Python accepts "1_000" as a number, other programs do not.
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def is_missing(text: str, na: Sequence[str] = ()) -> bool:
    """Whether an entry stands for a missing value."""
    return text.lower() in MISSING or text in na


def looks_like_number(text: str) -> bool:
    """Whether a text may be a number, in some notation, with some unit."""
    value = plain_number(text)
    if value is not None:
        return not math.isnan(value)
    if len(text) > 60:
        return False
    found = _FORM.fullmatch(_clean(text))
    return found is not None and bool(found["open"]) == bool(found["close"])


def read_numbers(
    texts: Sequence[str],
    *,
    given: Signs = Signs(),
    others: Sequence[Sequence[str]] = (),
    semicolon_delimited: bool = False,
    likely: Mapping[str, str] | None = None,
    na: Sequence[str] = (),
) -> Numbers:
    """Return the numbers of a column.

    Parameters
    ----------
    texts : sequence of str
        The entries.
    given : Signs
        What the user said of the signs; "" for thousands: there are none.
    others : sequence of sequence of str
        Other columns of the file, which may show what this one leaves open.
    semicolon_delimited : bool
        Whether semicolons stand between the fields, as where commas stand before decimals.
    likely : mapping, optional
        ``decimal`` and ``thousands`` of an earlier file of the same kind.
    na : sequence of str
        Further entries that stand for a missing value.

    Raises
    ------
    NotNumbersError
        If an entry is no number, or entries can be read in two ways.
    """
    missing = np.array([is_missing(text, na) for text in texts], dtype=bool)
    kept = [text for text, absent in zip(texts, missing, strict=True) if not absent]
    where = np.flatnonzero(~missing)
    if not kept:
        raise NotNumbersError("there is no value, all entries are missing")
    values = np.full(len(texts), np.nan)
    quick = _quick(kept) if given == Signs() else None
    if quick is not None:
        values[where] = quick
        return Numbers(values, Signs("."), _suspicious(quick))
    parts = [_parts(text) for text in kept]
    wrong = [k for k, part in enumerate(parts) if part is None]
    if wrong:
        entry = kept[wrong[0]]
        finite = "finite " if plain_number(entry) is not None else ""
        raise NotNumbersError(f"{quoted(entry)} is not a {finite}number", int(where[wrong[0]]))
    digits = [part.digits for part in parts if part is not None]
    signs = _signs(digits, given)
    if isinstance(signs, Unclear):
        signs = _settled(digits, signs, others, semicolon_delimited, likely or {})
        if isinstance(signs, Unclear):
            entry = kept[signs.index]
            raise NotNumbersError(
                _question(entry, digits[signs.index], signs.sign), int(where[signs.index])
            )
    read = np.empty(len(kept))
    for k, part in enumerate(parts):
        assert part is not None
        value = _value(part, signs)
        if value is None:
            raise NotNumbersError(
                f"{quoted(kept[k])} is not a number with {_in_words(signs)}", int(where[k])
            )
        if not math.isfinite(value):
            raise NotNumbersError(f"{quoted(kept[k])} is not a finite number", int(where[k]))
        read[k] = value
    units = Counter(part.unit for part in parts if part is not None)
    notes = _notes(units, parts, signs)
    if len(units) > 1:
        (common, _), (rare, _), *_ = units.most_common()
        k = next(k for k, part in enumerate(parts) if part is not None and part.unit == rare)
        raise NotNumbersError(
            f"{quoted(kept[k])} has {'the unit ' + quoted(rare) if rare else 'no unit'}, and others "
            f"have {'the unit ' + quoted(common) if common else 'none'}",
            int(where[k]),
        )
    values[where] = read
    return Numbers(values, signs, (*notes, *_suspicious(read)))


class _Parts(NamedTuple):
    """A number, taken apart: its digits with their signs, and what is around them."""

    digits: str
    negative: bool
    exponent: str
    scale: float
    unit: str
    scaled: str


def _clean(text: str) -> str:
    """Return a text with plain signs, without what spreadsheets put around numbers."""
    text = text.translate(_SIGNS).strip()
    if text.startswith('="') and text.endswith('"'):
        text = text[2:-1].strip()
    if text.startswith("'") and len(text) > 1:
        text = text[1:]
    return text


def _parts(text: str) -> _Parts | None:
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
    currency = (found["before"] or found["after"] or "").strip()
    negative = bool(found["open"]) or "-" in signs
    exponent = (found["exponent"] or "").lower().replace("d", "e")
    return _Parts(found["digits"].strip(), negative, exponent, scale, unit or currency, scaled)


def _quick(texts: Sequence[str]) -> HostArray | None:
    """Return the numbers if they are plain ones, in which nothing is to be found out."""
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        return None
    doubtful = any(_GROUPS.fullmatch(text.lstrip("+-")) for text in texts)
    return None if doubtful or any("_" in text for text in texts) else _finite(values, texts)


def _finite(values: HostArray, texts: Sequence[str]) -> HostArray | None:
    return values if np.all(np.isfinite(values)) else None


def _signs(digits: Sequence[str], given: Signs) -> Signs | Unclear:
    """Return what the signs mean in all entries; one that has two meanings, if one has."""
    if given.decimal is not None and given.thousands is not None:
        return given
    if given.thousands:
        other = {".": ",", ",": "."}.get(given.thousands)
        return Signs(other or (_only(digits, given.thousands) or "."), given.thousands)
    if given.decimal is not None:
        return Signs(given.decimal, _grouping(digits, given.decimal))
    decimal: dict[str, int] = {}
    groups: dict[str, int] = {}
    unclear: dict[str, int] = {}
    for k, text in enumerate(digits):
        present = [sign for sign in ".,' " if sign in text]
        if "." in present and "," in present:
            last = max(present, key=text.rindex)
            decimal.setdefault(last, k)
            groups.setdefault("." if last == "," else ",", k)
            continue
        for sign in present:
            if sign in "' " or text.count(sign) > 1:
                groups.setdefault(sign, k)
            elif _GROUPS.fullmatch(text) and not text.startswith("0"):
                unclear.setdefault(sign, k)
            else:
                decimal.setdefault(sign, k)
    if len(decimal) > 1:
        raise NotNumbersError(
            f"{quoted(digits[decimal['.']])} has a decimal point and "
            f"{quoted(digits[decimal[',']])} a decimal comma: expected one of them "
            "(--decimal says which; the other then stands between thousands)",
            max(decimal.values()),
        )
    for sign in set(decimal) & set(groups):
        raise NotNumbersError(
            f"{quoted(sign)} stands before decimals in {quoted(digits[decimal[sign]])}, and "
            f"between thousands in {quoted(digits[groups[sign]])}",
            max(decimal[sign], groups[sign]),
        )
    point = next(iter(decimal), None)
    between = next((sign for sign in ".,' " if sign in groups), None)
    for sign in unclear:
        if sign == point:
            continue
        if point is not None:
            between = sign
        elif sign == between:
            continue
        elif between is not None and (between in "' " or sign != between):
            # Thousands have another sign, so this one stands before decimals.
            point = sign
        else:
            return Unclear(sign, unclear[sign])
    if point is None:
        point = "," if between == "." else "."
    return Signs(point, between)


def _only(digits: Sequence[str], but: str) -> str | None:
    return next((sign for sign in ".," if sign != but and any(sign in d for d in digits)), None)


def _grouping(digits: Sequence[str], decimal: str) -> str | None:
    return next(
        (sign for sign in ".,' " if sign != decimal and any(sign in d for d in digits)), None
    )


def _settled(
    digits: Sequence[str],
    unclear: Unclear,
    others: Sequence[Sequence[str]],
    semicolon_delimited: bool,
    likely: Mapping[str, str],
) -> Signs | Unclear:
    """Return what the signs mean, from the rest of the file or from an earlier one."""
    sign = unclear.sign
    for column in others:
        entries = [part.digits for text in column if (part := _parts(text)) is not None]
        try:
            found = _signs(entries, Signs())
        except NotNumbersError:
            continue
        if isinstance(found, Unclear) or not any(s in d for d in entries for s in ".,"):
            continue
        return Signs(found.decimal, sign if found.decimal != sign else found.thousands)
    if likely.get("decimal") == sign:
        return Signs(sign, None)
    if likely.get("thousands") == sign:
        return Signs("," if sign == "." else ".", sign)
    # All have three decimals, as programs write them that round to three.
    if (
        sign == "."
        and all(_GROUPS.fullmatch(text) and sign in text for text in digits)
        and not semicolon_delimited
    ):
        return Signs(".", None)
    return unclear


def _question(entry: str, digits: str, sign: str) -> str:
    whole = digits.replace(sign, "")
    point = digits.replace(sign, ".")
    return (
        f"{quoted(entry)} may be {float(point):g} or {int(whole)}: expected --decimal {sign} "
        f"or --thousands {sign} (from Python, decimal={sign!r} or thousands={sign!r})"
    )


def _value(part: _Parts, signs: Signs) -> float | None:
    """Return the number, or None if its signs are not where they should be."""
    whole, point, decimals = part.digits, "", ""
    if signs.decimal and signs.decimal in whole:
        whole, point, decimals = whole.rpartition(signs.decimal)
    if signs.thousands and signs.thousands in whole:
        grouped = whole.replace(signs.thousands, "_")
        if not _grouped(grouped):
            return None
        whole = grouped.replace("_", "")
    if not (whole.isdecimal() or (not whole and decimals)) or not (
        decimals.isdecimal() or not decimals
    ):
        return None
    value = float(f"{whole or '0'}.{decimals or '0'}{part.exponent}") * part.scale
    return -value if part.negative else value


def _grouped(text: str) -> bool:
    """Whether the thousands of a number are where they should be; India writes 12,34,567."""
    first, *others = text.split("_")
    if not 1 <= len(first) <= 3 or len(others[-1]) != 3:
        return False
    return all(len(group) == 3 for group in others) or all(len(g) == 2 for g in others[:-1])


def _in_words(signs: Signs) -> str:
    words = f"{quoted(signs.decimal)} before decimals"
    return words + (f" and {quoted(signs.thousands)} between thousands" if signs.thousands else "")


def _notes(units: Counter[str], parts: Sequence[_Parts | None], signs: Signs) -> tuple[str, ...]:
    notes = []
    if signs.decimal == "," and any("," in part.digits for part in parts if part is not None):
        notes.append("decimal comma")
    if signs.thousands:
        name = {" ": "a space", "'": "an apostrophe"}.get(signs.thousands, quoted(signs.thousands))
        notes.append(f"{name} between thousands")
    unit = next(iter(units))
    if unit:
        notes.append(f"in {unit}" if unit != "%" else "in percent")
    scales = sorted({part.scaled for part in parts if part is not None and part.scaled})
    if scales:
        notes.append(f"{', '.join(scales)} multiplied out")
    return tuple(notes)


def _suspicious(values: HostArray) -> tuple[str, ...]:
    """Return a note about a value that looks like the code for a missing one."""
    for value in (float(np.min(values)), float(np.max(values))):
        others = values[values != value]
        if len(others) < 3 or abs(value) not in _SENTINELS or abs(value) < 99:
            continue
        low, high = float(np.min(others)), float(np.max(others))
        if min(abs(value - low), abs(value - high)) > 5 * max(high - low, abs(low), abs(high)):
            count = len(values) - len(others)
            return (
                f"{count} {'value is' if count == 1 else 'values are'} {value:g}: if that stands "
                f"for a missing one, --na {value:g}",
            )
    return ()
