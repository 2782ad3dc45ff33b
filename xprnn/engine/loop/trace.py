"""Tracing: a cell's formulas, called with operands that record what is done to them.

The formulas are the cell's own `forward` and `backward`; nothing is stated a second time.  A cell
whose formulas are not lists of elementwise operations is refused with a reason, as `Untraceable`,
and runs as plain array code.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from xprnn.cells import Cell, recurrent_blocks, second_product, unit_names
from xprnn.engine.loop.program import FLOAT, INPUT, Program
from xprnn.engine.loop.tracer import Tracer, Untraceable


class Formulas(NamedTuple):
    """A cell's traced formulas; ``second`` is its ``second_product``, which has two more."""

    gates: int
    forward: Program
    backward: Program
    second: int = 0
    operand: Program | None = None
    operand_backward: Program | None = None


def trace(cell: Cell) -> Formulas:
    """Return a cell's formulas as programs.

    Raises
    ------
    Untraceable
        If a formula is not a list of elementwise operations; the message says why.
    """
    forward = trace_forward(cell)
    kinds = [forward.nodes[index].kind for index in forward.outputs["saved"] if index is not None]
    backward, second = trace_backward(cell, kinds), second_product(cell)
    if not second:
        return Formulas(cell.gates, forward, backward)
    operand = trace_operand(cell)
    inputs = [str(node.value) for node in operand.nodes if node.op == INPUT]
    if all(name.startswith("unit") for name in inputs):
        raise Untraceable(f"{type(cell).__name__}.operand is the same at every step")
    through = trace_operand_backward(cell, kinds)
    return Formulas(cell.gates, forward, backward, second, operand, through)


def trace_forward(cell: Cell) -> Program:
    """Return a cell's `forward` as a program.

    Inputs are ``u0, u1, ...``, ``v0, ...``, ``unit0, ...`` and ``state0, ...``; the groups of
    results are ``"state"`` and ``"saved"``.

    Raises
    ------
    Untraceable
    """
    tracer = Tracer()
    u, v = tracer.operands("u", cell.gates), tracer.operands("v", recurrent_blocks(cell))
    units = tracer.operands("unit", len(unit_names(cell)))
    state = tracer.operands("state", len(cell.state))
    new, saved = _call(cell, "forward", tracer, u, v + units, state)
    _expect(cell, "forward", "states", new, len(cell.state))
    return _program(tracer, {"state": new, "saved": saved})


def trace_operand(cell: Cell) -> Program:
    """Return the `operand` of a cell with a second product as a program.

    Inputs are those of `trace_forward`, without the blocks of v that come from the second product;
    the group of results is ``"operand"``.

    Raises
    ------
    Untraceable
    """
    tracer, gates = Tracer(), cell.gates
    v = tracer.operands("v", gates - second_product(cell))
    units = tracer.operands("unit", len(unit_names(cell)))
    state = tracer.operands("state", len(cell.state))
    operand = _call(cell, "operand", tracer, tracer.operands("u", gates), v + units, state)
    return _program(tracer, {"operand": (operand,)})


def trace_backward(cell: Cell, saved: Sequence[str]) -> Program:
    """Return a cell's `backward` as a program.

    Inputs are ``saved0, ...``, ``unit0, ...``, ``previous0, ...`` and ``d_state0, ...``; the groups
    of results are ``"du"``, ``"dv"``, ``"units"`` and ``"previous"``.

    Parameters
    ----------
    cell : Cell
    saved : sequence of {"float", "bool"}
        The kinds of what its `forward` saves.

    Raises
    ------
    Untraceable
    """
    tracer, count, units = Tracer(), len(cell.state), len(unit_names(cell))
    blocks = recurrent_blocks(cell)
    inputs = tuple(tracer.operand(f"saved{k}", kind) for k, kind in enumerate(saved))
    inputs += tracer.operands("unit", units)
    previous, d_state = tracer.operands("previous", count), tracer.operands("d_state", count)
    du, dv, d_previous = _call(cell, "backward", tracer, inputs, previous, d_state)
    _expect(cell, "backward", "gradients of u", du, cell.gates)
    _expect(cell, "backward", "gradients of v and units", dv, blocks + units)
    _expect(cell, "backward", "gradients of the state", d_previous, count)
    groups = {
        "du": du,
        "dv": dv[:blocks],
        "units": dv[blocks:],
        "previous": d_previous,
    }
    return _program(tracer, groups)


def trace_operand_backward(cell: Cell, saved: Sequence[str]) -> Program:
    """Return the `operand_backward` of a cell with a second product as a program.

    Inputs are ``saved0, ...``, ``unit0, ...``, ``previous0, ...`` and ``d_operand``; the groups of
    results are those of `trace_backward`, without the blocks of dv from the second product.

    Raises
    ------
    Untraceable
    """
    tracer, first = Tracer(), cell.gates - second_product(cell)
    inputs = tuple(tracer.operand(f"saved{k}", kind) for k, kind in enumerate(saved))
    inputs += tracer.operands("unit", len(unit_names(cell)))
    previous = tracer.operands("previous", len(cell.state))
    d_operand = tracer.operand("d_operand", FLOAT)
    du, dv, d_previous = _call(cell, "operand_backward", tracer, inputs, previous, d_operand)
    _expect(cell, "operand_backward", "gradients of u", du, cell.gates)
    _expect(cell, "operand_backward", "gradients of v and units", dv, first + len(unit_names(cell)))
    _expect(cell, "operand_backward", "gradients of the state", d_previous, len(cell.state))
    groups = {"du": du, "dv": dv[:first], "units": dv[first:], "previous": d_previous}
    return _program(tracer, groups)


def _call(cell: Cell, name: str, tracer: Tracer, *arguments: object) -> Any:
    try:
        return getattr(cell, name)(tracer, *arguments)
    except Untraceable as error:
        raise Untraceable(f"{type(cell).__name__}.{name} can't be traced: {error}") from error
    except Exception as error:
        # Code that is not meant for operands may raise anything here, and still run on arrays.
        raise Untraceable(
            f"{type(cell).__name__}.{name} can't be traced: {type(error).__name__}: {error}"
        ) from error


def _expect(cell: Cell, name: str, what: str, results: Any, count: int) -> None:
    if len(results) != count:
        raise Untraceable(
            f"{type(cell).__name__}.{name} returns {len(results)} {what}, not {count}"
        )


def _program(tracer: Tracer, groups: dict[str, Any]) -> Program:
    outputs = {
        group: tuple(None if a is None else tracer.index(a) for a in results)
        for group, results in groups.items()
    }
    return tracer.builder.program(outputs)
