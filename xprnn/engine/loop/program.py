"""A formula as data: a list of elementwise operations, each stated once.

A `Program` is what `xprnn.engine.loop.trace` makes of a cell's formula, and what every lowering
reads. `Builder` keeps it small while it grows: equal operations are one node, operations on
constants are constants, and operations that change nothing are not there.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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
"""The standard's elementwise functions of floats that give floats, and how many they take."""

COMPARISONS = {
    "equal": 2, "not_equal": 2, "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2,
    "isfinite": 1, "isinf": 1, "isnan": 1, "signbit": 1,
}  # fmt: skip
"""Those of floats that give truth values."""

LOGIC = {"logical_and": 2, "logical_or": 2, "logical_xor": 2, "logical_not": 1}
"""Those of truth values that give truth values."""

FUNCTIONS = ARITHMETIC | COMPARISONS | LOGIC

_SYMMETRIC = {"add", "multiply", "maximum", "minimum", "equal", "not_equal", "hypot", "logaddexp"}
_SYMMETRIC |= {"logical_and", "logical_or", "logical_xor"}


class Node(NamedTuple):
    """One operation.

    Attributes
    ----------
    op : str
        A function of the array API standard, among them ``"where"`` and ``"astype"`` (a truth value
        to 0 or 1); or ``"input"``, ``"constant"``, or ``"copy"``, which lowerings add.
    args : tuple of int
        The nodes that it is applied to; each stands before it in the program.
    value : str, float or bool, optional
        An input's name; a constant's value.
    kind : {"float", "bool"}
        What it gives.
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
        Per group of results (``"state"``, ``"saved"``, ...) the nodes that they are; None for one
        that does not exist.
    """

    nodes: tuple[Node, ...]
    outputs: dict[str, tuple[int | None, ...]]

    def wanted(self) -> Iterator[int]:
        """Yield every result's node."""
        for group in self.outputs.values():
            yield from (index for index in group if index is not None)

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
    """A program as it grows."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[tuple[object, ...], int] = {}

    def input(self, name: str, kind: str = FLOAT) -> int:
        """Return the node of an input."""
        return self._node(Node(INPUT, (), name, kind))

    def constant(self, value: float | bool) -> int:
        """Return the node of a constant; a number is of the floats' own dtype."""
        if isinstance(value, bool):
            return self._node(Node(CONSTANT, (), value, BOOL))
        return self._node(Node(CONSTANT, (), float(value)))

    def apply(self, op: str, *args: int) -> int:
        """Return the node of an operation, which may be one that was there before."""
        operands = tuple(self.nodes[a] for a in args)
        if all(node.op == CONSTANT for node in operands):
            return self.constant(_fold(op, [node.value for node in operands]))
        same = self._unchanged(op, args)
        if same is not None:
            return same
        if op == "square" or (op == "pow" and operands[1].value == 2 and _is_number(operands[1])):
            op, args = "multiply", (args[0], args[0])
        kind = operands[1].kind if op == "where" else FLOAT
        return self._node(Node(op, args, None, BOOL if op in COMPARISONS | LOGIC else kind))

    def _unchanged(self, op: str, args: tuple[int, ...]) -> int | None:
        """Return the operand that an operation leaves as it is, to the bit; None if it changes."""
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
        # The text, because 0.0 equals -0.0, and True equals 1.0.
        key = (node.op, args, repr(node.value), node.kind)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def program(self, outputs: dict[str, tuple[int | None, ...]]) -> Program:
        """Return the program of these results, without what they don't need."""
        return pruned(Program(tuple(self.nodes), outputs))


def needed(nodes: Sequence[Node], roots: Iterable[int]) -> set[int]:
    """Return the nodes that some nodes depend on, and these themselves."""
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
    kept = sorted(needed(program.nodes, program.wanted()))
    place = {old: new for new, old in enumerate(kept)}
    nodes = tuple(
        program.nodes[old]._replace(args=tuple(place[a] for a in program.nodes[old].args))
        for old in kept
    )
    return Program(nodes, renumbered(program.outputs, place))


def renumbered(
    outputs: dict[str, tuple[int | None, ...]], place: dict[int, int]
) -> dict[str, tuple[int | None, ...]]:
    """Return results with their nodes' new numbers."""
    return {
        group: tuple(None if index is None else place[index] for index in indices)
        for group, indices in outputs.items()
    }


def _is_number(node: Node) -> bool:
    return node.op == CONSTANT and node.kind == FLOAT


def _fold(op: str, values: list[str | float | bool | None]) -> float | bool:
    if op == "astype":
        return float(values[0])  # type: ignore[arg-type]
    if op == "where":
        return values[1] if values[0] else values[2]  # type: ignore[return-value]
    with np.errstate(all="ignore"):
        result = getattr(np, op)(*values).item()
    return bool(result) if op in COMPARISONS | LOGIC else float(result)


def input_place(node: Node, group: str) -> int | None:
    """Return k if a node is the k-th input of a group."""
    name = f"{node.value}"
    if node.op != INPUT or name.rstrip("0123456789") != group:
        return None
    return int(name[len(group) :])
