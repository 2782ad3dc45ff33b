"""A layer in a graph of ONNX: as a node RNN, GRU or LSTM, or as one Scan for each direction.

A Scan is written where there is no such node: for cells that ONNX does not have, from their traced
formulas; in float64, which ONNX Runtime's nodes RNN, GRU and LSTM don't compute in; and for tokens
without an embedding, whose projection is a look-up.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import onnx

from xprnn.backend.host.arrays import HostArray, np
from xprnn.cells import Cell, second_product
from xprnn.engine.architecture import Architecture, Direction
from xprnn.engine.loop.program import Program
from xprnn.engine.loop.trace import trace_forward, trace_operand
from xprnn.engine.loop.tracer import Untraceable
from xprnn.engine.normalization import EPSILON
from xprnn.interop.onnx.formula import write_formula
from xprnn.interop.onnx.graph import Graph
from xprnn.interop.onnx.operands import node_of, operands_of


class Steps(NamedTuple):
    """Names of what all layers need.

    Attributes
    ----------
    lengths : str
        (B,), int32.
    valid : str
        The padding mask, (T, B, 1).
    """

    lengths: str
    valid: str


class Result(NamedTuple):
    """Names of a layer's output, (T, B, H·D), and of its final states, (D, B, H) each."""

    output: str
    final: list[str]


def write_layer(
    graph: Graph,
    architecture: Architecture,
    parameters: Mapping[str, HostArray],
    layer: int,
    x: str,
    state: list[str],
    steps: Steps,
    *,
    tokens: bool,
) -> Result:
    """Add a layer.

    Parameters
    ----------
    graph : Graph
    architecture : Architecture
    parameters : mapping of str to host array
        The network's.
    layer : int
    x : str
        (T, B, I), or with ``tokens`` (T, B).
    state : list of str
        The initial states, (D, B, H) each.
    steps : Steps
    tokens : bool
        Whether x are integers, which stand for one-hot vectors.

    Raises
    ------
    ValueError
        If the cell's formula can't be traced, or ONNX can't say it.
    """
    directions = [d for d in architecture.stack if d.layer == layer]
    node = node_of(architecture.cell)
    if node is not None and graph.dtype == "float32" and not tokens:
        return _native(graph, *node, directions, parameters, x, state, steps)
    parts = zip(*(graph.split(part, len(directions), 0) for part in state), strict=True)
    program = traced(architecture.cell)
    results = [
        _scan(graph, architecture, program, d, parameters, x, list(of_d), steps, tokens=tokens)
        for d, of_d in zip(directions, parts, strict=True)
    ]
    outputs = [result.output for result in results]
    finals = zip(*(result.final for result in results), strict=True)
    if len(results) == 1:
        return results[0]
    return Result(
        graph.add("Concat", *outputs, axis=2),
        [graph.add("Concat", *part, axis=0) for part in finals],
    )


def traced(cell: Cell, trace: Callable[[Cell], Program] = trace_forward) -> Program:
    """Return a cell's formula; a ValueError says why it has none."""
    try:
        return trace(cell)
    except Untraceable as error:
        raise ValueError(
            f"the cell {type(cell).__name__} can't be written as nodes of ONNX: {error}"
        ) from error


def put_out(
    graph: Graph,
    architecture: Architecture,
    parameters: Mapping[str, HostArray],
    layer: int,
    m: str,
) -> str:
    """Add what a layer puts out, of its states (..., D, B, H): h = P m if there is a projection.

    Its numbers are those of `xprnn.engine.recurrent`.
    """
    directions = [d for d in architecture.stack if d.layer == layer]
    P = _projections(graph, directions, parameters)
    return m if P is None else graph.add("MatMul", m, _transposed(graph, P))  # (1)


