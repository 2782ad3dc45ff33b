"""A program as loops over the units of one sequence, each of which fills one row.

A compiler turns a loop that writes one array and reads a few into vector instructions, but not one
with a dozen arrays that might overlap.  So there is a loop for every result, and one for every
intermediate value that several of them need; a value that only one of them needs is computed inside
its loop.
"""

from collections.abc import Iterable

from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT, Node, Program

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
    """A program as loops that fill rows.

    Parameters
    ----------
    program : Program
    results : dict of int to str
        The nodes that are results, and the names of their rows.
    carried : iterable of int
        Other nodes that need a row, because they are read after the loops.

    Attributes
    ----------
    rows : dict of int to str
        The nodes that have a row, and its name.
    scratch : dict of str to str
        The names and kinds of the rows that are not results.
    """

    def __init__(
        self, program: Program, results: dict[int, str], carried: Iterable[int] = ()
    ) -> None:
        self.nodes, self.rows = program.nodes, dict(results)
        # By node, the loops that compute it: a row's own, and those of the rows that use any other.
        users: list[set[int]] = [set() for _ in self.nodes]
        wanted = {*results, *(index for index in carried if self.nodes[index].op != INPUT)}
        self.scratch: dict[str, str] = {}
        for index in reversed(range(len(self.nodes))):
            node = self.nodes[index]
            if node.op in (INPUT, CONSTANT):
                continue
            if index in wanted or len(users[index]) > 1:
                if index not in results:
                    self.rows[index] = f"{'m' if node.kind == BOOL else 's'}{len(self.scratch)}"
                    self.scratch[self.rows[index]] = node.kind
                users[index] = {index}
            for a in node.args:
                users[a] |= users[index]
        self.users = users

    def name(self, index: int) -> str:
        """Return the name of the row of an input or of a node that has one."""
        node = self.nodes[index]
        return f"{node.value}" if node.op == INPUT else self.rows[index]

    def constants(self) -> dict[str, tuple[float | bool, str]]:
        """Return the values and kinds of the constants, by name."""
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
