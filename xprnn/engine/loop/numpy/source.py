"""The source of a time loop in NumPy calls: straight-line, no allocations, results in place.

One loop body per formula.  What does not depend on what the loop carries is computed for a block
of steps at once.  Names are those of `xprnn.engine.loop.numpy.plan`, numbers refer to the equations
in `xprnn.engine.loop.protocol`, and (2a) to (2c) and (8a) to (8c) to those of a second product, in
`xprnn.engine.loop.second`.  Normalisation, (3) and (7), is not here.

Steps past the end of a sequence are computed like all others, and then set to what they should be.
"""

from xprnn.engine.loop.numpy.joined import Joined
from xprnn.engine.loop.numpy.phases import Phase
from xprnn.engine.loop.numpy.plan import LoopPlan
from xprnn.engine.loop.numpy.writer import Writer, lanes
from xprnn.engine.loop.program import input_number, split_name
from xprnn.engine.loop.results import direct_gradient
from xprnn.engine.loop.text import function, indented


def forward_source(
    plan: LoopPlan, gates: int, second: int = 0, *, masked: bool, padded: bool
) -> str:
    """Return the text of the loop from step 0 to step T-1.

    It is ``forward(u, U_T, units, states, saved, gates, mask, valid, block, dtype)``, and writes to
    states, of which it reads the initial ones, to saved, the arrays of `LoopPlan.saved`, and to
    gates, (T, n, B, H) for each of `LoopPlan.joined` if that is saved.
    """
    return _Forward(plan, gates, second).source(masked=masked, padded=padded)


def backward_source(
    plan: LoopPlan, gates: int, second: int = 0, *, outer: bool, masked: bool, padded: bool
) -> str:
    """Return the text of the loop from step T-1 to step 0.

    It is ``backward(U, units, states, saved, dh, d_state, du, dv, mask, valid, block, dtype)``, and
    writes to d_state, du and dv; it returns the gradients of ``units``.  Without ``outer``, dh is
    None.
    """
    return _Backward(plan, gates, second).source(outer=outer, masked=masked, padded=padded)


_PAST = ["past = logical_not(valid)", "ended = logical_or.reduce(past, (1, 2)).tolist()"]
"""Which steps are past the end of a sequence, and at which steps any sequence has ended."""