def _projections(
    graph: Graph, directions: list[Direction], parameters: Mapping[str, HostArray]
) -> str | None:
    """Return P of every direction, (D, P, H); None if there is no projection."""
    names = [d.P for d in directions if d.P is not None]
    if not names:
        return None
    each = [graph.weight(name, parameters[name]) for name in names]
    each = [graph.add("Unsqueeze", P, graph.integers(0)) for P in each]
    return each[0] if len(each) == 1 else graph.add("Concat", *each, axis=0)


def _transposed(graph: Graph, P: str) -> str:
    return graph.add("Transpose", P, perm=[0, 2, 1])


def _of_direction(
    direction: Direction, parameters: Mapping[str, HostArray]
) -> dict[str, HostArray]:
    """Return a direction's parameters, by their names without the ending."""
    names = direction.names
    every = (names.W, names.U, names.b, *names.units, *names.gains)
    return {n.removesuffix(direction.suffix): parameters[n] for n in every if n in parameters}


def _native(
    graph: Graph,
    kind: str,
    attributes: dict[str, object],
    directions: list[Direction],
    parameters: Mapping[str, HostArray],
    x: str,
    state: list[str],
    steps: Steps,
) -> Result:
    D, layer = len(directions), directions[0].layer
    named = [_of_direction(d, parameters) for d in directions]
    operands = {
        name: graph.weight(f"{name}_l{layer}", array)
        for name, array in operands_of(kind, named).items()
    }
    P = _projections(graph, directions, parameters)
    if P is not None:
        operands["R"] = graph.add("MatMul", operands["R"], P)  # (2)
    options = dict(attributes)
    if "activations" in options:
        options["activations"] = options["activations"] * D  # type: ignore[operator]
    inputs = [x, operands["W"], operands["R"], operands.get("B", ""), steps.lengths, *state]
    if "P" in operands:
        inputs.append(operands["P"])
    names = [graph.new(f"{kind}_{what}") for what in ("Y", "h", "c")[: 1 + len(state)]]
    Y, *final = graph.add_many(
        kind,
        inputs,
        names,
        hidden_size=directions[0].hidden_size,
        direction="bidirectional" if D == 2 else "forward",
        **options,
    )
    if P is not None:
        Y = graph.add("MatMul", Y, _transposed(graph, P))  # (1)
    if D == 1:
        return Result(graph.add("Squeeze", Y, graph.integers(1)), final)
    by_sequence = graph.add("Transpose", Y, perm=[0, 2, 1, 3])
    return Result(graph.add("Reshape", by_sequence, graph.integers(0, 0, -1)), final)


def _scan(
    graph: Graph,
    architecture: Architecture,
    program: Program,
    direction: Direction,
    parameters: Mapping[str, HostArray],
    x: str,
    state: list[str],
    steps: Steps,
    *,
    tokens: bool,
) -> Result:
    """Add one direction: the projection of all steps, then a Scan over them."""
    cell, names = architecture.cell, direction.names
    here = {n: graph.weight(n, parameters[n]) for n in _present(direction, parameters)}
    W = graph.add("Transpose", here[names.W], perm=[1, 0])
    u = graph.add("Gather", W, x, axis=0) if tokens else graph.add("MatMul", x, W)
    if names.gains:
        u = _normalized(graph, u, here[names.gains[0]])
    if names.b in here:
        u = graph.add("Add", u, here[names.b])
    P = None if direction.P is None else graph.weight(direction.P, parameters[direction.P])
    U = here.get(names.U)
    if U is not None and P is not None:
        U = graph.add("MatMul", U, P)  # (2)
    products = [] if U is None else _products(graph, cell, U)
    gain = here[names.gains[1]] if names.gains else None
    hidden = direction.hidden_size
    units = [here.get(name) or _zero_unit(graph, hidden) for name in names.units]
    body = _step(graph, cell, program, hidden, products, gain, units)
    given = [graph.add("Squeeze", part, graph.integers(0)) for part in state]
    results = [graph.new("Scan") for _ in range(len(state) + 1)]
    *final, h = graph.add_many(
        "Scan",
        [*given, u, steps.valid],
        results,
        body=body,
        num_scan_inputs=2,
        scan_input_directions=[int(direction.reverse)] * 2,
        scan_output_directions=[int(direction.reverse)],
    )
    if P is not None:
        h = graph.add("MatMul", h, graph.add("Transpose", P, perm=[1, 0]))  # (1)
    return Result(h, [graph.add("Unsqueeze", part, graph.integers(0)) for part in final])


