"""What the sources of both directions share: the names of values, and the calls of NumPy.

A value has a name within a step, and one that is computed or stored for a block of steps also has
an expression for the whole block, (n, B, ...).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from xprnn.engine.loop.numpy.phases import Phase
from xprnn.engine.loop.numpy.plan import LoopPlan
from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT
from xprnn.engine.loop.text import indented


class Writer(ABC):
    """The source of a loop in one direction, while it is written.

    Parameters
    ----------
    plan : LoopPlan
    gates : int
    second : int
        How many of them, the last ones, have their v from a second product.

    Attributes
    ----------
    first : int
        How many have it from the first.
    stepped : dict of str to str
        The names that the loop over steps binds, and the blocks that it takes them from.
    """

    def __init__(self, plan: LoopPlan, gates: int, second: int) -> None:
        self.plan, self.gates, self.nodes = plan, gates, plan.program.nodes
        self.second, self.first = second, gates - second
        self.stepped: dict[str, str] = {}

    @abstractmethod
    def block_of(self, name: str) -> str:
        """Return an expression for a block of steps of an input or a result."""

    def gate(self, array: str, first: int, last: int | None = None) -> str:
        """Return an expression for the gates from first to last - 1 (by default one) of a block."""
        last = first + 1 if last is None else last
        if first == 0 and last == self.gates:
            return array
        return f"{array}[:, :, {lanes(first, last)}]"

    def in_step(self, index: int) -> str:
        """Return the name of a node within a step."""
        node, phase = self.nodes[index], self.plan.phase[index]
        if phase is Phase.STEP:
            return self.step_place(self.plan.steps.places[index])
        if phase in (Phase.CONSTANT, Phase.ONCE):
            return self._of_all_steps(index)
        name = f"{node.value}_t" if node.op == INPUT else f"b{index}"
        self.stepped[name] = self.in_block(index)
        return name

    def step_place(self, place: str) -> str:
        """Return the name of a place within a step, where a stored result has an entry per step."""
        if place not in self.plan.results.values():
            return place
        # The array of all steps is saved0.
        name = f"{place}_t" if place.startswith("saved") else place
        self.stepped[name] = self.block_of(place)
        return name

    def in_block(self, index: int) -> str:
        """Return an expression for a node, for a block of steps."""
        node = self.nodes[index]
        if self.plan.phase[index] in (Phase.CONSTANT, Phase.ONCE):
            return self._of_all_steps(index)
        if node.op == INPUT:
            return self.block_of(f"{node.value}")
        if index in self.plan.results:
            return self.block_of(self.plan.results[index])
        return self.plan.blocks.places[index]

    def call(self, index: int, out: str, args: Sequence[str]) -> list[str]:
        """Return the calls that compute a node."""
        op = self.nodes[index].op
        if op in ("copy", "astype"):
            return [f"copyto({out}, {args[0]})"]
        if op == "where":
            other = [] if args[2] == out else [f"copyto({out}, {args[2]})"]
            return [*other, f"copyto({out}, {args[1]}, where={args[0]})"]
        # NumPy accepts the output of these two as a keyword only.
        named = "out=" if op in ("maximum", "minimum") else ""
        return [f"{op}({', '.join(args)}, {named}{out})"]

    def step_calls(self, index: int) -> list[str]:
        """Return the calls that compute a node within a step."""
        args = [self.in_step(a) for a in self.nodes[index].args]
        return self.call(index, self.step_place(self.plan.steps.places[index]), args)

    def block_calls(self, phase: Phase) -> list[str]:
        """Return the calls before or after a block of steps."""
        lines = []
        for index in self.plan.nodes_of(phase):
            args = [self.in_block(a) for a in self.nodes[index].args]
            lines += self.call(index, self.in_block(index), args)
        return lines

    def where_ended(self, calls: list[str]) -> list[str]:
        """Return calls within a step, made only if a sequence has ended before it."""
        self.stepped |= {"past_t": "past[start:stop]", "ended_t": "ended[start:stop]"}
        return ["if ended_t:", *indented(calls)]

    def constants(self) -> list[str]:
        """Return the lines that make the constants and compute what is computed once."""
        lines = []
        for index, node in enumerate(self.nodes):
            if node.op == CONSTANT:
                # inf and nan are names there.
                lines.append(f"k{index} = array({node.value!r}, {dtype(node.kind)})")
            elif self.plan.phase[index] is Phase.ONCE and node.op != INPUT:
                lines.append(f"n{index} = empty((H,), {dtype(node.kind)})")
                lines += self.call(index, f"n{index}", [self.in_step(a) for a in node.args])
        return lines

    def buffers(self) -> list[str]:
        """Return the lines that make the buffers."""
        lines = [
            f"{name} = empty((B, H), {dtype(kind)})"
            for name, kind in self.plan.steps.buffers.items()
        ]
        return lines + [
            f"{name}_ = empty((block, B, H), {dtype(kind)})"
            for name, kind in self.plan.blocks.buffers.items()
        ]

    def block_views(self) -> list[str]:
        """Return the lines that cut the buffers of a block to its number of steps."""
        return [f"{name} = {name}_[: stop - start]" for name in self.plan.blocks.buffers]

    def loop(self, body: list[str], *, backwards: bool) -> list[str]:
        """Return the loop over the steps of a block."""
        order = "[::-1]" if backwards else ""
        names = ", ".join(self.stepped)
        arrays = ", ".join(f"{array}{order}" for array in self.stepped.values())
        if len(self.stepped) == 1:
            return [f"for {names} in {arrays}:", *indented(body)]
        return [f"for {names} in zip({arrays}):", *indented(body)]

    def _of_all_steps(self, index: int) -> str:
        """Return the name of what is the same at every step."""
        node = self.nodes[index]
        if node.op == CONSTANT:
            return f"k{index}"
        return f"{node.value}" if node.op == INPUT else f"n{index}"


def dtype(kind: str) -> str:
    """Return the dtype of a kind of values, as the sources name it."""
    return "bool" if kind == BOOL else "dtype"


def lanes(first: int, last: int) -> str:
    """Return the columns of the gates from first to last - 1, as an index."""
    return f"{first} * H : {last} * H" if first else f": {last} * H"
