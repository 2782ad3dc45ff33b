"""A rule's formula as a program for a kernel: traced once, not at every update.

The formula is called with operands that record what is done to them, as a cell's formulas are
(`xprnn.engine.loop.tracer`).  The kernel takes its numbers as arguments.

A formula is a new function at every update, because it holds numbers, such as the learning rate of
this update.  But as long as its code and all else that it holds stay the same, so does the program.
So it is traced with symbols for its numbers, too, and what it computes of numbers alone, such as
1 - β, is computed for each update on the host, in double precision, as the formula itself would.
"""

import dataclasses
import itertools
from types import CellType, FunctionType, MethodType
from typing import Any, NamedTuple

from xprnn.backend import prefer
from xprnn.backend.library import Library
from xprnn.backend.types import Device, Namespace, Rule
from xprnn.engine.loop.program import BOOL, CONSTANT, FLOAT, INPUT, Node, Program, folded, pruned
from xprnn.engine.loop.tracer import Kind, Operand, Tracer, Untraceable

KEPT = 256
"""Programs; then all are forgotten."""


class Recipe(NamedTuple):
    """A formula of the inputs ``g``, ``a0``, ``a1``, ...: a gradient, a parameter, its memories.

    Attributes
    ----------
    nodes : tuple of Node
        Its numbers are constants without values.
    results : tuple of int
        The node of each new array, without those that don't exist.
    numbers : tuple of float
        The values of the constants, in their order.
    """

    nodes: tuple[Node, ...]
    results: tuple[int, ...]
    numbers: tuple[float, ...]


class _Rule(Tracer):
    """A tracer of formulas of one dtype, whose limits they may ask for."""

    def __init__(self, xp: Namespace, dtype: str) -> None:
        super().__init__()
        self.limits = xp.finfo(getattr(xp, dtype))

    def finfo(self, dtype: Kind) -> Any:
        del dtype
        return self.limits


class _Recording(Library):
    """The library of a tracer's operands, as long as a formula is traced."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def namespace(self) -> Namespace:
        return self.tracer

    def is_array(self, a: object) -> bool:
        return isinstance(a, Operand)

    def device(self, spec: object) -> Device:
        return spec

    def devices(self) -> tuple[str, ...]:
        return ()


class _Kept(NamedTuple):
    """A program whose numbers are inputs, ``number0`` and so on, and what is made of it.

    Attributes
    ----------
    host : dict
        The nodes that depend on numbers alone.
    wanted : tuple of int
        Those of them that the kernel takes.
    nodes, results
        Those of a `Recipe`.
    """

    host: dict[int, Node]
    wanted: tuple[int, ...]
    nodes: tuple[Node, ...]
    results: tuple[int, ...]

    def with_numbers(self, numbers: list[float]) -> Recipe:
        values: dict[int, Any] = {}
        for index, node in self.host.items():
            if node.op == INPUT:
                values[index] = numbers[int(f"{node.value}".removeprefix("number"))]
            elif node.op == CONSTANT:
                values[index] = node.value
            else:
                values[index] = folded(node.op, [values[a] for a in node.args])
        return Recipe(self.nodes, self.results, tuple(float(values[k]) for k in self.wanted))


_kept: dict[Any, _Kept | None] = {}
"""By what determines a program; None for a formula that looks at its numbers."""


def recipe(formula: Rule, present: tuple[bool, ...], xp: Namespace, dtype: str) -> Recipe:
    """Return a formula as a program, from an earlier call where that is the same.

    Parameters
    ----------
    formula : callable
        See `xprnn.optim.walk`.
    present : tuple of bool
        Of the parameter and each memory, whether there is an array.

    Raises
    ------
    Untraceable
        If the formula is not elementwise.
    """
    known = _key(formula)
    if known is None:
        return _split(_traced(formula, present, xp, dtype)).with_numbers([])
    key, numbers = (*known[0], present, dtype), known[1]
    if key not in _kept:
        if len(_kept) >= KEPT:
            _kept.clear()
        try:
            _kept[key] = _split(_traced(formula, present, xp, dtype, symbols=True))
        except Untraceable:
            # It may only look at its numbers.
            _kept[key] = None
    kept = _kept.get(key)
    if kept is None:
        return _split(_traced(formula, present, xp, dtype)).with_numbers([])
    return kept.with_numbers(numbers)


def _key(formula: Rule) -> tuple[tuple[Any, ...], list[float]] | None:
    """Return what determines a formula but for its numbers, and these; None if that isn't known."""
    function: Any = formula.__func__ if isinstance(formula, MethodType) else formula
    owner = formula.__self__ if isinstance(formula, MethodType) else None
    if not isinstance(function, FunctionType) or function.__defaults__ or function.__kwdefaults__:
        return None
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    if not all(map(_is_fixed, (owner, *held))):
        return None
    numbers = [a for a in held if type(a) is float]
    return (function.__code__, owner, *(float if type(a) is float else a for a in held)), numbers


def _is_fixed(a: object) -> bool:
    """Return whether a thing is known not to change, and can be hashed."""
    if isinstance(a, tuple):
        return all(map(_is_fixed, a))
    if a is None or type(a) in (bool, int, float, str):
        return True
    options = getattr(type(a), "__dataclass_params__", None)
    if not dataclasses.is_dataclass(a) or options is None or not options.frozen:
        return False
    try:
        hash(a)
    except TypeError:
        return False
    return True


def _traced(
    formula: Rule, present: tuple[bool, ...], xp: Namespace, dtype: str, *, symbols: bool = False
) -> Program:
    """Return a formula as a program; with ``symbols`` for the numbers that it holds."""
    tracer = _Rule(xp, dtype)
    number = itertools.count()
    arrays = [tracer.operand(f"a{next(number)}") if there else None for there in present]
    if symbols:
        formula = _with_symbols(formula, tracer)
    with prefer(_Recording(tracer)):
        results = formula(tracer.operand("g"), *arrays)
    indices = tuple(None if a is None else tracer.index(a) for a in results)
    return tracer.builder.program({"new": indices})


def _with_symbols(formula: Rule, tracer: Tracer) -> Rule:
    """Return the formula with an operand in the place of each number that it holds."""
    if not isinstance(formula, FunctionType):
        return formula
    number = itertools.count()
    cells = (
        CellType(tracer.operand(f"number{next(number)}"))
        if type(cell.cell_contents) is float
        else cell
        for cell in formula.__closure__ or ()
    )
    return FunctionType(formula.__code__, formula.__globals__, formula.__name__, None, tuple(cells))


def _split(program: Program) -> _Kept:
    """Part what is computed of numbers alone from what the kernel computes."""
    host: dict[int, Node] = {}
    for index, node in enumerate(program.nodes):
        number = node.op == INPUT and f"{node.value}".startswith("number")
        constant = node.op == CONSTANT and node.kind == FLOAT
        computed = node.op not in (INPUT, CONSTANT) and all(a in host for a in node.args)
        if number or constant or (computed and node.kind != BOOL):
            host[index] = node
    nodes = tuple(
        Node(CONSTANT, (), f"{index}") if index in host else node
        for index, node in enumerate(program.nodes)
    )
    rest = pruned(Program(nodes, program.outputs))
    wanted = tuple(int(n.value or 0) for n in rest.nodes if _is_number(n))
    blank = tuple(n._replace(value=None) if _is_number(n) else n for n in rest.nodes)
    results = tuple(index for index in rest.outputs["new"] if index is not None)
    return _Kept(host, wanted, blank, results)


def _is_number(node: Node) -> bool:
    return node.op == CONSTANT and node.kind == FLOAT
