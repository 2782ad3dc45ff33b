"""What a row is: data, names, a footer."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from xprnn.data.tables.numbers.entries import is_missing, looks_like_number
from xprnn.data.tables.times.formats import looks_like_date

Kind: TypeAlias = Callable[[str], bool]
"""Tells whether an entry is of a kind."""


def is_word(text: str) -> bool:
    """Whether an entry is letters without digits."""
    return any(map(str.isalpha, text)) and not any(map(str.isdigit, text))


def mostly(kind: Kind, texts: Sequence[str]) -> bool:
    """Whether half of some entries are of a kind."""
    return 2 * sum(map(kind, texts)) >= len(texts)


def are_years(texts: Sequence[str]) -> bool:
    """Whether names are years in order: five and more."""
    years = [int(text) for text in texts if len(text) == 4 and text.isdecimal()]
    return len(years) >= max(5, len(texts)) and all(a + 1 == b for a, b in pairwise(years))


def is_value(text: str) -> bool:
    """Whether an entry is a number or a date."""
    return looks_like_number(text) or looks_like_date(text)


def is_footer(row: Sequence[str], width: int, kinds: Sequence[Kind | None]) -> bool:
    """Whether a row at the end is words, such as a source or a sum."""
    if not any(any(map(str.isalnum, text)) for text in row):
        return len(row) != width
    if not any(any(map(str.isalpha, text)) for text in row):
        return False
    if len(row) != width:
        # A line of data that lacks fields has numbers in it.
        return not any(map(is_value, row))
    first = next((k for k, kind in enumerate(kinds) if kind), None)
    if first is None:
        return False
    typed = [text for text, kind in zip(row, kinds, strict=True) if kind]
    if width == 1:
        text = row[0]
        return not is_value(text) and (" " in text or ":" in text)
    words = [text for text in typed if text and not is_value(text) and not is_missing(text)]
    values = [text for text in typed if is_value(text)]
    # A sum has values; a time or a name that is missing in a row of data leaves no word behind.
    if not kinds[0] and not words:
        return not values and bool(row[0]) and not any(row[1:])
    return bool(words) and not is_value(row[first]) and not is_missing(row[first])


def are_row_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first fields number the rows from 1, or name each differently."""
    first = [row[0] for row in rows if row]
    numbered = first == [str(k) for k in range(1, len(first) + 1)]
    return numbered or (len(set(first)) == len(first) and not any(map(looks_like_number, first)))
