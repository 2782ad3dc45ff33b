"""The meaning of ``.`` and ``,`` in a column of numbers, from all its entries."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xprnn.backend.host.quoting import quoted
from xprnn.data.tables.numbers.entries import Parts, parts_of

GROUPS = re.compile(r"\d{1,3}(?P<sign>[.,' ])\d{3}(?:(?P=sign)\d{3})*")


class Unclear(NamedTuple):
    """Numbers that can be read in two ways, and an entry that shows it."""

    sign: str
    entry: int


class Signs(NamedTuple):
    """The meaning of the signs in a column of numbers; None: does not occur."""

    decimal: str | None = None
    thousands: str | None = None


NOTHING = Signs()
"""Nothing is known of the signs."""


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


def find_signs(digits: Sequence[str], given: Signs) -> Signs | Unclear:
    """Return what the signs mean in all entries; one that has two meanings, if one has.

    Raises
    ------
    NotNumbersError
        If a sign has one meaning in one entry, and the other in another.
    """
    if given.decimal is not None and given.thousands is not None:
        return given
    if given.thousands:
        other = {".": ",", ",": "."}.get(given.thousands)
        return Signs(other or (_first(digits, ".,", given.thousands) or "."), given.thousands)
    if given.thousands == "":
        return Signs(_first(digits, ".,", ""), None)
    if given.decimal is not None:
        return Signs(given.decimal, _first(digits, ".,' ", given.decimal))
    uses = _uses(digits)
    _refuse_two_meanings(digits, uses)
    point = next(iter(uses.decimal), None)
    between = next((sign for sign in ".,' " if sign in uses.groups), None)
    for sign, index in uses.unclear.items():
        if sign in (point, between):
            continue
        if point is not None:
            between = sign
        elif between is not None:
            # Thousands have another sign, so this one stands before decimals.
            point = sign
        else:
            return Unclear(sign, index)
    if point is None:
        point = "," if between == "." else "."
    return Signs(point, between)


class _Uses(NamedTuple):
    """Which signs stand before decimals, between groups, or may do either, and an entry of each."""

    decimal: dict[str, int]
    groups: dict[str, int]
    unclear: dict[str, int]


def _uses(digits: Sequence[str]) -> _Uses:
    uses = _Uses({}, {}, {})
    for k, text in enumerate(digits):
        present = [sign for sign in ".,' " if sign in text]
        if "." in present and "," in present:
            last = max(".,", key=text.rindex)
            uses.decimal.setdefault(last, k)
            uses.groups.setdefault("." if last == "," else ",", k)
            continue
        for sign in present:
            if sign in "' " or text.count(sign) > 1:
                uses.groups.setdefault(sign, k)
            elif GROUPS.fullmatch(text) and not text.startswith("0"):
                uses.unclear.setdefault(sign, k)
            else:
                uses.decimal.setdefault(sign, k)
    return uses


def _refuse_two_meanings(digits: Sequence[str], uses: _Uses) -> None:
    decimal, groups = uses.decimal, uses.groups
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


def _first(digits: Sequence[str], signs: str, but: str) -> str | None:
    """Return the first of some signs that occurs, other than one."""
    return next((sign for sign in signs if sign != but and any(sign in d for d in digits)), None)


def settled(
    digits: Sequence[str],
    unclear: Unclear,
    others: Sequence[Sequence[str]],
    semicolon_delimited: bool,
    likely: Mapping[str, str],
) -> Signs | Unclear:
    """Return what the signs mean, from the rest of the file or from an earlier one."""
    sign = unclear.sign
    for column in others:
        entries = [part.digits for text in column if (part := parts_of(text)) is not None]
        try:
            found = find_signs(entries, NOTHING)
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
        and all(GROUPS.fullmatch(text) and sign in text for text in digits)
        and not semicolon_delimited
    ):
        return Signs(".", None)
    return unclear


def question(entry: str, digits: str, sign: str) -> str:
    """Ask what a sign means, in words."""
    whole = digits.replace(sign, "")
    point = digits.replace(sign, ".")
    return (
        f"{quoted(entry)} may be {float(point):g} or {int(whole)}: expected --decimal {sign} "
        f"or --thousands {sign} (from Python, decimal={sign!r} or thousands={sign!r})"
    )


def value_of(part: Parts, signs: Signs) -> float | None:
    """Return the number, or None if its signs are not where they should be."""
    whole, decimals = part.digits, ""
    if signs.decimal and signs.decimal in whole:
        whole, _, decimals = whole.rpartition(signs.decimal)
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


def in_words(signs: Signs) -> str:
    """Return the meaning of signs in words."""
    words = f"{quoted(signs.decimal)} before decimals"
    return words + (f" and {quoted(signs.thousands)} between thousands" if signs.thousands else "")
