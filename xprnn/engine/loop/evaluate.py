"""A traced formula, computed on arrays: parts of it, for all steps at once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xprnn.backend.types import Array, Namespace
from xprnn.engine.loop.program import CONSTANT, INPUT, Program

# An operator takes numbers in any place, which the standard's functions don't all do.
_OPERATORS: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
}


def evaluate(
    xp: Namespace, program: Program, wanted: Iterable[int], inputs: Mapping[str, Any]
) -> dict[int, Any]:
    """Return the values of nodes, by number, and of all that they are computed from.

    Parameters
    ----------
    wanted : iterable of int
    inputs : mapping of str to array or float
        By the names of the program's inputs; those that nothing wanted needs may be missing.
    """
    needed: set[int] = set()
    waiting = list(wanted)
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting.extend(program.nodes[index].args)
    values: dict[int, Any] = {}
    for index in sorted(needed):
        node = program.nodes[index]
        if node.op == INPUT:
            values[index] = inputs[f"{node.value}"]
        elif node.op == CONSTANT:
            values[index] = node.value
        else:
            values[index] = _apply(xp, node.op, [values[a] for a in node.args], inputs)
    return values


def _apply(xp: Namespace, op: str, operands: list[Any], inputs: Mapping[str, Any]) -> Any:
    if op in _OPERATORS:
        return _OPERATORS[op](*operands)
    if op == "astype":
        # Of a truth value, to the dtype of the floats.
        floats = (a.dtype for a in inputs.values() if hasattr(a, "dtype"))
        return xp.astype(operands[0], next(d for d in floats if xp.isdtype(d, "real floating")))
    return getattr(xp, op)(*operands)
