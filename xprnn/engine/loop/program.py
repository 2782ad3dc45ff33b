"""A formula as data: a list of elementwise operations.

`xprnn.engine.loop.trace` makes a `Program` of a cell's formula, and every lowering reads it.
`Builder` keeps it small: equal operations become one node, operations on constants are computed,
and operations that change nothing are left out.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np

FLOAT, BOOL = "float", "bool"

INPUT, CONSTANT = "input", "constant"

ARITHMETIC = {
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "pow": 2, "floor_divide": 2,
    "remainder": 2, "maximum": 2, "minimum": 2, "atan2": 2, "hypot": 2, "logaddexp": 2,
    "copysign": 2, "nextafter": 2,
    "negative": 1, "positive": 1, "abs": 1, "sign": 1, "square": 1, "sqrt": 1, "reciprocal": 1,
    "exp": 1, "expm1": 1, "log": 1, "log1p": 1, "log2": 1, "log10": 1,
    "sin": 1, "cos": 1, "tan": 1, "asin": 1, "acos": 1, "atan": 1,
    "sinh": 1, "cosh": 1, "tanh": 1, "asinh": 1, "acosh": 1, "atanh": 1,
    "ceil": 1, "floor": 1, "trunc": 1, "round": 1,
}  # fmt: skip
"""The standard's elementwise functions from floats to floats, and their numbers of operands."""

COMPARISONS = {
    "equal": 2, "not_equal": 2, "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2,
    "isfinite": 1, "isinf": 1, "isnan": 1, "signbit": 1,
}  # fmt: skip
"""Those from floats to truth values."""

LOGIC = {"logical_and": 2, "logical_or": 2, "logical_xor": 2, "logical_not": 1}
"""Those from truth values to truth values."""

FUNCTIONS = ARITHMETIC | COMPARISONS | LOGIC

_SYMMETRIC = {"add", "multiply", "maximum", "minimum", "equal", "not_equal", "hypot", "logaddexp"}
_SYMMETRIC |= {"logical_and", "logical_or", "logical_xor"}


_PLAIN: dict[str, Callable[[Any, Any], float]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
}  # fmt: skip
"""Those in which Python's floats neither differ from NumPy's nor raise errors."""


class Node(NamedTuple):
    """One operation.

    Attributes
    ----------
    op : str
        A function of the array API standard, ``"where"`` and ``"astype"`` (of a truth value, to 0
        or 1) included; or ``"input"``, ``"constant"``, or ``"copy"``, which lowerings add.
    args : tuple of int
        The operands, which are nodes earlier in the program.
    value : str, float or bool, optional
        An input's name; a constant's value.
    kind : {"float", "bool"}
        Of the result.
    """

    op: str
    args: tuple[int, ...] = ()
    value: str | float | bool | None = None
    kind: str = FLOAT


class Program(NamedTuple):
    """A formula.

    Attributes
    ----------
    nodes : tuple of Node
        In an order in which they can be computed.
    outputs : dict
        The nodes of each group of results (``"state"``, ``"saved"``, ...); None for a result that
        does not exist.
    """

    nodes: tuple[Node, ...]
    outputs: dict[str, tuple[int | None, ...]]

    def wanted(self) -> Iterator[int]:
        """Yield every result's node."""
        for group in self.outputs.values():
            yield from (index for index in group if index is not None)

    def inputs(self, group: str) -> dict[int, int]:
        """Return the nodes that are inputs of a group, by their number in it."""
        found = [(input_number(node, group), index) for index, node in enumerate(self.nodes)]
        return dict(sorted((k, index) for k, index in found if k is not None))

    def operations(self) -> int:
        """Return the number of operations."""
        return sum(node.op not in (INPUT, CONSTANT) for node in self.nodes)

    def __str__(self) -> str:
        """Return the formula, one operation a line."""
        names = [_name(index, node) for index, node in enumerate(self.nodes)]
        lines = [
            f"{names[index]} = {node.op}({', '.join(names[a] for a in node.args)})"
            for index, node in enumerate(self.nodes)
            if node.op not in (INPUT, CONSTANT)
        ]
        for group, indices in self.outputs.items():
            results = ", ".join("None" if index is None else names[index] for index in indices)
            lines.append(f"{group}: {results}")
        return "\n".join(lines)


def _name(index: int, node: Node) -> str:
    return f"{node.value}" if node.op in (INPUT, CONSTANT) else f"n{index}"