class _Forward(Writer):
    def block_of(self, name: str) -> str:
        group, k = split_name(name)
        if group == "u":
            return self.gate("u[start:stop]", k or 0)
        if group == "state":
            return f"states{k}[start:stop]"
        if group == "new":
            return f"states{k}[start + 1 : stop + 1]"
        return f"saved{k}[start:stop]"

    def source(self, *, masked: bool, padded: bool) -> str:
        """Return the text of the function."""
        states = range(len(self.plan.program.outputs["state"]))
        body = [*self._product(masked=masked), *self._formula()]
        if padded:
            held = [f"copyto(new{k}, state{k}, where=past_t)" for k in states]  # (4)
            body += self.where_ended(held)
        for k in states:
            self.stepped[f"new{k}"] = self.block_of(f"new{k}")
            body.append(f"state{k} = new{k}")
        lines = ["T, B, _ = u.shape", "H = states[0].shape[2]"]
        lines += [f"unit{k} = units[{k}]" for k in _up_to_last(self, "unit")]
        for k in states:
            lines += [f"states{k} = states[{k}]", f"state{k} = states{k}[0]"]
        lines += [f"{name} = saved[{k}]" for k, (name, _) in enumerate(self.plan.saved)]
        lines += self.constants() + self.buffers()
        if masked:
            lines.append("masked = empty((B, H), dtype)")
        if padded:
            lines += _PAST
        if self.gates > 1 and self.plan.program.inputs("v"):
            lines += self._projections()
        if self.plan.joined:
            lines += self._joined_arrays()
        elif self.plan.program.inputs("v"):
            lines.append("dot = step_dot(B, U_T)")
        before, after = self.block_calls(Phase.BEFORE), self.block_calls(Phase.AFTER)
        loop = [*self.block_views(), *before, *self.loop(body, backwards=False), *after]
        lines.append("for start in range(0, T, block):")
        lines += indented(["stop = min(start + block, T)", *loop])
        arguments = "u, U_T, units, states, saved, gates, mask, valid, block, dtype"
        return function(f"forward({arguments})", lines)

    def _projections(self) -> list[str]:
        """Return the lines that make the arrays of v: one for each product, as `dot` demands."""
        if self.plan.joined:
            gates = [(k, k + 1, f"{k}") for k in range(self.gates)]
            gates += [(a, b, f"{a}_{b}") for a, b in self.plan.wide]
            gates += [(a, b, f"{a}_{b}") for a, b, *_ in self.plan.joined]
            lines = [f"dot, v, v_gates = gates_dot(B, U_T, {self.gates})"]
            return lines + [
                f"v{at} = v_gates[{a if b == a + 1 else f'{a}:{b}'}]" for a, b, at in gates
            ]
        if not self.second:
            lines, parts = ["v = empty((B, U_T.shape[1]), dtype)"], [("v", 0, self.gates)]
        else:
            parts = [("v_first", 0, self.first), ("v_second", self.first, self.gates)]
            lines = [f"{name} = empty((B, {b - a} * H), dtype)" for name, a, b in parts]
            for (_, a, b), name in zip(parts, ("first_T", "second_T"), strict=True):
                lines.append(f"{name} = U_T[:, {lanes(a, b)}]")
        for name, start, stop in parts:
            ranges = [(k, k + 1, f"{k}") for k in range(start, stop)]
            ranges += [(a, b, f"{a}_{b}") for a, b in self.plan.wide if start <= a < stop]
            lines += [f"v{at} = {name}[:, {lanes(a - start, b - start)}]" for a, b, at in ranges]
        return lines

    def _joined_arrays(self) -> list[str]:
        """Return the lines that make the arrays and numbers of gates that are computed together."""
        lines = [f"u_gates = u.reshape(T, B, {self.gates}, H).transpose(0, 2, 1, 3)"]
        for k, each in enumerate(self.plan.stored_gates):
            lines.append(f"{each.name} = gates[{k}]")
        for each in self.plan.joined:
            if each not in self.plan.stored_gates:
                lines.append(f"{each.name} = empty(({each.last - each.first}, B, H), dtype)")
            for word, numbers in each.numbers().items():
                lines += [f"{word}{each.first} = spread({numbers}, B, H, dtype)"]
        return lines

    def _together(self, each: Joined) -> list[str]:
        """Return the calls that compute gates together."""
        (first, last), v = each[:2], f"v{each.first}_{each.last}"
        u = f"u_gates{first}_{last}_t"
        self.stepped[u] = f"u_gates[start:stop, {first}:{last}]"
        out = each.name
        if each in self.plan.stored_gates:
            out = f"{each.name}_t"
            self.stepped[out] = f"{each.name}[start:stop]"
        numbers = each.numbers()
        lines = [f"add({u}, {v}, {v})"]
        lines += [f"multiply({v}, scale{first}, {v})"] if "scale" in numbers else []
        lines.append(f"tanh({v}, {out})")
        lines += [f"multiply({out}, factor{first}, {out})"] if "factor" in numbers else []
        lines += [f"add({out}, shift{first}, {out})"] if "shift" in numbers else []
        return lines

    def _product(self, *, masked: bool) -> list[str]:
        """Return the calls that make v, if the formula reads it; of the first product alone."""
        products = list(self.plan.program.inputs("v").values())
        if not products:
            return []
        # With one gate, v may be made where a result will be.
        place = self.step_place(self.plan.steps.places[products[0]]) if self.gates == 1 else "v"
        factor = "U_T"
        if self.second:
            place, factor = "v_first", "first_T"
        if not masked:
            return [f"dot(state0, {factor}, {place})"]  # (2), (2a)
        return [
            "multiply(state0, mask, masked)",  # (1)
            f"dot(masked, {factor}, {place})",  # (2), (2a)
        ]

    def _formula(self) -> list[str]:
        """Return the calls that compute the cell's formula within a step."""
        lines = self._operations(waiting=False)
        if self.second:
            (operand,) = self.plan.program.outputs["operand"]
            lines.append(f"dot({self.in_step(operand or 0)}, second_T, v_second)")  # (2c)
            lines += self._operations(waiting=True)
        return lines

    def _operations(self, *, waiting: bool) -> list[str]:
        """Return those before the second product, or after it."""
        lines, summed = [], set()
        if not waiting:
            lines += [line for each in self.plan.joined for line in self._together(each)]
        for first, last in self.plan.wide:
            if (self.second > 0 and first >= self.first) != waiting:
                continue
            name = f"u{first}_{last}_t"
            self.stepped[name] = self.gate("u[start:stop]", first, last)
            if self.plan.joined:
                self.stepped[name] = f"u_gates[start:stop, {first}:{last}]"
            whole = (first, last) == (0, self.gates) and not self.plan.joined
            columns = "v" if whole else f"v{first}_{last}"
            lines.append(f"add({name}, {columns}, {columns})")
            summed |= {f"v{k}" for k in range(first, last)}
        for index in self.plan.step_nodes(waiting=waiting):
            done = self.plan.steps.places[index] in summed and self._is_sum(index)
            lines += [] if done else self.step_calls(index)
        return lines

    def _is_sum(self, index: int) -> bool:
        """Whether a node is u + v."""
        node = self.nodes[index]
        return node.op == "add" and any(
            input_number(self.nodes[a], "v") is not None for a in node.args
        )