def _zero_unit(graph: Graph, hidden: int) -> str:
    """Return a per-unit parameter of zeros, for a bias that the network lacks."""
    return graph.weight(f"zeros_of_unit_{hidden}", np.zeros(hidden, graph.dtype))


def _present(direction: Direction, parameters: Mapping[str, HostArray]) -> list[str]:
    W, U, b, units, gains = direction.names
    return [name for name in (W, U, b, *units, *gains) if name in parameters]


def _products(graph: Graph, cell: Cell, U: str) -> list[str]:
    """Return Uᵀ; of a cell with a second product, U₁ᵀ and U₂ᵀ."""
    U_T, first = graph.add("Transpose", U, perm=[1, 0]), cell.gates - second_product(cell)
    if first == cell.gates:
        return [U_T]
    blocks = graph.split(U_T, cell.gates, -1)
    return [graph.add("Concat", *part, axis=1) for part in (blocks[:first], blocks[first:])]


def _step(
    outer: Graph,
    cell: Cell,
    program: Program,
    hidden: int,
    products: list[str],
    gain: str | None,
    units: list[str],
) -> onnx.GraphProto:
    """Return one step as the body of a Scan; ``products`` are Uᵀ, or U₁ᵀ and U₂ᵀ, if it has any.

    Its numbers are those of the loop's equations, in `xprnn.engine.loop.protocol` and `second`.
    """
    graph = Graph(outer.dtype, outer)
    old = [graph.new(f"old_{name}") for name in cell.state]
    u, valid, h = graph.new("u"), graph.new("valid"), graph.new("output")
    inputs = {f"unit{k}": name for k, name in enumerate(units)}
    groups = {"u": graph.split(u, cell.gates, -1), "state": old}
    first = cell.gates - second_product(cell)
    if products:
        v = graph.add("MatMul", old[0], products[0])  # (2), (2a)
        if gain is not None:
            v = _normalized(graph, v, gain)  # (3)
        groups["v"] = graph.split(v, first, -1)
    for group, names in groups.items():
        inputs |= {f"{group}{k}": name for k, name in enumerate(names)}
    if len(products) > 1:
        (operand,) = write_formula(graph, traced(cell, trace_operand), inputs, "operand")  # (2b)
        v = graph.add("MatMul", operand, products[1])  # (2c)
        blocks = graph.split(v, cell.gates - first, -1)
        inputs |= {f"v{first + k}": name for k, name in enumerate(blocks)}
    made = write_formula(graph, program, inputs)
    new = [graph.add("Where", valid, *pair) for pair in zip(made, old, strict=True)]  # (4)
    graph.add("Where", valid, made[0], graph.number(0.0), name=h)
    B, rows = "B", cell.gates * hidden
    return graph.body(
        graph.new("step"),
        [
            *(graph.typed(name, [B, hidden]) for name in old),
            graph.typed(u, [B, rows]),
            graph.typed(valid, [B, 1], "bool"),
        ],
        [graph.typed(name, [B, hidden]) for name in (*new, h)],
    )


def _normalized(graph: Graph, a: str, gain: str) -> str:
    """Return γ N(a); see `xprnn.engine.normalization`."""
    centred = graph.add("Sub", a, graph.add("ReduceMean", a, axes=[-1], keepdims=1))
    squares = graph.add("Mul", centred, centred)
    variance = graph.add("ReduceMean", squares, axes=[-1], keepdims=1)
    scale = graph.add("Sqrt", graph.add("Add", variance, graph.number(EPSILON)))
    return graph.add("Mul", graph.add("Div", centred, scale), gain)
