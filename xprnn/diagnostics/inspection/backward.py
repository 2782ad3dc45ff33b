"""The backward pass of a layer as named quantities, lines of equations and contributions."""

from collections.abc import Iterable
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.cells import recurrent_blocks, unit_names
from xprnn.diagnostics.inspection.equations import block_names, short_unit_names, transposed
from xprnn.diagnostics.inspection.operand import (
    operand_backward_quantities,
    operand_contributions,
    passes_on,
    through_projection,
)
from xprnn.diagnostics.inspection.record import Contribution, Line, Quantity
from xprnn.diagnostics.inspection.view import Rows, View, results_of, source_lines
from xprnn.engine.normalization import normalize_backward


def backward_quantities(view: View) -> tuple[tuple[Quantity, ...], tuple[Line, ...]]:
    """Return what arrives at each step, what the cell makes of it, and what the step passes on."""
    cell, back = view.cell, view.back
    rows, lines = Rows(view.host), list[Line]()
    du, dv, d_previous = back.call.result
    _arrivals(view, rows, lines)
    results = results_of(back.call, {})
    placed = source_lines(view, back.call, lines)
    for name, a, statement in results:
        rows.add(name, a, "cell", placed.get(statement))
    gates = recurrent_blocks(cell)
    if back.operand is not None:
        operand_backward_quantities(view, rows, lines)
        # The cell returns the parts alone; the sums are the engine's.
        du, dv = _blocks(back.step.du, cell.gates), _blocks(back.step.da, gates)
    for letter, blocks in (("du", du), ("dv", dv[:gates])):
        for name, block in zip(block_names(cell, letter), blocks, strict=bool(blocks)):
            rows.add(name, block, "projections")
    if view.normalises:
        rows.add("da_u", _before_gain(view)[0], "projections", note="gradient of W x")
        rows.add("da_v", back.step.da, "projections", note="gradient of U h")
    if back.operand is not None:
        passes_on(view, rows, lines)
    else:
        _passes_on(view, d_previous[0], rows, lines)
    for name, passed in zip(cell.state, back.step.state, strict=True):
        label = f"d{name}_later{view.before}"
        rows.add(label, passed, "passes on", len(lines) - 1, f"to step {view.before[1:-1]}")
    return tuple(rows.quantities), tuple(lines)


def _arrivals(view: View, rows: Rows, lines: list[Line]) -> None:
    """Add what arrives at each step: from outside the time loop, and from the step after."""
    back = view.back
    own_text, own_note = _outside(view)
    if back.projected is None:
        lines.append(Line(f"dh_own(t) = {own_text}"))
    else:
        rows.add("dPh", back.projected, "arrives", 0, own_note)
        own_note = "through P"
        lines += [Line(f"dPh(t) = {own_text}"), Line("dh_own(t) = Pᵀ dPh(t)")]
    own, both = len(lines) - 1, len(lines)
    lines.append(Line("dh(t) = dh_own(t) + dh_later(t)"))
    later = f"from step {view.after[1:-1]}"
    for k, name in enumerate(view.cell.state):
        if k == 0 or bool((back.own[k] != 0).any()):
            rows.add(f"d{name}_own", back.own[k], "arrives", own, own_note)
        rows.add(f"d{name}_later", back.later[k], "arrives", both, later)
        rows.add(f"d{name}", back.call.arguments[-1][k], "arrives", both, "their sum")
    for name, part in zip(view.cell.state, view.cut or (), strict=False):
        rows.add(f"d{name}_cut", part, "cut", both, "from losses beyond the window")
    arrived = rows.known()
    arrived |= {f"{name}(t)": a for name, a in arrived.items()}
    lines[both] = lines[both]._replace(left=arrived, right=arrived)


def _passes_on(view: View, direct: Any, rows: Rows, lines: list[Line]) -> None:
    """Add the parts of what a step passes on to h of the step before."""
    paths = "" if direct is None else " + direct"
    norm = "da_v" if view.normalises else "dv"
    last = len(lines)
    U = view.tape.weights.U
    if U is None:
        lines.append(Line(f"dh_later{view.before} = {'0' if direct is None else 'direct'}"))
    else:
        back = view.projection_back
        lines.append(Line(f"dh_later{view.before} = {back}Uᵀ {norm}(t){paths}"))
    if direct is not None and U is not None:
        through = view.back.step.da @ U
        note = f"{view.projection_back}Uᵀ {norm}(t)"
        rows.add("through U", through, "passes on", last, note)
        rows.add("direct", direct, "passes on", last, "not through U")


