"""A layer's passes as named quantities and lines of equations."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.cells import Arrays, Cell, has_layer_norm, unit_names
from xprnn.diagnostics.inspection.equations import (
    Equation,
    block_names,
    numbered_equations,
    short_unit_names,
)
from xprnn.diagnostics.inspection.passes import Back, Forth
from xprnn.diagnostics.inspection.record import Contribution, LayerRecord, Line, Quantity
from xprnn.diagnostics.inspection.watching import Call, Statement
from xprnn.engine.architecture import Architecture, Direction
from xprnn.engine.layer.layer import Tape
from xprnn.engine.normalization import normalize_backward

Host = Callable[[Any], HostArray | None]
"""Returns an array as (T, K) on the host, in the sequence's order; None if it is not one of T."""


Result: TypeAlias = tuple[str, Any, Statement | None]
"""A name, what it stands for, and the statement that computed it."""


def layer_record(
    architecture: Architecture,
    direction: Direction,
    tape: Tape,
    forth: Forth,
    back: Back,
    cut: Arrays | None,
) -> LayerRecord:
    """Return every quantity of a layer in one direction.

    Parameters
    ----------
    tape : Tape
        Of one segment.
    cut : tuple of array, (T, 1, H) each, or None
        What a window keeps from reaching each state.
    """
    return _Layer(architecture, direction, tape, forth, back, cut).record()


