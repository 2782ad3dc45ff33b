"""The source of a time loop in NumPy calls that write where they are told to.

One loop body per formula, straight-line, with no allocation and no call but NumPy's.  What does not
depend on what the loop carries is computed for a block of steps at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from xprnn.engine.loop.numpy.phases import Phase
from xprnn.engine.loop.numpy.plan import Plan
from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT, input_place


class _Writer(ABC):
    """What both directions share: names, and calls."""

    def __init__(self, plan: Plan, gates: int) -> None:
        self.plan, self.gates, self.nodes = plan, gates, plan.program.nodes
        self.stepped: dict[str, str] = {}
        self.lines: list[str] = []

    def gate(self, array: str, first: int, last: int | None = None) -> str:
        """Return an expression for some gates of (n, B, G·H)."""
        last = first + 1 if last is None else last
        if first == 0 and last == self.gates:
            return array
        return f"{array}[:, :, {_lanes(first, last)}]"

    @abstractmethod
    def block_of(self, name: str) -> str:
        """Return an expression for a block of steps of an input or a result."""

    def in_step(self, index: int) -> str:
        """Return the name of a node within a step."""
        node, phase = self.nodes[index], self.plan.phase[index]
        if phase is Phase.STEP:
            return self.step_place(self.plan.steps.places[index])
        if phase is Phase.CONSTANT:
            return f"k{index}"
        if phase is Phase.ONCE:
            return f"{node.value}" if node.op == INPUT else f"n{index}"
        name = f"{node.value}_t" if node.op == INPUT else f"b{index}"
        self.stepped[name] = self.in_block(index)
        return name

    def step_place(self, place: str) -> str:
        """Return the name of a place within a step; a result's has an entry per step."""
        if place in self.plan.homes.values():
            self.stepped[place] = self.block_of(place)
        return place

    def in_block(self, index: int) -> str:
        """Return an expression for a node, for a block of steps."""
        node, phase = self.nodes[index], self.plan.phase[index]
        if phase is Phase.CONSTANT:
            return f"k{index}"
        if phase is Phase.ONCE:
            return f"{node.value}" if node.op == INPUT else f"n{index}"
        if node.op == INPUT:
            return self.block_of(f"{node.value}")
        if index in self.plan.homes:
            return self.block_of(self.plan.homes[index])
        return self.plan.blocks.places[index]

    def call(self, index: int, out: str, args: Sequence[str]) -> list[str]:
        """Return the calls that compute a node."""
        op = self.nodes[index].op
        if op in ("copy", "astype"):
            return [f"copyto({out}, {args[0]})"]
        if op == "where":
            other = [] if args[2] == out else [f"copyto({out}, {args[2]})"]
            return [*other, f"copyto({out}, {args[1]}, where={args[0]})"]
        # NumPy takes the place of these two by name only.
        named = "out=" if op in ("maximum", "minimum") else ""
        return [f"{op}({', '.join(args)}, {named}{out})"]

    def constants(self) -> list[str]:
        """Return what makes the constants, and what is computed once."""
        lines = []
        for index, node in enumerate(self.nodes):
            if node.op == CONSTANT:
                kind = "bool" if node.kind == BOOL else "dtype"
                # inf and nan are names there.
                lines.append(f"k{index} = array({node.value!r}, {kind})")
            elif self.plan.phase[index] is Phase.ONCE and node.op != INPUT:
                kind = "bool" if node.kind == BOOL else "dtype"
                lines.append(f"n{index} = empty(H, {kind})")
                lines += self.call(index, f"n{index}", [self.in_step(a) for a in node.args])
        return lines

    def block_calls(self, phase: Phase) -> list[str]:
        """Return the calls for a block of steps."""
        lines = []
        for index in self.plan.nodes_of(phase):
            args = [self.in_block(a) for a in self.nodes[index].args]
            lines += self.call(index, self.in_block(index), args)
        return lines

    def buffers(self) -> list[str]:
        """Return what makes the buffers."""
        lines = [
            f"{name} = empty((B, H), {'bool' if kind == BOOL else 'dtype'})"
            for name, kind in self.plan.steps.buffers.items()
        ]
        return lines + [
            f"{name}_ = empty((block, B, H), {'bool' if kind == BOOL else 'dtype'})"
            for name, kind in self.plan.blocks.buffers.items()
        ]

    def block_views(self) -> list[str]:
        """Return what fits the buffers of a block to its number of steps."""
        return [f"{name} = {name}_[: stop - start]" for name in self.plan.blocks.buffers]

    def loop(self, body: list[str], *, backwards: bool) -> list[str]:
        """Return the loop over the steps of a block."""
        order = "[::-1]" if backwards else ""
        names = ", ".join(self.stepped)
        arrays = ", ".join(f"{array}{order}" for array in self.stepped.values())
        if len(self.stepped) == 1:
            return [f"for {names} in {arrays}:", *_indented(body)]
        return [f"for {names} in zip({arrays}):", *_indented(body)]


