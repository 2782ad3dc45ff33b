"""A program as loops over the units of one sequence, each of which fills one row.

A loop that writes one array and reads a few is what a compiler turns into vector instructions; all
in one, with a dozen arrays that might overlap, it would not.  So there is a loop for every result,
and for every part that several results need; what only one of them needs is inside its loop.
"""

from collections.abc import Iterable

from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT, Node, Program, input_place

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "logical_and": "&", "logical_or": "|", "logical_xor": "^",
}  # fmt: skip
_WRITTEN = {
    "negative": "-{0}", "positive": "{0}", "copy": "{0}", "reciprocal": "one / {0}",
    "where": "{1} if {0} else {2}", "astype": "one if {0} else zero", "logical_not": "not {0}",
}  # fmt: skip


class Rows:
    """A program as loops that fill rows."""

    def __init__(self, program: Program, homes: dict[int, str], held: Iterable[int] = ()) -> None:
        self.nodes, self.rows = program.nodes, dict(homes)
        # By node, the loops that compute it: rows for themselves, others for those that use them.
        users: list[set[int]] = [set() for _ in self.nodes]
        wanted = {*homes, *(index for index in held if self.nodes[index].op != INPUT)}
        self.scratch: dict[str, str] = {}
        for index in reversed(range(len(self.nodes))):
            node = self.nodes[index]
            if node.op in (INPUT, CONSTANT):
                continue
            if index in wanted or len(users[index]) > 1:
                if index not in homes:
                    self.rows[index] = f"{'m' if node.kind == BOOL else 's'}{len(self.scratch)}"
                    self.scratch[self.rows[index]] = node.kind
                users[index] = {index}
            for a in node.args:
                users[a] |= users[index]
        self.users = users

    def name(self, index: int) -> str:
        """Return the name of a row that is an input or has been filled."""
        node = self.nodes[index]
        return f"{node.value}" if node.op == INPUT else self.rows[index]

    def inputs(self, group: str) -> list[int]:
        """Return which inputs of a group are read."""
        places = (input_place(node, group) for node in self.nodes)
        return sorted(k for k in places if k is not None)

    def constants(self) -> dict[str, tuple[float | bool, str]]:
        """Return the constants by name."""
        return {
            f"k{index}": (node.value, node.kind)  # type: ignore[misc]
            for index, node in enumerate(self.nodes)
            if node.op == CONSTANT
        }

    def loops(self) -> list[str]:
        """Return the loops, in an order in which they can run."""
        lines = []
        for index in sorted(self.rows):
            lines.append("for j in range(n):")
            for inner in range(index + 1):
                node = self.nodes[inner]
                mine = inner == index or (inner not in self.rows and index in self.users[inner])
                if mine and node.op not in (INPUT, CONSTANT):
                    target = f"{self.rows[index]}[j]" if inner == index else f"n{inner}"
                    lines.append(f"    {target} = {self._expression(node)}")
        return lines

    def _expression(self, node: Node) -> str:
        args = [self._operand(a) for a in node.args]
        if node.op in _INFIX:
            return f"{args[0]} {_INFIX[node.op]} {args[1]}"
        if node.op in _WRITTEN:
            return _WRITTEN[node.op].format(*args)
        return f"{node.op}({', '.join(args)})"

    def _operand(self, index: int) -> str:
        node = self.nodes[index]
        if node.op == CONSTANT:
            return f"k{index}"
        if node.op == INPUT or index in self.rows:
            return f"{self.name(index)}[j]"
        return f"n{index}"
