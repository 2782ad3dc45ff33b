"""Which lines of a cell's `backward` can have made the gradients that are wrong.

`backward` is traced, as for a lowering, and its local variables are looked at when it returns.  A
variable is suspect if every wrong gradient is computed from it, and no right one is.
"""

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from xprnn.cells import Cell, recurrent_blocks, unit_names
from xprnn.engine.loop.trace import trace_backward, trace_forward
from xprnn.engine.loop.tracer import Operand, Untraceable

SHOWN = 3
"""The number of suspects that are shown: the last ones, next to the gradients."""


class Suspect(NamedTuple):
    """A variable of `backward`, and the line that computes it.

    Attributes
    ----------
    name : str
        Empty for what has no name and is computed where it is returned.
    line : str
        ``"cell.py:12: df = dh * (n - h)"``; empty if the source is not at hand.
    """

    name: str
    line: str


def suspects(cell: Cell, wrong: Sequence[str], right: Sequence[str]) -> tuple[Suspect, ...]:
    """Return what can be wrong in `backward`, the last computed last.

    Empty if the cell can't be traced.

    Parameters
    ----------
    cell : Cell
    wrong, right : sequence of str
        Names of findings, such as ``"u[0]"``, whose gradients are wrong, or right without being
        zero.
    """
    method: object = type(cell).backward
    if not inspect.isfunction(method):
        return ()
    code = method.__code__
    try:
        forward = trace_forward(cell)
        kinds = [forward.nodes[k].kind for k in forward.outputs["saved"] if k is not None]
        with _Locals(code) as seen:
            trace_backward(cell, kinds)
    except Untraceable:
        return ()
    gradients = _by_name(cell, seen.returned)
    blamed = [gradients[name] for name in wrong if name in gradients]
    if not blamed:
        return ()
    shared = set.intersection(*map(_above, blamed))
    for name in right:
        shared -= _above(gradients[name]) if name in gradients else set()
    found = [
        (operand.index, name)
        for name, operand in seen.operands()
        if operand.index in shared
        and operand.tracer.builder.nodes[operand.index].op not in ("input", "constant")
    ]
    lines = _lines(code)
    if not found:
        return (Suspect("", lines[""]),) if "" in lines else ()
    ordered = [name for _, name in sorted(found)][-SHOWN:]
    return tuple(Suspect(name, lines.get(name.partition("[")[0], "")) for name in ordered)


def _by_name(cell: Cell, returned: Any) -> Mapping[str, Operand]:
    """Return what `backward` returns by the names of findings."""
    du, dv, d_previous = returned
    blocks = recurrent_blocks(cell)
    named = {f"u[{k}]": a for k, a in enumerate(du)}
    named |= {f"v[{k}]": a for k, a in enumerate(dv[:blocks])}
    named |= dict(zip(unit_names(cell), dv[blocks:], strict=True))
    named |= {f"previous {name}": a for name, a in zip(cell.state, d_previous, strict=True)}
    return {name: a for name, a in named.items() if isinstance(a, Operand)}


def _above(operand: Operand) -> set[int]:
    """Return a node and all nodes that it is computed from."""
    nodes, found, waiting = operand.tracer.builder.nodes, set[int](), [operand.index]
    while waiting:
        k = waiting.pop()
        if k not in found:
            found.add(k)
            waiting += nodes[k].args
    return found


class _Locals:
    """Inside a ``with`` block, keeps the local variables of a function when it returns."""

    def __init__(self, code: CodeType) -> None:
        self.code, self.found = code, dict[str, object]()
        self.returned: Any = None

    def __enter__(self) -> "_Locals":
        self.before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.before)

    def _profile(self, frame: Any, event: str, argument: object) -> None:
        if event == "return" and frame.f_code is self.code:
            self.found, self.returned = dict(frame.f_locals), argument

    def operands(self) -> Iterator[tuple[str, Operand]]:
        """Yield the variables that are operands, and their names."""
        for name, value in self.found.items():
            if isinstance(value, Operand):
                yield name, value
            elif isinstance(value, tuple | list):
                for k, part in enumerate(value):
                    if isinstance(part, Operand):
                        yield f"{name}[{k}]", part


def _lines(code: CodeType) -> dict[str, str]:
    """Return the line that last assigns each variable, and under "" the one that returns."""
    try:
        source, start = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(source)))
    except (OSError, SyntaxError):
        return {}
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Return):
            found[""] = node.lineno
            continue
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    found[part.id] = max(part.lineno, found.get(part.id, 0))
    where = Path(code.co_filename)
    return {
        name: f"{where.name}:{start + line - 1}: "
        f"{linecache.getline(str(where), start + line - 1).strip()}"
        for name, line in found.items()
    }