class _Forward(_Writer):
    def block_of(self, name: str) -> str:
        k = int(name.lstrip("abcdefghijklmnopqrstuvwxyz_"))
        group = name.rstrip("0123456789")
        if group == "u":
            return self.gate("u[start:stop]", k)
        if group == "state":
            return f"states{k}[start:stop]"
        if group == "new":
            return f"states{k}[start + 1 : stop + 1]"
        return f"saved{k}[start:stop]"

    def source(self, *, masked: bool) -> str:
        """Return the function's text."""
        plan, nodes, outputs = self.plan, self.nodes, self.plan.program.outputs
        count = len(outputs["state"])
        body = self._product(masked=masked)
        wide: dict[str, str] = {}
        for first, last in plan.wide:
            name = f"u{first}_{last}_t"
            self.stepped[name] = self.gate("u[start:stop]", first, last)
            lanes = "v" if (first, last) == (0, self.gates) else f"v{first}_{last}"
            body.append(f"add({name}, {lanes}, {lanes})")
            wide |= {f"v{k}": lanes for k in range(first, last)}
        for index in plan.nodes_of(Phase.STEP):
            place = plan.steps.places[index]
            if place in wide and nodes[index].op == "add" and self._is_sum(index):
                continue
            args = [self.in_step(a) for a in nodes[index].args]
            body += self.call(index, self.step_place(place), args)
        for k in range(count):
            self.stepped[f"new{k}"] = self.block_of(f"new{k}")
            body.append(f"state{k} = new{k}")
        lines = ["T, B, _ = u.shape", "H = U_T.shape[0]"]
        lines += [f"unit{k} = units[{k}]" for k in range(_count(self, "unit"))]
        for k in range(count):
            lines.append(f"states{k} = empty((T + 1, B, H), dtype)")
            lines.append(f"states{k}[0] = state[{k}]")
            lines.append(f"state{k} = states{k}[0]")
        for index, home in plan.homes.items():
            if home.startswith("kept"):
                kind = "bool" if nodes[index].kind == BOOL else "dtype"
                lines.append(f"saved{home[4:]} = empty((T, B, H), {kind})")
        lines += self.constants() + self.buffers()
        if masked:
            lines.append("masked = empty((B, H), dtype)")
        if self.gates > 1:
            lines.append("v = empty((B, U_T.shape[1]), dtype)")
            lines += [f"v{k} = v[:, {_lanes(k, k + 1)}]" for k in range(self.gates)]
            lines += [f"v{first}_{last} = v[:, {_lanes(first, last)}]" for first, last in plan.wide]
        before, after = self.block_calls(Phase.BEFORE), self.block_calls(Phase.AFTER)
        loop = [*self.block_views(), *before, *self.loop(body, backwards=False), *after]
        lines.append("for start in range(0, T, block):")
        lines += _indented(["stop = min(start + block, T)", *loop])
        saved = ", ".join(self._kept(index or 0) for index in outputs["saved"])
        states = ", ".join(f"states{k}" for k in range(count))
        lines.append(f"return ({states},), ({saved}{',' if saved else ''})")
        return _function("forward(u, U_T, units, state, mask, block, dtype)", lines)

    def _product(self, *, masked: bool) -> list[str]:
        """Return the calls that make v, if the formula reads it."""
        places = [
            self.plan.steps.places[index]
            for index, node in enumerate(self.nodes)
            if input_place(node, "v") is not None
        ]
        if not places:
            return []
        # With one gate, v may be made where a result will be.
        place = self.step_place(places[0]) if self.gates == 1 else "v"
        if not masked:
            return [f"dot(state0, U_T, {place})"]
        return ["multiply(state0, mask, masked)", f"dot(masked, U_T, {place})"]

    def _is_sum(self, index: int) -> bool:
        return any(input_place(self.nodes[a], "v") is not None for a in self.nodes[index].args)

    def _kept(self, index: int) -> str:
        """Return an expression for something saved."""
        k = input_place(self.nodes[index], "state")
        if k is not None:
            return f"states{k}[:-1]"
        home = self.plan.homes[index]
        return f"states{home[3:]}[1:]" if home.startswith("new") else f"saved{home[4:]}"


