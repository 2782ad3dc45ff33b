"""Reading JSON strictly: a text that is accepted means one thing, and can be written again."""

import json
import math
from collections.abc import Iterable
from typing import Any

from xprnn.backend.host.quoting import quoted, shortened

DEPTH = 100
"""How many levels of nested lists and objects there may be."""


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises
    ------
    ValueError
        If it is not JSON, has a key twice, NaN or infinity, or is nested too deep.
    """
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
        level = [part for outer in level for part in _inside(outer)]
    return value


def _inside(value: object) -> Iterable[object]:
    """Return the containers inside a container."""
    parts: Iterable[object] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list):
        parts = value
    return (part for part in parts if isinstance(part, dict | list))


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
