"""Reading JSON strictly: a text that is accepted means one thing, and can be written again."""

import json
import math
from typing import Any

from xprnn.backend.host.quoting import quoted, shortened

DEPTH = 100
"""How many levels of nested lists and objects there may be."""

MEMORY, FACTOR = 64_000_000, 10
"""The values of a text may need this many bytes, or this many times the length of the text."""

_WEIGHTS = {"[": 96, "{": 96, ":": 200}
"""Bytes of memory for a list, an object, and an entry of an object (Python 3.11 to 3.14)."""


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    The three characters ``[],`` can become seventy bytes of memory.  So a text that is dense with
    lists and objects is refused before it is read.  Text and numbers need a dozen times their
    length at most, and have no such bound.

    Raises
    ------
    ValueError
        If it is not JSON, has a key twice, NaN or infinity, is nested too deep, or would need more
        memory than both `MEMORY` and `FACTOR` times its length.
    """
    # Brackets and colons inside strings are counted too; ordinary text has few of them.
    needed = sum(weight * text.count(sign) for sign, weight in _WEIGHTS.items())
    if needed > max(MEMORY, FACTOR * len(text)):
        raise ValueError(
            f"its lists and objects need about {needed // 10**6} MB of memory, which is more than "
            f"{FACTOR} times the {len(text)} characters of its text"
        )
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH} levels deep") from None
    level, depth = [value], 0
    while level:
        if depth > DEPTH:
            raise ValueError(f"nested more than {DEPTH} levels deep")
        depth += 1
        # One comprehension instead of a function per container: there can be a million of them.
        level = [
            part
            for outer in level
            for part in (
                outer.values()
                if isinstance(outer, dict)
                else outer
                if isinstance(outer, list)
                else ()
            )
            if isinstance(part, dict | list)
        ]
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = set()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"the key {quoted(name)} occurs twice")
            names.add(name)
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shortened(text, 40)} is not a finite number")
    return value