class _Layer:
    """What all parts of a layer's record are made from."""

    def __init__(
        self,
        architecture: Architecture,
        direction: Direction,
        tape: Tape,
        forth: Forth,
        back: Back,
        cut: Arrays | None,
    ) -> None:
        self.cell: Cell = architecture.cell
        self.direction, self.tape, self.cut = direction, tape, cut
        self.forth, self.back = forth, back
        self.bias, self.embedded = architecture.bias, architecture.embedding_size is not None
        self.units = tuple(zip(unit_names(self.cell), direction.names.units, strict=True))
        self.kept_units = architecture.units()
        top = direction.layer == architecture.layers - 1
        source = "Rᵀ dy(t)" if architecture.output_size is not None else "dy(t)"
        if not top:
            source = f"Wᵀ du(t) of layer {direction.layer + 1}"
        if architecture.bidirectional:
            source += ", this direction's half"
        self.own_text = f"dh_own(t) = {source}"
        self.x_note = "h of the layer below" if direction.layer else ""
        if architecture.embedding_size is not None and not direction.layer:
            self.x_note = "the token's row of E"
        self.own_note = "from this step's output" if top else "from the layer above"
        steps, reverse = forth.u.shape[0], direction.reverse
        self.host = host_of(tape.backend, steps, reverse=reverse)
        self.before = "(t+1)" if reverse else "(t-1)"
        self.after = "(t-1)" if reverse else "(t+1)"

    def record(self) -> LayerRecord:
        forward, forward_lines = self._forward()
        backward, backward_lines = self._backward()
        return LayerRecord(
            self.direction.layer,
            self.direction.reverse,
            forward,
            backward,
            forward_lines,
            backward_lines,
            tuple(self._contributions()),
        )

    # Forward

    def _forward(self) -> tuple[tuple[Quantity, ...], tuple[Line, ...]]:
        cell, host = self.cell, self.host
        (u, v, previous), (new, _) = self.forth.call.arguments, self.forth.call.result
        gates = cell.gates
        u_names, v_names = block_names(cell, "u"), block_names(cell, "v")
        rows = _Rows(host)
        lines = [self._input_line(), self._recurrent_line()]
        rows.add("x", self.forth.x, "input", note=self.x_note)
        for name, block in zip(u_names, u, strict=True):
            rows.add(name, block, "input projection", 0)
        for name, state in zip(cell.state, previous, strict=True):
            rows.add(f"{name}{self.before}", state, "state before")
        for name, block in zip(v_names, v[:gates], strict=True):
            rows.add(name, block, "recurrent projection", 1)
        for name, unit in zip(short_unit_names(cell), v[gates:], strict=True):
            rows.add(name, unit, "parameters per unit")
        results = _results(self.forth.call, dict(zip(cell.state, new, strict=True)))
        documented = numbered_equations(cell)
        if documented:
            placed, computed = self._documented_lines(documented, rows.known(), results, lines)
        else:
            placed, computed = self._source_lines(self.forth.call, lines), {}
        for name, a, statement in results:
            line = computed.get(name)
            if line is None and statement is not None:
                cited = [placed[n] for n in statement.cites if n in placed]
                line = cited[-1] if cited else placed.get(statement)
            rows.add(name, a, "cell", line)
        return tuple(rows.quantities), tuple(lines)

    def _input_line(self) -> Line:
        W, b = self.tape.weights.W, self.tape.weights.b
        product = "W[:, x(t)]" if self.forth.x.ndim == 2 else "W x(t)"
        product = f"γ_u N({product})" if has_layer_norm(self.cell) else product
        right = {"W": W, "b": b, "x(t)": self.forth.x}
        return self._product_line(f"u(t) = {product}{'' if b is None else ' + b'}", W, right)

    def _recurrent_line(self) -> Line:
        U, h = self.tape.weights.U, f"h{self.before}"
        product = f"γ_v N(U {h})" if has_layer_norm(self.cell) else f"U {h}"
        right = {"U": U, h: self.forth.states[0][:-1, ...]}
        return self._product_line(f"v(t) = {product}", U, right)

    def _product_line(self, text: str, matrix: Any, right: dict[str, Any]) -> Line:
        """Return a line with a product, with its numbers if it is one of two numbers."""
        numbers = right if math.prod(matrix.shape) == 1 else {}
        return Line(text, None, (), {}, self._named(numbers))

    def _documented_lines(
        self,
        equations: Sequence[Equation],
        known: dict[str, HostArray],
        results: Sequence[Result],
        lines: list[Line],
    ) -> tuple[dict[object, int], dict[str, int]]:
        """Append the equations of the docstring; return their places by number, and by name."""
        values = self._named({name: a for name, a, _ in results})
        named = {f"{name}(t)": a for name, a in (known | values).items()} | known
        placed: dict[object, int] = {}
        for equation in equations:
            placed[equation.number] = len(lines)
            text = equation.text.replace("(t-1)", self.before)
            lines.append(Line(text, equation.number, (), named, named))
        return placed, {e.computes: placed[e.number] for e in equations}

    def _source_lines(self, call: Call, lines: list[Line]) -> dict[object, int]:
        """Append the statements that computed something; return their places."""
        placed: dict[object, int] = {}
        for statement, read, written in call.executed:
            if statement is None or not statement.works:
                continue
            placed[statement] = len(lines)
            left, right = self._named(written), self._named(read)
            lines.append(Line(statement.text, None, statement.cites, left, right))
        return placed

    def _named(self, values: dict[str, Any]) -> dict[str, HostArray]:
        found = {name: self.host(_alone(a)) for name, a in values.items()}
        return {name: a for name, a in found.items() if a is not None}

    # Backward

    def _backward(self) -> tuple[tuple[Quantity, ...], tuple[Line, ...]]:
        cell, back = self.cell, self.back
        rows, lines = _Rows(self.host), list[Line]()
        (_, _, d_state), (du, dv, d_previous) = back.call.arguments, back.call.result
        lines += [Line(self.own_text), Line("dh(t) = dh_own(t) + dh_later(t)")]
        for k, name in enumerate(cell.state):
            if k == 0 or _any(back.own[k]):
                rows.add(f"d{name}_own", back.own[k], "arrives", 0, self.own_note)
            later = f"from step {self.after[1:-1]}"
            rows.add(f"d{name}_later", back.later[k], "arrives", 1, later)
            if self.cut is not None:
                rows.add(f"d{name}_cut", self.cut[k], "cut", 1, "cut off by the window")
            rows.add(f"d{name}", d_state[k], "arrives", 1, "their sum")
        arrived = rows.known()
        arrived |= {f"{name}(t)": a for name, a in arrived.items()}
        lines[1] = lines[1]._replace(left=arrived, right=arrived)
        results = _results(back.call, {})
        placed = self._source_lines(back.call, lines)
        for name, a, statement in results:
            rows.add(name, a, "cell", placed.get(statement))
        gates = cell.gates
        for letter, blocks in (("du", du), ("dv", dv[:gates])):
            for name, block in zip(block_names(cell, letter), blocks, strict=True):
                rows.add(name, block, "projections")
        if has_layer_norm(cell):
            rows.add("da_u", self._before_gain()[0], "projections", note="gradient of W x")
            rows.add("da_v", back.step.da, "projections", note="gradient of U h")
        direct = d_previous[0]
        paths = "" if direct is None else " + direct"
        norm = "da_v" if has_layer_norm(cell) else "dv"
        last = len(lines)
        lines.append(Line(f"dh_later{self.before} = Uᵀ {norm}(t){paths}"))
        if direct is not None:
            U = self.tape.weights.U
            through = self.tape.backend.xp.matmul(back.step.da, U)
            rows.add("through U", through, "passes on", last, f"Uᵀ {norm}(t)")
            rows.add("direct", direct, "passes on", last, "not through U")
        for name, passed in zip(cell.state, back.step.state, strict=True):
            label = f"d{name}_later{self.before}"
            rows.add(label, passed, "passes on", last, f"to step {self.before[1:-1]}")
        return tuple(rows.quantities), tuple(lines)

    def _before_gain(self) -> tuple[Any, Any]:
        """Return the gradient of W x, (T, G·H), and dγ_u of every step; without a gain du, None."""
        backend, du = self.tape.backend, self.back.step.du
        weights, normalized = self.tape.weights, self.forth.normalized
        if not weights.gains or normalized is None:
            return du, None
        rows = backend.library.rows(du)
        return normalize_backward(backend.xp, normalized, weights.gains[0], rows)

    def _contributions(self) -> Iterable[Contribution]:
        names, step, weights = self.direction.names, self.back.step, self.tape.weights
        (d_product, d_gain), host = self._before_gain(), self.host
        d_product, du, da = _known(host(d_product)), _known(host(step.du)), _known(host(step.da))
        h = _known(host(self.forth.states[0][:-1, ...]))
        W_shape = tuple(weights.W.shape)
        left, right = ("da_u", "da_v") if has_layer_norm(self.cell) else ("du", "dv")
        if self.forth.x.ndim == 2:
            tokens = _known(host(self.forth.x))[:, 0].astype(np.int64)
            yield Contribution(names.W, f"dW[:, x(t)] += {left}(t)", d_product, None, tokens, W_shape)
        else:
            yield Contribution(names.W, f"dW += {left}(t) x(t)ᵀ", d_product, _known(host(self.forth.x)), None, W_shape)
        yield Contribution(names.U, f"dU += {right}(t) h{self.before}ᵀ", da, h, None, tuple(weights.U.shape))
        if self.bias:
            yield Contribution(names.b, "db += du(t)", du, None, None, du.shape[1:])
        units = zip(short_unit_names(self.cell), self.units, step.units, strict=True)
        for short, (unit, name), d_unit in units:
            if unit in self.kept_units:
                values, text = _known(host(d_unit)), f"d{short} += d{short}(t)"
                yield Contribution(name, text, values, None, None, values.shape[1:])
        if d_gain is not None:
            for name, gain, one in zip(names.gains, (d_gain, step.gain), "uv", strict=True):
                values, text = _known(host(gain)), f"dγ_{one} += d{one}(t) N(a_{one}(t))"
                yield Contribution(name, text, values, None, None, values.shape[1:])


