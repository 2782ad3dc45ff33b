"""The forward pass of a layer as named quantities and lines of equations."""

import math
from collections.abc import Sequence
from typing import Any

from xprnn.backend.host.arrays import HostArray
from xprnn.cells import recurrent_blocks, second_product
from xprnn.diagnostics.inspection.equations import (
    Equation,
    block_names,
    numbered_equations,
    short_unit_names,
)
from xprnn.diagnostics.inspection.operand import GROUP, operand_lines, operand_results, products
from xprnn.diagnostics.inspection.record import Line, Quantity
from xprnn.diagnostics.inspection.view import Result, Rows, View, results_of, source_lines
from xprnn.engine.recurrent import put_out


def forward_quantities(view: View) -> tuple[tuple[Quantity, ...], tuple[Line, ...]]:
    """Return input, projections, and what the cell makes of them."""
    cell, forth = view.cell, view.forth
    (u, v, previous), (new, _) = forth.call.arguments, forth.call.result
    gates = recurrent_blocks(cell)
    u_names, v_names = block_names(cell, "u"), block_names(cell, "v")
    rows = Rows(view.host)
    lines = [_input_line(view), *_recurrent_line(view)]
    rows.add("x", forth.x, "input", note=_input_note(view))
    for name, block in zip(u_names, u, strict=True):
        rows.add(name, block, "input projection", 0)
    for name, state in zip(cell.state, previous, strict=True):
        rows.add(f"{name}{view.before}", state, "state before")
    first = gates - second_product(cell)
    recurrent = list(zip(v_names, v[:gates], strict=gates > 0))
    heads = view.architecture.heads
    note = f"U has {heads} blocks, one for each head" if heads > 1 else ""
    for k, (name, block) in enumerate(recurrent[:first]):
        rows.add(name, block, "recurrent projection", 1 + k if first < gates else 1, note)
    for name, unit in zip(short_unit_names(cell), v[gates:], strict=True):
        rows.add(name, unit, "parameters per unit")
    results = results_of(forth.call, dict(zip(cell.state, new, strict=True)))
    within = operand_results(view)
    documented = numbered_equations(cell)
    if documented:
        known = rows.known() | view.named(dict(recurrent))
        placed, computed = _documented_lines(view, documented, known, [*within, *results], lines)
    else:
        placed = operand_lines(view, lines)
        placed, computed = placed | source_lines(view, forth.call, lines), {}

    def add(found: Result, group: str) -> None:
        name, a, statement = found
        line = computed.get(name)
        if line is None and statement is not None:
            cited = [placed[n] for n in statement.cites if n in placed]
            line = cited[-1] if cited else placed.get(statement)
        rows.add(name, a, group, line)

    for result in within:
        add(result, GROUP)
    for k, (name, block) in enumerate(recurrent[first:], first):
        rows.add(name, block, GROUP, 1 + k)
    for result in results:
        add(result, "cell")
    if view.factors is not None:
        h = forth.states[0][1:, ...]
        rows.add("Ph", put_out(view.tape.backend.xp, view.factors.P, h), "projection", len(lines))
        right = {"P": view.factors.P, "h(t)": h}
        lines.append(_product_line(view, "Ph(t) = P h(t)", view.factors.P, right))
    return tuple(rows.quantities), tuple(lines)


def _input_line(view: View) -> Line:
    W, b = view.tape.weights.W, view.tape.weights.b
    product = "W[:, x(t)]" if view.forth.x.ndim == 2 else "W x(t)"
    product = f"γ_u N({product})" if view.normalises else product
    right = {"W": W, "b": b, "x(t)": view.forth.x}
    return _product_line(view, f"u(t) = {product}{'' if b is None else ' + b'}", W, right)


def _recurrent_line(view: View) -> list[Line]:
    """Return the line of v(t), if the cell reads it; of each block, if there are two products."""
    U, h = view.tape.weights.U, f"h{view.before}"
    if U is None:
        return []
    if view.forth.operand is not None:
        return [
            _product_line(
                view,
                f"v_{gate}(t) = U_{gate}{view.projection} {name}",
                rows,
                {f"U_{gate}": rows, name: a},
            )
            for gate, name, rows, a in products(view)
        ]
    product = f"U{view.projection} {h}"
    product = f"γ_v N({product})" if view.normalises else product
    right = {"U": U, h: view.forth.states[0][:-1, ...]}
    return [_product_line(view, f"v(t) = {product}", U, right)]


def _product_line(view: View, text: str, matrix: Any, right: dict[str, Any]) -> Line:
    """Return a line with a product, with its numbers if it is one of two numbers."""
    single = math.prod(matrix.shape) == 1 and view.factors is None
    numbers = right if single else {}
    return Line(text, None, (), {}, view.named(numbers))


def _documented_lines(
    view: View,
    equations: Sequence[Equation],
    known: dict[str, HostArray],
    results: Sequence[Result],
    lines: list[Line],
) -> tuple[dict[object, int], dict[str, int]]:
    """Append the equations of the docstring; return their places by number, and by name."""
    values = view.named({name: a for name, a, _ in results})
    named = {f"{name}(t)": a for name, a in (known | values).items()} | known
    placed: dict[object, int] = {}
    for equation in equations:
        placed[equation.number] = len(lines)
        text = equation.text.replace("(t-1)", view.before)
        lines.append(Line(text, equation.number, (), named, named))
    return placed, {e.computes: placed[e.number] for e in equations}


def _input_note(view: View) -> str:
    if view.direction.layer:
        below = view.architecture.stack[(view.direction.layer - 1) * view.architecture.directions]
        put_out = "h" if below.P is None else "P h"
        return f"{put_out}{' + x' * below.skips} of the layer below"
    return "" if view.architecture.embedding_size is None else "the token's row of E"
