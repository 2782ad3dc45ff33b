"""A cell's traced formula as elementwise nodes of ONNX."""

import math
from collections.abc import Callable, Mapping

from xprnn.engine.loop.program import CONSTANT, FLOAT, INPUT, Node, Program, needed
from xprnn.interop.onnx.graph import Graph

NODES = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow",
    "maximum": "Max", "minimum": "Min", "negative": "Neg", "positive": "Identity", "abs": "Abs",
    "sign": "Sign", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "exp": "Exp", "log": "Log",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
    "ceil": "Ceil", "floor": "Floor", "round": "Round",
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "isinf": "IsInf", "isnan": "IsNaN",
    "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not",
    "where": "Where",
}  # fmt: skip
"""The functions of the array API standard that are one node."""


def _times(factor: float) -> Callable[[Graph, str], str]:
    return lambda g, x: g.add("Mul", g.add("Log", x), g.number(factor))


def _expm1(g: Graph, x: str) -> str:
    # tanh(x/2) (eˣ + 1), which has all digits near zero, unlike eˣ - 1.
    half = g.add("Tanh", g.add("Mul", x, g.number(0.5)))
    return g.add("Mul", half, g.add("Add", g.add("Exp", x), g.number(1.0)))


def _log1p(g: Graph, x: str) -> str:
    # x log(w) / (w - 1) with w = 1 + x: the error of w is in the factor and the divisor alike.
    one = g.number(1.0)
    w = g.add("Add", x, one)
    log, beyond = g.add("Log", w), g.add("Sub", w, one)
    scaled = g.add("Div", g.add("Mul", log, x), beyond)
    tiny, infinite = g.add("Equal", w, one), g.add("IsInf", x)
    return g.add("Where", tiny, x, g.add("Where", infinite, log, scaled))


def _remainder(g: Graph, x: str, y: str) -> str:
    # ONNX's has the sign of x, the standard's that of y.
    r, zero = g.add("Mod", x, y, fmod=1), g.number(0.0)
    differ = g.add("Less", g.add("Mul", g.add("Sign", r), g.add("Sign", y)), zero)
    return g.add("Where", differ, g.add("Add", r, y), r)


def _floor_divide(g: Graph, x: str, y: str) -> str:
    # A whole number up to rounding.
    return g.add("Round", g.add("Div", g.add("Sub", x, _remainder(g, x, y)), y))


def _hypot(g: Graph, x: str, y: str) -> str:
    a, b = g.add("Abs", x), g.add("Abs", y)
    large, small = g.add("Max", a, b), g.add("Min", a, b)
    zero = g.add("Equal", large, g.number(0.0))
    q = g.add("Div", small, g.add("Where", zero, g.number(1.0), large))
    return g.add("Mul", large, g.add("Sqrt", g.add("Add", g.number(1.0), g.add("Mul", q, q))))


def _logaddexp(g: Graph, x: str, y: str) -> str:
    distance = g.add("Neg", g.add("Abs", g.add("Sub", x, y)))
    return g.add("Add", g.add("Max", x, y), _log1p(g, g.add("Exp", distance)))


def _signbit(g: Graph, x: str) -> str:
    # 1/-0 is -∞.
    zero = g.number(0.0)
    return g.add("Or", g.add("Less", x, zero), g.add("Less", g.add("Reciprocal", x), zero))


def _copysign(g: Graph, x: str, y: str) -> str:
    size = g.add("Abs", x)
    return g.add("Where", _signbit(g, y), g.add("Neg", size), size)


COMPOSED: dict[str, Callable[..., str]] = {
    "square": lambda g, x: g.add("Mul", x, x),
    "trunc": lambda g, x: g.add("Mul", g.add("Sign", x), g.add("Floor", g.add("Abs", x))),
    "log2": _times(1 / math.log(2)),
    "log10": _times(1 / math.log(10)),
    "expm1": _expm1,
    "log1p": _log1p,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "hypot": _hypot,
    "logaddexp": _logaddexp,
    "signbit": _signbit,
    "copysign": _copysign,
    "not_equal": lambda g, x, y: g.add("Not", g.add("Equal", x, y)),
    "isfinite": lambda g, x: g.add("Not", g.add("Or", g.add("IsInf", x), g.add("IsNaN", x))),
}
"""Those that are several."""


def write_formula(
    graph: Graph, program: Program, inputs: Mapping[str, str], group: str = "state"
) -> list[str]:
    """Add the nodes of a formula that a group of its results needs, and return their names.

    Parameters
    ----------
    graph : Graph
    program : Program
        Of `xprnn.engine.loop.trace.trace_forward`, or of another function there.
    inputs : mapping of str to str
        The names in the graph of the program's inputs.
    group : str
        Of the program's results.

    Raises
    ------
    ValueError
        If ONNX has no such function.
    """
    wanted = [index for index in program.outputs[group] if index is not None]
    names: dict[int, str] = {}
    for index in sorted(needed(program.nodes, wanted)):
        node = program.nodes[index]
        names[index] = _written(graph, node, [names[a] for a in node.args], inputs)
    return [names[index] for index in wanted]


def _written(graph: Graph, node: Node, args: list[str], inputs: Mapping[str, str]) -> str:
    if node.op == INPUT:
        return inputs[f"{node.value}"]
    if node.op == CONSTANT:
        if node.kind == FLOAT:
            return graph.number(float(node.value))  # type: ignore[arg-type]
        return graph.truth(bool(node.value))
    if node.op == "astype":
        return graph.add("Where", *args, graph.number(1.0), graph.number(0.0))
    if node.op in NODES:
        return graph.add(NODES[node.op], *args)
    if node.op in COMPOSED:
        return COMPOSED[node.op](graph, *args)
    raise ValueError(f"the cell calls {node.op}, which no node of ONNX computes")