class _Backward(_Writer):
    def block_of(self, name: str) -> str:
        k = int(name.lstrip("abcdefghijklmnopqrstuvwxyz_"))
        group = name.rstrip("0123456789")
        if group in ("du", "dv"):
            return self.gate(f"{group}[start:stop]", k)
        if group == "unit_grad":
            return f"grads{k}"
        return f"{'states' if group == 'previous' else 'saved'}{k}[start:stop]"

    def source(self, *, outer: bool, masked: bool) -> str:
        """Return the function's text."""
        plan, nodes, outputs = self.plan, self.nodes, self.plan.program.outputs
        count = len(outputs["previous"])
        body = []
        if outer:
            self.stepped["dh_t"] = "dh[start:stop]"
            body.append("add(d0, dh_t, d0)")
        for index in plan.nodes_of(Phase.STEP):
            args = [self.in_step(a) for a in nodes[index].args]
            body += self.call(index, self.step_place(plan.steps.places[index]), args)
        for k, result in enumerate(outputs["previous"][1:], start=1):
            if result is None:
                body.append(f"d{k}.fill(0)")
            elif self.in_step(result) != f"d{k}":
                body.append(f"copyto(d{k}, {self.in_step(result)})")
        whole = "dv0" if self.gates == 1 else "dv_t"
        self.stepped[whole] = "dv[start:stop]"
        first = outputs["previous"][0]
        product = "d0" if first is None else "q"
        body.append(f"dot({whole}, U, {product})")
        if masked:
            body.append(f"multiply({product}, mask, {product})")
        if first is not None:
            body.append(f"add(q, {self.in_step(first)}, d0)")
        lines = ["T, B, H = states[0][1:].shape"]
        lines += [f"unit{k} = units[{k}]" for k in range(_count(self, "unit"))]
        lines += [f"states{k} = states[{k}]" for k in range(_count(self, "previous"))]
        lines += [f"saved{k} = saved[{k}]" for k in range(_count(self, "saved"))]
        lines += [f"d{k} = array(d_state[{k}], dtype, order='C')" for k in range(count)]
        lines += [f"dv = empty((T, B, {self.gates} * H), dtype)"]
        both = "du" in outputs
        lines += [f"du = empty((T, B, {self.gates} * H), dtype)" if both else "du = dv"]
        lines += self.constants() + self.buffers()
        if first is not None:
            lines.append("q = empty((B, H), dtype)")
        grads = [self.block_of(h) for h in plan.homes.values() if h.startswith("unit_grad")]
        lines += [f"{name}_ = empty((block, B, H), dtype)" for name in grads]
        summed = outputs["units"]
        lines += [f"sum{k} = zeros(H, dtype)" for k in range(len(summed))]
        after = self.block_calls(Phase.AFTER)
        after += [
            f"sum{k} += add.reduce({self.in_block(result or 0)}, (0, 1))"
            for k, result in enumerate(summed)
        ]
        views = [*self.block_views(), *(f"{name} = {name}_[: stop - start]" for name in grads)]
        before = self.block_calls(Phase.BEFORE)
        loop = [*views, *before, *self.loop(body, backwards=True), *after]
        lines.append("for stop in range(T, 0, -block):")
        lines += _indented(["start = max(stop - block, 0)", *loop])
        sums = "".join(f"sum{k}, " for k in range(len(summed)))
        carried = "".join(f"d{k}, " for k in range(count))
        lines.append(f"return du, dv, ({sums}), ({carried})")
        arguments = "U, units, states, saved, dh, d_state, mask, block, dtype"
        return _function(f"backward({arguments})", lines)


def forward_source(plan: Plan, gates: int, *, masked: bool) -> str:
    """Return the text of ``forward(u, U_T, units, state, mask, block, dtype)``."""
    return _Forward(plan, gates).source(masked=masked)


def backward_source(plan: Plan, gates: int, *, outer: bool, masked: bool) -> str:
    """Return the text of ``backward(U, units, states, saved, dh, d_state, mask, block, dtype)``.

    Without ``outer`` there is no dh.
    """
    return _Backward(plan, gates).source(outer=outer, masked=masked)


def _lanes(first: int, last: int) -> str:
    """Return the columns of some gates, as an index."""
    return f"{first} * H : {last} * H" if first else f": {last} * H"


def _count(writer: _Writer, group: str) -> int:
    places = (input_place(node, group) for node in writer.nodes)
    return 1 + max((k for k in places if k is not None), default=-1)


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(head: str, lines: list[str]) -> str:
    return "\n".join((f"def {head}:", *_indented(lines), ""))
