"""Where intermediate values are put, in as few buffers as the formula allows.

A result that is stored for all steps has a fixed place.  Any other value takes the buffer of an
operand that is read for the last time, or a buffer that is free, or else a new one.  A chain of
operations that ends in a stored result is computed in the place of that result from the start.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from xprnn.engine.loop.program import Node


def can_overwrite(node: Node, operand: int) -> bool:
    """Return whether an operation may write into the buffer of its n-th operand."""
    # `where` becomes a copy of its last operand, and then of the other one where that is chosen.
    return node.op != "where" or operand == 2


@dataclass
class Storage:
    """The places of operations that run one after the other.

    Parameters
    ----------
    nodes : sequence of Node
        Those of the program.
    order : sequence of int
        The operations, in the order in which they run.
    fixed : mapping of int to str
        Places that are given: those of inputs and of stored results.
    read_later : container of int
        Nodes that are read after the last operation.
    shareable : container of str
        Fixed places that hold nothing until their node is computed and that are as fast as a
        buffer, so that the operands of that node may be computed there.
    carried : container of str
        Buffers of carried inputs (floats), which may be written to once the input has been read.
    prefix : str
        Begins the names of new buffers.

    Attributes
    ----------
    places : dict of int to str
        The places of all nodes.
    buffers : dict of str to str
        The new buffers, and the kind of what each holds.
    """

    nodes: Sequence[Node]
    order: Sequence[int]
    fixed: Mapping[int, str]
    read_later: Container[int]
    shareable: Container[str] = ()
    carried: Container[str] = ()
    prefix: str = "s"
    places: dict[int, str] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = dict(self.fixed)
        self._last = {a: k for k, index in enumerate(self.order) for a in self.nodes[index].args}
        self._share_places()
        self._fill()

    def _is_last_use(self, index: int, position: int) -> bool:
        """Whether nobody reads a node after the operation at this position."""
        return index not in self.read_later and self._last.get(index) == position

    def _share_places(self) -> None:
        """Let the chains of operations that end in a stored result run in its place."""
        computed = set(self.order)
        where = {index: k for k, index in enumerate(self.order)}
        for end in self.order:
            place, index = self.places.get(end), end
            while place in self.shareable:
                operand = self._movable_operand(index, computed, where[index])
                if operand is None:
                    break
                self.places[operand], index = f"{place}", operand

    def _movable_operand(self, index: int, computed: set[int], position: int) -> int | None:
        """Return an operand without a place that may be computed in the place of ``index``."""
        node = self.nodes[index]
        return next(
            (
                a
                for k, a in enumerate(node.args)
                if a not in self.places
                and a in computed
                and self._is_last_use(a, position)
                and can_overwrite(node, k)
                and self.nodes[a].kind == node.kind
                and (node.args.count(a) == 1 or node.op != "where")
            ),
            None,
        )

    def _fill(self) -> None:
        """Give every other operation a place, in the order in which they run."""
        free: dict[str, list[str]] = {}
        for position, index in enumerate(self.order):
            node = self.nodes[index]
            ending = [a for a in dict.fromkeys(node.args) if self._is_last_use(a, position)]
            if index not in self.places:
                self.places[index] = self._choose(index, ending, free)
            for a in ending:
                place = self.places.get(a)
                if self._is_buffer(place) and place != self.places[index]:
                    free.setdefault(self.nodes[a].kind, []).append(f"{place}")

    def _choose(self, index: int, ending: Sequence[int], free: dict[str, list[str]]) -> str:
        """Return a buffer for an operation, given the operands that it reads for the last time."""
        node = self.nodes[index]
        for a in ending:
            place = self.places.get(a)
            allowed = all(can_overwrite(node, k) for k, b in enumerate(node.args) if b == a)
            if self._is_buffer(place) and allowed and self.nodes[a].kind == node.kind:
                return f"{place}"
        waiting = free.get(node.kind)
        if waiting:
            return waiting.pop()
        name = f"{self.prefix}{len(self.buffers)}"
        self.buffers[name] = node.kind
        return name

    def _is_buffer(self, place: str | None) -> bool:
        """Whether a place may be written to more than once within a step."""
        return place in self.buffers or place in self.carried
