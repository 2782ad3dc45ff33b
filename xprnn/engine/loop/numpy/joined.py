"""Gates that are computed together, in one call for all of them.

Most gates are a σ(u + v) + c or tanh(u + v), and σ(z) = (1 + tanh(z/2)) / 2, so that neighbouring
ones differ in three numbers only::

    gate = factor · tanh(scale · (u + v)) + shift

The gates of a step lie one after the other, (gates, B, H), so that each call goes through memory
without gaps.
"""

from collections.abc import Container, Sequence
from itertools import groupby
from typing import NamedTuple

from xprnn.engine.loop.numpy.phases import Phase
from xprnn.engine.loop.program import CONSTANT, Node, input_number


class Joined(NamedTuple):
    """Neighbouring gates of one form.

    Attributes
    ----------
    first, last : int
        The gates from ``first`` to ``last - 1``.
    scale, factor, shift : tuple of float
        The numbers of each.
    results : tuple of int
        The nodes of the gates.
    inner : tuple of int
        The nodes on the way from u + v to them.
    """

    first: int
    last: int
    scale: tuple[float, ...]
    factor: tuple[float, ...]
    shift: tuple[float, ...]
    results: tuple[int, ...]
    inner: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of their array."""
        return f"gates{self.first}_{self.last}"

    def numbers(self) -> dict[str, tuple[float, ...]]:
        """Return the numbers by name, without those that change nothing."""
        found = {"scale": self.scale, "factor": self.factor, "shift": self.shift}
        return {name: each for name, each in found.items() if set(each) != {float(name != "shift")}}


class _Gate(NamedTuple):
    scale: float
    factor: float
    shift: float
    result: int
    inner: tuple[int, ...]


def sum_of(nodes: Sequence[Node], gate: int) -> int | None:
    """Return the node u + v of a gate, if v is needed for nothing else."""
    found = [
        (index, node)
        for index, node in enumerate(nodes)
        if any(input_number(nodes[a], "v") == gate for a in node.args)
    ]
    if len(found) != 1 or found[0][1].op != "add":
        return None
    index, node = found[0]
    return index if any(input_number(nodes[a], "u") == gate for a in node.args) else None


def joined_gates(
    nodes: Sequence[Node],
    phase: Sequence[Phase],
    results: dict[int, str],
    kept: Container[int],
    gates: int,
) -> tuple[Joined, ...]:
    """Return the ranges of two gates and more that can be computed together.

    Parameters
    ----------
    nodes : sequence of Node
        Of the forward formula.
    phase : sequence of Phase
        Per node.
    results : dict of int to str
        The nodes that are stored for all steps.
    kept : container of int
        These, and the other nodes that are wanted for more than their users.
    gates : int
    """
    users: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for a in node.args:
            users.setdefault(a, []).append(index)
    found: list[_Gate | None] = []
    for k in range(gates):
        start = sum_of(nodes, k)
        within = start is not None and phase[start] is Phase.STEP and start not in kept
        found.append(_gate(nodes, start, users, kept) if within and start is not None else None)
    ranges: list[Joined] = []
    for place, run in groupby(range(gates), lambda k: _place(found[k], results)):
        numbers = list(run)
        if place is not None and len(numbers) > 1:
            ranges.append(_join(numbers[0], [gate for k in numbers if (gate := found[k])]))
    return tuple(ranges)


def _place(gate: _Gate | None, results: dict[int, str]) -> str | None:
    """Return whether a gate is ``"saved"`` or ``"scratch"``; None if it can't be joined."""
    if gate is None:
        return None
    name = results.get(gate.result)
    if name is None:
        return "scratch"
    return "saved" if name.startswith("saved") else None


def _join(first: int, run: Sequence[_Gate]) -> Joined:
    scale, factor, shift, results, inner = zip(*run, strict=True)
    return Joined(first, first + len(run), scale, factor, shift, results, sum(inner, ()))


def _gate(
    nodes: Sequence[Node], start: int, users: dict[int, list[int]], kept: Container[int]
) -> _Gate | None:
    """Return the numbers of a gate, given the node u + v; None if it has another form."""

    def next_of(index: int, *ops: str) -> int | None:
        """Return the only user of a node, if it is of these operations."""
        if index in kept or len(users.get(index, ())) != 1:
            return None
        (user,) = users[index]
        return user if nodes[user].op in ops else None

    def number(index: int | None) -> float | None:
        """Return the constant operand of an operation."""
        values = [nodes[a].value for a in nodes[index or 0].args if nodes[a].op == CONSTANT]
        return float(values[0] or 0) if index is not None and len(values) == 1 else None

    index, inner = start, [start]
    scale = factor = 1.0
    shift = 0.0
    scaled = next_of(index, "multiply")
    if scaled is not None and (found := number(scaled)) is not None:
        index, scale = scaled, found
        inner.append(index)
    bent = next_of(index, "tanh")
    if bent is None:
        return None
    index = bent
    times = next_of(index, "multiply")
    if times is not None and (found := number(times)) is not None:
        inner.append(index)
        index, factor = times, found
    plus = next_of(index, "add", "subtract")
    if plus is not None and (found := number(plus)) is not None:
        minus = nodes[plus].op == "subtract"
        if not minus or nodes[plus].args[0] == index:
            inner.append(index)
            index, shift = plus, -found if minus else found
    return _Gate(scale, factor, shift, index, tuple(inner))