class _Backward(Writer):
    def block_of(self, name: str) -> str:
        group, k = split_name(name)
        if group in ("du", "dv"):
            return self.gate(f"{group}[start:stop]", k or 0)
        if group == "unit_grad":
            return f"grads{k}"
        return f"{'states' if group == 'previous' else 'saved'}{k}[start:stop]"

    def source(self, *, outer: bool, masked: bool, padded: bool) -> str:
        """Return the text of the function."""
        plan, outputs = self.plan, self.plan.program.outputs
        states, units = range(len(outputs["previous"])), range(len(outputs["units"]))
        body = self._step(outer=outer, masked=masked, padded=padded)
        lines = ["T, B, H = states[0][1:].shape"]
        lines += [f"unit{k} = units[{k}]" for k in _up_to_last(self, "unit")]
        lines += [f"states{k} = states[{k}]" for k in _up_to_last(self, "previous")]
        lines += [f"saved{k} = saved[{k}]" for k in _up_to_last(self, "saved")]
        lines += [f"d_state{k} = d_state[{k}]" for k in states]
        lines += [*self.constants(), *self.buffers()]
        if self.second:
            lines.append("d_operand = empty((B, H), dtype)")
            lines += [f"U_first = U[: {self.first} * H]", f"U_second = U[{self.first} * H :]"]
        if outputs["dv"]:
            lines.append("dot = step_dot(B, U)")
        if direct_gradient(plan.program) is not None and outputs["dv"]:
            lines.append("through_U = empty((B, H), dtype)")
        if padded:
            lines += [*_PAST, *(f"held{k} = empty((B, H), dtype)" for k in states)]
        grads = [self.block_of(h) for h in plan.results.values() if h.startswith("unit_grad")]
        lines += [f"{name}_ = empty((block, B, H), dtype)" for name in grads]
        lines += [f"sum{k} = zeros(H, dtype)" for k in units]
        views = [*self.block_views(), *(f"{name} = {name}_[: stop - start]" for name in grads)]
        before, after = self.block_calls(Phase.BEFORE), self.block_calls(Phase.AFTER)
        within = ""
        if padded:
            within = ", where=valid[start:stop]"
            own = ("dv", "du") if "du" in outputs else ("dv",)
            after += [f"copyto({a}[start:stop], 0, where=past[start:stop])" for a in own]  # (6)
        for k, result in enumerate(outputs["units"]):
            each = self.in_block(result or 0)
            after.append(f"sum{k} += add.reduce({each}, (0, 1){within})")  # (6), (11)
        loop = [*views, *before, *self.loop(body, backwards=True), *after]
        lines.append("for stop in range(T, 0, -block):")
        lines += indented(["start = max(stop - block, 0)", *loop])
        sums = "".join(f"sum{k}, " for k in units)
        lines.append(f"return ({sums})")
        arguments = "U, units, states, saved, dh, d_state, du, dv, mask, valid, block, dtype"
        return function(f"backward({arguments})", lines)

    def _step(self, *, outer: bool, masked: bool, padded: bool) -> list[str]:
        """Return the calls within a step."""
        previous = self.plan.program.outputs["previous"]
        lines, (_, *others) = [], previous
        if outer:
            self.stepped["dh_t"] = "dh[start:stop]"
            lines.append("add(d_state0, dh_t, d_state0)")  # (5)
        if padded:
            copies = [f"copyto(held{k}, d_state{k})" for k in range(len(previous))]
            lines += self.where_ended(copies)
        for index in self.plan.step_nodes(waiting=False):
            lines += self.step_calls(index)
        if self.second:
            lines += self._operand_gradient(masked=masked)
        for index in self.plan.step_nodes(waiting=True):
            lines += self.step_calls(index)
        for k, result in enumerate(others, start=1):
            if result is None:
                lines.append(f"d_state{k}.fill(0)")
            elif self.in_step(result) != f"d_state{k}":
                lines.append(f"copyto(d_state{k}, {self.in_step(result)})")
        direct = direct_gradient(self.plan.program)
        if self.plan.program.outputs["dv"]:
            lines += self._product(direct, masked=masked)
        elif direct is None:
            lines.append("d_state0.fill(0)")
        elif self.in_step(direct) != "d_state0":
            lines.append(f"copyto(d_state0, {self.in_step(direct)})")  # (9)
        if padded:
            copies = [f"copyto(d_state{k}, held{k}, where=past_t)" for k in range(len(previous))]
            lines += self.where_ended(copies)  # (10)
        return lines

    def _operand_gradient(self, *, masked: bool) -> list[str]:
        """Return the calls that make do(t) of the last blocks of dv."""
        self.stepped["dv_second"] = self.gate("dv[start:stop]", self.first, self.gates)
        lines = ["dot(dv_second, U_second, d_operand)"]  # (8a)
        return [*lines, "multiply(d_operand, mask, d_operand)"] if masked else lines  # (8a)

    def _product(self, direct: int | None, *, masked: bool) -> list[str]:
        """Return the calls that make dh(t-1) of dv and the direct gradient, if there is one."""
        dv, factor = ("dv_first", "U_first") if self.second else ("dv_t", "U")
        if self.gates == 1:
            dv = "dv0"
        self.stepped[dv] = self.gate("dv[start:stop]", 0, self.first)
        product = "d_state0" if direct is None else "through_U"
        lines = [f"dot({dv}, {factor}, {product})"]  # (8), (8c)
        if masked:
            lines.append(f"multiply({product}, mask, {product})")  # (9)
        if direct is not None:
            lines.append(f"add(through_U, {self.in_step(direct)}, d_state0)")  # (9)
        return lines


def _up_to_last(writer: Writer, group: str) -> range:
    """Return the numbers of the inputs of a group, up to the last that is read."""
    return range(1 + max(writer.plan.program.inputs(group), default=-1))
