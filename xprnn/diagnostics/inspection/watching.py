"""Watching a cell's formula: what each of its statements computes, by the formula's own names.

The formula itself runs, on arrays, and says what its names stand for.  So any cell that is written
in Python has names here, and no equation is stated a second time.
"""

import ast
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, Gradients, has_layer_norm, second_product, unit_names

NUMBER = re.compile(r"\((\d+)\)")
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)
_WORK = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.IfExp)


class Statement(NamedTuple):
    """A statement of a formula, as its source has it.

    Attributes
    ----------
    text : str
        In one line, without its comment.
    cites : tuple of int
        The numbers of equations in its comment: ``# (3)`` or ``# from (3)``.
    reads : tuple of str
        The names that it reads, such as ``"h"`` and ``"u[0]"``.
    works : bool
        Whether it computes something, and does not only hand on.
    """

    text: str
    cites: tuple[int, ...]
    reads: tuple[str, ...]
    works: bool


class Executed(NamedTuple):
    """A statement that was executed.

    Attributes
    ----------
    statement : Statement or None
        None: the source is not at hand.
    read, written : dict
        The values of the names that it read, and of those that it gave a new value, in that order.
    """

    statement: Statement | None
    read: dict[str, Any]
    written: dict[str, Any]


class Call(NamedTuple):
    """A call of a formula: its arguments, its results, and what it executed on the way."""

    arguments: tuple[Any, ...]
    result: Any
    executed: tuple[Executed, ...]


class WatchedCell:
    """A cell that computes what another computes, and remembers the calls.

    Parameters
    ----------
    cell : Cell
    inside : bool
        Whether to watch the statements, and not only arguments and results.
    """

    def __init__(self, cell: Cell, *, inside: bool = True) -> None:
        self._cell, self._inside = cell, inside
        self.gates, self.state = cell.gates, cell.state
        self.units, self.layer_norm = unit_names(cell), has_layer_norm(cell)
        self.second_product = second_product(cell)
        self.calls: list[Call] = []
        self._operand: Call | None = None

    def operand_call(self) -> Call | None:
        """Return the last call of `operand` or `operand_backward`; None: there was none."""
        return self._operand

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        result: tuple[Arrays, Arrays] = self._watch(self._cell.forward, xp, u, v, state)
        return result

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> Gradients:
        result: Gradients = self._watch(self._cell.backward, xp, saved, previous, d_state)
        return result

    def operand(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> Array:
        return self._watch_operand("operand", xp, u, v, state)

    def operand_backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_operand: Array
    ) -> Gradients:
        result: Gradients = self._watch_operand("operand_backward", xp, saved, previous, d_operand)
        return result

    def _watch(self, formula: Callable[..., Any], *arguments: Any) -> Any:
        call = self._called(formula, *arguments)
        self.calls.append(call)
        return call.result

    def _watch_operand(self, name: str, *arguments: Any) -> Any:
        self._operand = self._called(getattr(self._cell, name), *arguments)
        return self._operand.result

    def _called(self, formula: Callable[..., Any], *arguments: Any) -> Call:
        if self._inside:
            result, executed = watch(formula, *arguments)
        else:
            result, executed = formula(*arguments), ()
        return Call(arguments[1:], result, executed)


def watch(function: Callable[..., Any], *arguments: Any) -> tuple[Any, tuple[Executed, ...]]:
    """Call a function; return its result and the statements that it executed.

    None are returned for a function that is not written in Python.
    """
    plain = inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(plain, "__code__", None)
    if code is None:
        return function(*arguments), ()
    lines = statements(plain)
    executed: list[Executed] = []
    line, before = 0, dict[str, Any]()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal line, before
        if frame.f_code is not code:
            return None
        now = dict(frame.f_locals)
        if event in ("line", "return") and line:
            written = {k: a for k, a in now.items() if before.get(k, frame) is not a}
            statement = lines.get(line)
            read = _values(statement.reads, before) if statement else {}
            if executed and statement is not None and executed[-1].statement is statement:
                # A statement of several lines is one.
                last = executed.pop()
                read, written = read | last.read, last.written | written
            executed.append(Executed(statement, read, written))
        line, before = (0 if event == "call" else frame.f_lineno), now
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        result = function(*arguments)
    finally:
        sys.settrace(outer)
    return result, tuple(executed)


def statements(function: Callable[..., Any]) -> dict[int, Statement]:
    """Return a function's simple statements by the lines that they are on; {} without a source."""
    try:
        source, start = inspect.getsourcelines(function)
        text = textwrap.dedent("".join(source))
        tree = ast.parse(text)
        comments = {
            token.start[0]: token.string
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT
        }
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return {}
    found: dict[int, Statement] = {}
    for node in ast.walk(tree):
        if not isinstance(node, _SIMPLE):
            continue
        rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        comment = " ".join(comments.get(row, "") for row in rows)
        statement = Statement(
            _plain(ast.unparse(node)),
            tuple(int(n) for n in NUMBER.findall(comment)),
            tuple(_reads(node)),
            any(isinstance(part, _WORK) for part in ast.walk(node)),
        )
        found.update((start + row - 1, statement) for row in rows)
    return found


def _reads(node: ast.AST) -> dict[str, None]:
    """Return the names that a statement reads, and elements of tuples such as ``u[0]``."""
    names: dict[str, None] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            names[part.id] = None
        elif isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Load):
            names[ast.unparse(part)] = None
    return names


def _values(names: tuple[str, ...], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the names that are arrays, or elements of tuples."""
    found = {}
    for name in names:
        base, _, index = name.partition("[")
        value = known.get(base)
        if index and isinstance(value, tuple | list) and index[:-1].isdecimal():
            k = int(index[:-1])
            value = value[k] if k < len(value) else None
        elif index:
            value = None
        if hasattr(value, "shape"):
            found[name] = value
    return found


def _plain(text: str) -> str:
    """Return a statement without what only Python needs: ``tanh(z)`` for ``xp.tanh(z)``.

    >>> _plain("dz = (dh * self.phi.derivative(xp, h),)")
    'dz = dh * φ′(h)'
    """
    text = re.sub(r"\b(?:xp|self)\.|\bxp, ", "", text)
    text = re.sub(r"^(\w+ = )\((.*),\)$", r"\1\2", text)
    return re.sub(r"\bphi\b", "φ", text.replace(".derivative(", "′(").replace(".forward(", "("))
