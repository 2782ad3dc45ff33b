"""Descriptions of options as plain data, to compare those of two trainings."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from xprnn.backend import describe as in_words
from xprnn.backend.host.arrays import np
from xprnn.training.checkpoint.parts import digest

DEPTH = 8
"""How many levels of nested objects a description has."""

MISSING = object()


def description(value: Any, depth: int = DEPTH) -> Any:
    """Return plain JSON data that describes an option.

    A number, a string or None describes itself.  A dataclass is described by its type and fields; a
    function by its name, its constants, defaults and closure (so that schedules with different
    rates differ); any other object by its type and public attributes.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        # The JSON in the file is sorted, but order can matter: the first matching pattern counts.
        named = {str(k): description(v, depth - 1) for k, v in value.items()}
        return {"order": list(named), **named}
    if isinstance(value, tuple | list):
        return [description(part, depth - 1) for part in value]
    if isinstance(value, np.ndarray):
        return f"{in_words(value)}, {digest(value)[:12]}"
    return {k: description(v, depth - 1) for k, v in _parts(value)}


def differences(
    mine: Any, theirs: Any, name: str = "", where: str = "in the checkpoint"
) -> list[str]:
    """Return, in words, how a description differs from another, which is there."""
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        pairs = enumerate(zip(mine, theirs, strict=True))
        return [found for k, (a, b) in pairs for found in differences(a, b, f"{name}[{k}]", where)]
    if not (isinstance(mine, dict) and isinstance(theirs, dict)):
        return [] if mine == theirs else [_differs(name, mine, theirs, where)]
    if mine.get("type") != theirs.get("type"):
        return [_differs(name, mine, theirs, where)]
    found = []
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        if key == "order" and set(mine) != set(theirs):
            continue
        inside = f"{name}.{key}" if name else key
        found += differences(mine.get(key, MISSING), theirs.get(key, MISSING), inside, where)
    return found


def _differs(name: str, mine: Any, theirs: Any, where: str) -> str:
    return f"{name} is {_words(mine)}, {where} {_words(theirs)}"


def _words(described: Any) -> str:
    if described is MISSING:
        return "not there"
    if isinstance(described, dict) and "type" in described:
        return str(described["type"])
    return repr(described)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object by name, its type first."""
    if isinstance(value, partial):
        yield "type", f"partial of {_name(value.func)}"
        yield "function", value.func
        yield "args", value.args
        yield from value.keywords.items()
    elif isinstance(value, MethodType):
        yield "type", _name(value)
        yield "of", value.__self__
    elif isinstance(value, FunctionType):
        yield from _function(value)
    else:
        named = isinstance(value, type | BuiltinFunctionType)
        yield "type", _name(value if named else type(value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                found = getattr(value, field.name)
                # Checkpoints from before a field was there are those of its default.
                if not (field.metadata.get("later") and found == field.default):
                    yield field.name, found
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            yield from ((k, v) for k, v in vars(value).items() if not k.startswith("_"))


def _function(value: FunctionType) -> Iterator[tuple[str, Any]]:
    code = value.__code__
    yield "type", f"the function {_name(value)}"
    constants = code.co_consts[1:] if value.__doc__ else code.co_consts
    yield "constants", [c for c in constants if isinstance(c, int | float | str)]
    yield "defaults", value.__defaults__
    for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
        yield name, cell.cell_contents


def _name(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))
