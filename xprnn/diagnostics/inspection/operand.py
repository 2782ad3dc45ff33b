"""The second product within a step, of a cell that has one, as quantities, lines and contributions.

See `xprnn.engine.loop.second`: an operand o(t) takes the place of h(t-1) in the products of the
last blocks of U.  The page calls it as the cell's docstring does.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Cell, second_product
from xprnn.diagnostics.inspection.equations import (
    block_names,
    gate_names,
    numbered_equations,
    transposed,
)
from xprnn.diagnostics.inspection.record import Contribution, Line
from xprnn.diagnostics.inspection.view import Result, Rows, View, results_of, source_lines
from xprnn.engine.loop.second import first_rows

GROUP = "second product"


def operand_name(view: View) -> str:
    """Return the left side of the equation that `operand` cites last, or ``"operand"``.

    Only if `forward` itself computes nothing of that name.
    """
    call, forward = view.forth.operand, view.forth.call
    statement = call.executed[-1].statement if call is not None and call.executed else None
    if statement is None or not statement.cites:
        return "operand"
    taken = {name for executed in forward.executed for name in executed.written}
    for equation in numbered_equations(view.cell):
        if equation.number == statement.cites[-1] and equation.computes not in taken:
            return equation.computes
    return "operand"


def operand_results(view: View) -> list[Result]:
    """Return what `operand` has computed, the operand included."""
    call = view.forth.operand
    return [] if call is None else results_of(call, {operand_name(view): call.result})


def operand_lines(view: View, lines: list[Line]) -> dict[object, int]:
    """Append the statements of `operand`; return their places."""
    call, start = view.forth.operand, len(lines)
    if call is None:
        return {}
    placed = source_lines(view, call, lines)
    for k, line in enumerate(lines[start:], start):
        if line.text.startswith("return "):
            lines[k] = line._replace(text=line.text.replace("return", f"{operand_name(view)} =", 1))
    return placed


def products(view: View) -> list[tuple[str, str, Array, Array]]:
    """Return for each block of v: its gate, the name of its factor, its rows of U, the factor."""
    U, call = view.tape.weights.U, view.forth.operand
    assert U is not None
    assert call is not None
    hidden, first = U.shape[1], _first(view.cell)
    found = []
    for k, gate in enumerate(gate_names(view.cell)):
        name, factor = f"h{view.before}", view.forth.states[0][:-1, ...]
        if k >= first:
            name, factor = f"{operand_name(view)}(t)", call.result
        found.append((gate, name, U[k * hidden : (k + 1) * hidden, :], factor))
    return found


def operand_backward_quantities(view: View, rows: Rows, lines: list[Line]) -> None:
    """Add the gradient of the operand, and what `operand_backward` makes of it."""
    call, name = view.back.operand, operand_name(view)
    assert call is not None
    text = _text_of_way_back(view, slice(_first(view.cell), None))
    rows.add(f"d{name}", call.arguments[-1], GROUP, len(lines))
    lines.append(Line(f"d{name}(t) = {text}"))
    placed = source_lines(view, call, lines)
    for local, a, statement in results_of(call, {}):
        rows.add(local, a, GROUP, placed.get(statement))


def passes_on(view: View, rows: Rows, lines: list[Line]) -> None:
    """Add the parts of what a step passes on to h of the step before."""
    call, back, name, U = view.back.operand, view.back, operand_name(view), view.tape.weights.U
    assert call is not None
    assert U is not None
    first, last = first_rows(view.cell, U), len(lines)
    through_U = _text_of_way_back(view, slice(0, _first(view.cell)))
    parts = [
        (f"through {name}", call.result[2][0], f"d{name}(t) times ∂{name}/∂h{view.before}"),
        ("direct", back.call.result[2][0], f"neither through U nor through {name}"),
    ]
    parts = [part for part in parts if part[1] is not None]
    terms = [through_U, *(label for label, _, _ in parts)]
    lines.append(Line(f"dh_later{view.before} = {' + '.join(terms)}"))
    if parts:
        through = back.step.da[..., :first] @ U[:first, :]
        rows.add("through U", through, "passes on", last, through_U)
    for label, values, note in parts:
        rows.add(label, values, "passes on", last, note)


def operand_contributions(view: View, name: str, dv: Any) -> Iterable[Contribution]:
    """Yield what each step adds to the gradient of U, from h(t-1) and from the operand.

    ``dv`` is on the host, (T, G·H).
    """
    U, call = view.tape.weights.U, view.forth.operand
    assert U is not None
    assert call is not None
    shape, heads = view.recurrent_shape, view.architecture.heads
    blocks, first = first_rows(view.cell, U), _first(view.cell)
    Us, dvs = block_names(view.cell, "U"), block_names(view.cell, "dv")
    h, q = view.forth.states[0][:-1, ...], call.result
    for part, which, factor, values in (
        (slice(0, blocks), slice(0, first), f"h{view.before}", h),
        (slice(blocks, U.shape[0]), slice(first, None), f"{operand_name(view)}(t)", q),
    ):
        h_or_o = view.values(values)
        read, right = factor, h_or_o
        if view.factors is not None:
            read, right = f"P {factor}", view.projected(h_or_o)
        gates = _tuple([f"{one}(t)" for one in dvs[which]])
        text = f"d{_tuple(Us[which])} += {gates} {transposed(read)}"
        yield Contribution(name, text, dv[:, part], right, None, shape, part, heads)
        back = _transposed_products(view.cell, which)
        back = f"({back})" if " + " in back else back
        yield from through_projection(view, part, back, factor, dv[:, part], h_or_o)


def through_projection(
    view: View, part: slice, text: str, factor: str, dv: HostArray, values: HostArray
) -> Iterable[Contribution]:
    """Yield what each step adds to the gradient of P by way of v, if the layer has a projection.

    Parameters
    ----------
    part : slice
        The rows of U whose products ``dv`` is the gradient of.
    text : str
        The gradient of what these rows multiply.
    factor : str
        What P was multiplied by, with its values, (T, H).
    """
    if view.factors is None:
        return
    U: HostArray = view.tape.backend.to_numpy(view.factors.U).astype(np.float64)
    yield Contribution(
        f"{view.direction.P}",
        f"dP += {text} {factor}ᵀ",
        dv @ U[part, :],
        values,
        None,
        tuple(view.factors.P.shape),
    )


def _first(cell: Cell) -> int:
    """Return how many blocks come from the first product."""
    return cell.gates - second_product(cell)


def _transposed_products(cell: Cell, blocks: slice) -> str:
    """Return the text of the sum of Uᵀ dv over some blocks."""
    pairs = zip(block_names(cell, "U")[blocks], block_names(cell, "dv")[blocks], strict=True)
    return " + ".join(f"{U}ᵀ {dv}(t)" for U, dv in pairs)


def _text_of_way_back(view: View, blocks: slice) -> str:
    """Return the text of what goes back from some blocks of v to what their product reads."""
    text = _transposed_products(view.cell, blocks)
    several = " + " in text and view.factors is not None
    return f"{view.projection_back}({text})" if several else f"{view.projection_back}{text}"


def _tuple(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"
