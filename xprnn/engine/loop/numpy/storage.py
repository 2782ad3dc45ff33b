"""Where results are put: as few buffers as the formula allows.

A result that is kept has a place of its own.  Any other takes the buffer of an operand that nobody
reads again, or one that is free, or, if there is none, a new one; and a chain of operations that
ends in a kept result is computed in that one's place from the start.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from xprnn.engine.loop.program import Node


def can_overwrite(node: Node, operand: int) -> bool:
    """Whether an operation may write into the buffer of its n-th operand."""
    # `where` is lowered to a copy of its last operand, and then of the other where it is chosen.
    return node.op != "where" or operand == 2


@dataclass
class Storage:
    """The places of some operations that run one after the other.

    Parameters
    ----------
    nodes : sequence of Node
        The program's.
    order : sequence of int
        The operations, as they run.
    places : mapping of int to str
        Places that are given: of inputs and of kept results.
    held : container of int
        Nodes that are read after the last operation.
    fresh : container of str
        Places that hold nothing before their node is computed, and are as quick as a buffer.
    spare : sequence of str
        Buffers of floats that hold an input which is carried, and are free when it has been read.
    prefix : str
        What the names of new buffers begin with.

    Attributes
    ----------
    places : dict of int to str
        The places of all.
    buffers : dict of str to str
        New buffers, and the kind of what they hold.
    """

    nodes: Sequence[Node]
    order: Sequence[int]
    given: Mapping[int, str]
    held: Container[int]
    fresh: Container[str] = ()
    spare: Container[str] = ()
    prefix: str = "s"
    places: dict[int, str] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = dict(self.given)
        self._last = {a: k for k, index in enumerate(self.order) for a in self.nodes[index].args}
        self._share_places()
        self._scan()

    def _dies(self, index: int, position: int) -> bool:
        return index not in self.held and self._last.get(index) == position

    def _share_places(self) -> None:
        """Let chains that end in a kept result run in its place."""
        computed = set(self.order)
        where = {index: k for k, index in enumerate(self.order)}
        for end in self.order:
            place, index = self.places.get(end), end
            while place in self.fresh:
                heir = self._heir(index, computed, where[index])
                if heir is None:
                    break
                self.places[heir], index = f"{place}", heir

    def _heir(self, index: int, computed: set[int], position: int) -> int | None:
        """Return an operand without a place that may be computed where ``index`` is."""
        node = self.nodes[index]
        return next(
            (
                a
                for k, a in enumerate(node.args)
                if a not in self.places
                and a in computed
                and self._dies(a, position)
                and can_overwrite(node, k)
                and self.nodes[a].kind == node.kind
                and (node.args.count(a) == 1 or node.op != "where")
            ),
            None,
        )

    def _scan(self) -> None:
        free: dict[str, list[str]] = {}
        for position, index in enumerate(self.order):
            node = self.nodes[index]
            dying = [a for a in dict.fromkeys(node.args) if self._dies(a, position)]
            if index not in self.places:
                self.places[index] = self._choose(index, dying, free)
            for a in dying:
                place = self.places.get(a)
                reusable = place in self.buffers or place in self.spare
                if place is not None and reusable and place != self.places[index]:
                    free.setdefault(self.nodes[a].kind, []).append(place)

    def _choose(self, index: int, dying: Sequence[int], free: dict[str, list[str]]) -> str:
        node = self.nodes[index]
        for a in dying:
            place = self.places.get(a)
            allowed = all(can_overwrite(node, k) for k, b in enumerate(node.args) if b == a)
            reusable = place in self.buffers or place in self.spare
            if place is not None and allowed and reusable and self.nodes[a].kind == node.kind:
                return place
        waiting = free.get(node.kind)
        if waiting:
            return waiting.pop()
        name = f"{self.prefix}{len(self.buffers)}"
        self.buffers[name] = node.kind
        return name