def _blocks(a: Any, gates: int) -> tuple[Any, ...]:
    """Split (T, 1, G·H) into G blocks."""
    hidden = a.shape[-1] // gates
    return tuple(a[..., k * hidden : (k + 1) * hidden] for k in range(gates))


def _before_gain(view: View) -> tuple[Any, Any]:
    """Return the gradient of W x, (T, G·H), and dγ_u of every step; without a gain du, None."""
    backend, du = view.tape.backend, view.back.step.du
    weights, normalized = view.tape.weights, view.forth.normalized
    if not weights.gains or normalized is None:
        return du, None
    rows = backend.library.rows(du)
    return normalize_backward(backend.xp, normalized, weights.gains[0], rows)


def contributions(view: View) -> Iterable[Contribution]:
    """Yield what each step adds to the gradients of the layer's parameters."""
    names, step, weights = view.direction.names, view.back.step, view.tape.weights
    d_product, d_gain = _before_gain(view)
    product, du, da = map(view.values, (d_product, step.du, step.da))
    h = view.values(view.forth.states[0][:-1, ...])
    W_shape = tuple(weights.W.shape)
    of_u, of_v = ("da_u", "da_v") if view.normalises else ("du", "dv")
    if view.forth.x.ndim == 2:
        tokens = view.values(view.forth.x)[:, 0].astype(np.int64)
        yield Contribution(names.W, f"dW[:, x(t)] += {of_u}(t)", product, None, tokens, W_shape)
    else:
        yield Contribution(
            names.W,
            f"dW += {of_u}(t) x(t)ᵀ",
            product,
            view.values(view.forth.x),
            None,
            W_shape,
        )
    if view.back.operand is not None:
        yield from operand_contributions(view, names.U, da)
    elif weights.U is not None:
        read, factor = f"h{view.before}", h
        if view.factors is not None:
            read, factor = f"P {read}", view.projected(h)
        yield Contribution(
            names.U,
            f"dU += {of_v}(t) {transposed(read)}",
            da,
            factor,
            None,
            view.recurrent_shape,
            heads=view.architecture.heads,
        )
        yield from through_projection(view, slice(None), f"Uᵀ {of_v}(t)", f"h{view.before}", da, h)
    if view.factors is not None:
        name, text = view.direction.P, "dP += dPh(t) h(t)ᵀ"
        left, right = map(view.values, (view.back.projected, view.forth.states[0][1:, ...]))
        yield Contribution(f"{name}", text, left, right, None, tuple(view.factors.P.shape))
    if view.architecture.bias:
        yield Contribution(names.b, "db += du(t)", du, None, None, du.shape[1:])
    kinds = zip(unit_names(view.cell), short_unit_names(view.cell), strict=True)
    for (unit, short), name, d_unit in zip(kinds, names.units, step.units, strict=True):
        if unit in view.architecture.units():
            values, text = view.values(d_unit), f"d{short} += d{short}(t)"
            yield Contribution(name, text, values, None, None, values.shape[1:])
    if d_gain is not None:
        for name, gain, one in zip(names.gains, (d_gain, step.gain), "uv", strict=True):
            values, text = view.values(gain), f"dγ_{one} += d{one}(t) N(a_{one}(t))"
            yield Contribution(name, text, values, None, None, values.shape[1:])


def _outside(view: View) -> tuple[str, str]:
    """Return what reaches the layer's output at step t from above, and a note on it."""
    architecture, layer = view.architecture, view.direction.layer
    half = ", this direction's half" if architecture.bidirectional else ""
    if layer < architecture.layers - 1:
        above = architecture.stack[(layer + 1) * architecture.directions]
        past = " + what goes past it" if above.skips else ""
        return f"Wᵀ du(t) of layer {layer + 1}{past}{half}", "from the layer above"
    source = "dy(t)" if architecture.output_size is None else "Rᵀ dy(t)"
    return f"{source}{half}", "from this step's output"