class _Rows:
    """Quantities by name: a name that is taken gets a prime."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.quantities: list[Quantity] = []

    def add(
        self, name: str, values: Any, group: str, line: int | None = None, note: str = ""
    ) -> None:
        found = self._host(values)
        if found is None:
            return
        names = {q.name for q in self.quantities}
        while name in names:
            name += "′"
        self.quantities.append(Quantity(name, found, group, line, note))

    def known(self) -> dict[str, HostArray]:
        return {q.name: q.values for q in self.quantities}


def host_of(backend: Backend, steps: int, *, reverse: bool = False) -> Host:
    """Return what brings arrays of every step to the host."""

    def host(a: Any) -> HostArray | None:
        if not backend.owns(a):
            return None
        values = backend.to_numpy(a)
        if values.ndim < 2:
            # A parameter per unit, or a number: the same at every step.
            values = np.broadcast_to(np.atleast_1d(values), (steps, max(values.size, 1)))
        elif values.ndim == 3 and values.shape[:2] == (steps, 1):
            values = values[:, 0, :]
        elif values.ndim != 2 or len(values) != steps:
            return None
        values = values.astype(np.float64)
        return values[::-1] if reverse else values

    return host


def _results(call: Call, state: dict[str, Any]) -> list[Result]:
    """Return what a formula has computed, by its names, in the order in which it did.

    Parameters
    ----------
    call : Call
    state : dict
        The new state; what has no name in the formula comes last, by these names.
    """
    seen = {id(a) for argument in call.arguments for a in _flat(argument)}
    results: list[Result] = []
    for executed in call.executed:
        for name, value in executed.written.items():
            single = _alone(value)
            if hasattr(single, "shape") and id(single) not in seen:
                results.append((name, single, executed.statement))
    named = {(name, id(a)) for name, a, _ in results}
    last = call.executed[-1].statement if call.executed else None
    results += [(k, a, last) for k, a in state.items() if (k, id(a)) not in named]
    return results


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _alone(value: Any) -> Any:
    """Return the element of a tuple of one, else the value itself."""
    return value[0] if isinstance(value, tuple | list) and len(value) == 1 else value


def _any(a: Any) -> bool:
    return bool((a != 0).any())


def _known(a: HostArray | None) -> HostArray:
    assert a is not None
    return a
