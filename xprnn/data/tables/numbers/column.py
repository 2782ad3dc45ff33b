"""A column of numbers: one meaning of the signs, one unit."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.data.tables.numbers.entries import Parts, is_missing, parts_of, plain_number
from xprnn.data.tables.numbers.signs import (
    GROUPS,
    NOTHING,
    NotNumbersError,
    Signs,
    Unclear,
    find_signs,
    in_words,
    question,
    settled,
    value_of,
)

_FLAG = re.compile(r"[bcdefnprsuz]{1,3}")
"""The flags of statistical offices, such as Eurostat's e: estimated, and p: provisional."""
_SENTINELS = (99.0, 99.9, 99.99, 999.0, 999.9, 999.99, 9999.0, 9999.9, 9999.99, 99999.0, 999999.0)


class Numbers(NamedTuple):
    """A column of numbers.

    Attributes
    ----------
    values : host array, (N,), float64
        NaN where a value is missing.
    signs : Signs
        Those that occur in numbers that are not plain ones.
    notes : tuple of str
        What was found, for the user.
    """

    values: HostArray
    signs: Signs
    notes: tuple[str, ...]


def read_numbers(
    texts: Sequence[str],
    *,
    given: Signs = NOTHING,
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
    quick = _quick(kept) if given == NOTHING else None
    if quick is not None:
        values[where] = quick
        return Numbers(values, Signs(), _suspicious(quick))
    parts = [parts_of(text) for text in kept]
    wrong = [k for k, part in enumerate(parts) if part is None]
    if wrong:
        entry = kept[wrong[0]]
        finite = "finite " if plain_number(entry) is not None else ""
        raise NotNumbersError(
            f"{quoted(entry)} is not a {finite}number; --na {shlex.quote(shortened(entry, 40))} "
            "takes it for a missing value",
            int(where[wrong[0]]),
        )
    digits = [part.digits for part in parts if part is not None]
    signs = find_signs(digits, given)
    if isinstance(signs, Unclear):
        signs = settled(digits, signs, others, semicolon_delimited, likely or {})
        if isinstance(signs, Unclear):
            entry = kept[signs.entry]
            raise NotNumbersError(
                question(entry, digits[signs.entry], signs.sign), int(where[signs.entry])
            )
    read = np.empty(len(kept))
    for k, part in enumerate(parts):
        assert part is not None
        value = value_of(part, signs)
        if value is None:
            raise NotNumbersError(
                f"{quoted(kept[k])} is not a number with {in_words(signs)}", int(where[k])
            )
        if not math.isfinite(value):
            raise NotNumbersError(f"{quoted(kept[k])} is not a finite number", int(where[k]))
        read[k] = value
    units = Counter(part.unit for part in parts if part is not None)
    notes = _notes(units, parts, signs)
    flags = _flags(units, parts, read)
    if flags:
        notes = (*notes, f"flags after numbers left out: {', '.join(flags)}")
    elif len(units) > 1:
        (common, _), (rare, _), *_ = units.most_common()
        k = next(k for k, part in enumerate(parts) if part is not None and part.unit == rare)
        raise NotNumbersError(
            f"{quoted(kept[k])} has {_unit(rare)}, and others have {_unit(common)}; --na "
            f"{shlex.quote(shortened(kept[k], 40))} takes it for a missing value",
            int(where[k]),
        )
    values[where] = read
    there = {sign for text in digits for sign in ".,' " if sign in text}
    occurring = Signs(*(sign if sign in there else None for sign in signs))
    return Numbers(values, occurring, (*notes, *_suspicious(read)))


def _flags(
    units: Counter[str], parts: Sequence[Parts | None], values: HostArray
) -> tuple[str, ...]:
    """Return the signs after some numbers that are no units, such as Eurostat's p: provisional.

    Most numbers have none, and those that have one are about as large.
    """
    flags = tuple(sorted(unit for unit in units if unit))
    if not flags or units[""] <= len(parts) / 2 or not all(map(_FLAG.fullmatch, flags)):
        return ()
    bare = np.array([part is not None and not part.unit for part in parts])
    sizes = np.abs(values)
    near = (sizes <= 5 * np.max(sizes[bare])) & (sizes >= 0.2 * np.min(sizes[bare]))
    return flags if np.all(near) else ()


def _unit(unit: str) -> str:
    return f"the unit {quoted(unit)}" if unit else "no unit"


def _quick(texts: Sequence[str]) -> HostArray | None:
    """Return the numbers if they are plain ones, in which nothing is to be found out."""
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        return None
    doubtful = any(GROUPS.fullmatch(text.lstrip("+-")) for text in texts)
    if doubtful or any("_" in text for text in texts) or not np.all(np.isfinite(values)):
        return None
    return values


def _notes(units: Counter[str], parts: Sequence[Parts | None], signs: Signs) -> tuple[str, ...]:
    notes = []
    if signs.decimal == "," and any("," in part.digits for part in parts if part is not None):
        notes.append("decimal comma")
    if signs.thousands:
        name = {" ": "a space", "'": "an apostrophe"}.get(signs.thousands, quoted(signs.thousands))
        notes.append(f"{name} between thousands")
    unit = next(iter(units))
    if unit and len(units) == 1:
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
        far = min(abs(value - low), abs(value - high)) > 5 * max(high - low, abs(low), abs(high))
        # -99 among values that are never below 0.
        if far or (value < 0 <= low and low - value > high - low):
            count = len(values) - len(others)
            return (
                f"{count} {'value is' if count == 1 else 'values are'} {value:g}: if that stands "
                f"for a missing one, --na {value:g}",
            )
    return ()