class Builder:
    """A program under construction."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[tuple[object, ...], int] = {}

    def input(self, name: str, kind: str = FLOAT) -> int:
        """Return the node of an input."""
        return self._node(Node(INPUT, (), name, kind))

    def constant(self, value: float | bool) -> int:
        """Return the node of a constant; a number takes the dtype of the other floats."""
        if isinstance(value, bool):
            return self._node(Node(CONSTANT, (), value, BOOL))
        return self._node(Node(CONSTANT, (), float(value)))

    def apply(self, op: str, *args: int) -> int:
        """Return the node of an operation: a new one, or an earlier node that equals it."""
        operands = tuple(self.nodes[a] for a in args)
        if all(node.op == CONSTANT for node in operands):
            return self.constant(folded(op, [node.value for node in operands]))
        same = self._unchanged(op, args)
        if same is not None:
            return same
        if op == "square" or (op == "pow" and operands[1].value == 2 and _is_number(operands[1])):
            op, args = "multiply", (args[0], args[0])
        kind = operands[1].kind if op == "where" else FLOAT
        return self._node(Node(op, args, None, BOOL if op in COMPARISONS | LOGIC else kind))

    def _unchanged(self, op: str, args: tuple[int, ...]) -> int | None:
        """Return the operand that the result equals to the bit; None if there is none."""
        first = self.nodes[args[0]]
        numbers = [self.nodes[a].value if _is_number(self.nodes[a]) else None for a in args]
        if op in ("multiply", "divide", "pow") and numbers[-1] == 1:
            return args[0]
        if op == "multiply" and numbers[0] == 1:
            return args[1]
        # Not x + 0, which makes 0 of -0; nor 0 x, which is NaN for an infinite x.
        if op == "subtract" and numbers[1] == 0 and not np.signbit(numbers[1]):
            return args[0]
        if op == "positive" or (op == "astype" and first.kind == FLOAT):
            return args[0]
        if op in ("negative", "logical_not") and first.op == op:
            return first.args[0]
        if op == "where" and args[1] == args[2]:
            return args[1]
        if op in ("maximum", "minimum") and args[0] == args[1]:
            return args[0]
        return None

    def _node(self, node: Node) -> int:
        args = tuple(sorted(node.args)) if node.op in _SYMMETRIC else node.args
        # By the text of the value, because 0.0 equals -0.0, and True equals 1.0.
        key = (node.op, args, repr(node.value), node.kind)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def program(self, outputs: dict[str, tuple[int | None, ...]]) -> Program:
        """Return the program of these results, without the nodes that they don't need."""
        return pruned(Program(tuple(self.nodes), outputs))


def needed(nodes: Sequence[Node], roots: Iterable[int]) -> set[int]:
    """Return the roots and all nodes that they depend on."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting.extend(nodes[index].args)
    return found


def pruned(program: Program) -> Program:
    """Return a program without the nodes that no result needs."""
    order = sorted(needed(program.nodes, program.wanted()))
    place = {old: new for new, old in enumerate(order)}
    nodes = tuple(
        program.nodes[old]._replace(args=tuple(place[a] for a in program.nodes[old].args))
        for old in order
    )
    return Program(nodes, renumbered(program.outputs, place))


def renumbered(
    outputs: dict[str, tuple[int | None, ...]], place: dict[int, int]
) -> dict[str, tuple[int | None, ...]]:
    """Return outputs with new numbers for their nodes."""
    return {
        group: tuple(None if index is None else place[index] for index in indices)
        for group, indices in outputs.items()
    }


def _is_number(node: Node) -> bool:
    return node.op == CONSTANT and node.kind == FLOAT


def folded(op: str, values: list[str | float | bool | None]) -> float | bool:
    """Return the result of an operation on constants, in double precision."""
    if op in _PLAIN:
        return _PLAIN[op](values[0], values[1])
    if op == "astype":
        return float(values[0])  # type: ignore[arg-type]
    if op == "where":
        return values[1] if values[0] else values[2]  # type: ignore[return-value]
    with np.errstate(all="ignore"):
        result = getattr(np, op)(*values).item()
    return bool(result) if op in COMPARISONS | LOGIC else float(result)


def split_name(name: str) -> tuple[str, int | None]:
    """Return the group and the number of an input or a result, such as ``"state1"``."""
    group = name.rstrip("0123456789")
    return group, int(name[len(group) :]) if len(name) > len(group) else None


def input_number(node: Node, group: str) -> int | None:
    """Return k if a node is input k of a group."""
    if node.op != INPUT:
        return None
    found, k = split_name(f"{node.value}")
    return k if found == group else None
