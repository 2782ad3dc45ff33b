"""A program made ready for a time loop: what is computed when, and where it is put.

Names, which the source of a lowering uses as they are::

    u0, v0, state0, unit0       inputs forward            k3      constant 3
    saved0, previous0, ...      inputs backward           n3      node 3, computed once
    d0                          the carried gradient      b3      node 3, of this step
    new0, kept0                 results forward           s0      scratch of a step
    du0, dv0, unit_grad0        results backward          t0      scratch of a block of steps
"""

from collections.abc import Sequence
from typing import NamedTuple

from xprnn.engine.loop.numpy.phases import Phase, late_nodes, phases
from xprnn.engine.loop.numpy.regroup import regrouped
from xprnn.engine.loop.numpy.storage import Storage
from xprnn.engine.loop.program import CONSTANT, INPUT, Node, Program, input_place
from xprnn.engine.loop.results import with_exchanges, with_homes


class Plan(NamedTuple):
    """What the source of a loop is written from.

    Attributes
    ----------
    program : Program
        With a copy for every result that would have no place of its own otherwise.
    phase : list of Phase
        Per node.
    homes : dict of int to str
        Results that are kept for all steps (or for a block of them), and their names.
    steps, blocks : Storage
        The places of what is computed step by step, and of what is computed in blocks.
    wide : tuple of (int, int)
        Ranges of gates whose u + v is one addition.
    """

    program: Program
    phase: list[Phase]
    homes: dict[int, str]
    steps: Storage
    blocks: Storage
    wide: tuple[tuple[int, int], ...] = ()

    def nodes_of(self, phase: Phase) -> list[int]:
        """Return the operations of a phase, in order."""
        return [
            index
            for index, node in enumerate(self.program.nodes)
            if self.phase[index] is phase and node.op not in (INPUT, CONSTANT)
        ]


def plan_forward(program: Program, gates: int) -> Plan:
    """Return the plan of a forward loop."""
    program, homes = with_homes(program, (("state", "new"), ("saved", "kept")))
    nodes = program.nodes
    late = late_nodes(nodes, lambda name: name.startswith(("v", "state")))
    loop = {index for index in program.outputs["state"] if index is not None}
    reachable = {
        index for index, node in enumerate(nodes) if input_place(node, "state") is not None
    }
    phase = phases(program, late, loop, lambda index: index in homes or index in reachable)
    wide = _wide_sums(nodes, phase, homes, gates) if gates > 1 else ()
    given = _step_homes(phase, homes) | _inputs(nodes, {"state": "state", "v": "v"})
    if gates == 1:
        given = {index: place for index, place in given.items() if place != "v0"}
    for first, last in wide:
        for k in range(first, last):
            given[_sum_of(nodes, k) or 0] = f"v{k}"
    order = _order(nodes, phase, gates)
    fresh = {place for place in homes.values() if place.startswith(("new", "kept"))}
    steps = Storage(nodes, order, given, set(homes) | loop, fresh)
    return Plan(program, phase, homes, steps, _blocks(nodes, phase, homes), wide)


def plan_backward(program: Program, gates: int) -> Plan:
    """Return the plan of a backward loop, which is the program regrouped."""
    late = late_nodes(program.nodes, lambda name: name.startswith("d_state"))
    program = regrouped(program, late)
    if program.outputs["du"] == program.outputs["dv"]:
        program = Program(program.nodes, {k: v for k, v in program.outputs.items() if k != "du"})
    groups = (("dv", "dv"), ("du", "du"), ("units", "unit_grad"))
    program, homes = with_homes(with_exchanges(program), groups)
    nodes = program.nodes
    late = late_nodes(nodes, lambda name: name.startswith("d_state"))
    previous = program.outputs["previous"]
    loop = {a for a in (*previous, *program.outputs["dv"]) if a is not None}
    phase = phases(program, late, loop, homes.__contains__)
    order = _order(nodes, phase, 0)
    given = _step_homes(phase, homes) | _inputs(nodes, {"d_state": "d"})
    last = {a: k for k, index in enumerate(order) for a in nodes[index].args}
    for k, index in enumerate(previous):
        # The carried gradient is overwritten in place, if by then nobody reads the old one.
        carried = next((i for i, n in enumerate(nodes) if input_place(n, "d_state") == k), -1)
        free = index in order and last.get(carried, -1) <= order.index(index)
        if k and index is not None and index not in given and free:
            given[index] = f"d{k}"
    fresh = {place for place in homes.values() if gates == 1 or place.startswith("unit_grad")}
    held = set(homes) | loop
    steps = Storage(nodes, order, given, held, fresh, spare=("d0",))
    return Plan(program, phase, homes, steps, _blocks(nodes, phase, homes))


def _inputs(nodes: Sequence[Node], names: dict[str, str]) -> dict[int, str]:
    """Return the places of inputs that the loop carries."""
    return {
        index: f"{name}{k}"
        for group, name in names.items()
        for index, node in enumerate(nodes)
        for k in (input_place(node, group),)
        if k is not None
    }


def _step_homes(phase: Sequence[Phase], homes: dict[int, str]) -> dict[int, str]:
    return {index: name for index, name in homes.items() if phase[index] is Phase.STEP}


def _order(nodes: Sequence[Node], phase: Sequence[Phase], gates: int) -> list[int]:
    """Return what needs a place within a step, in order."""
    return [
        index
        for index, node in enumerate(nodes)
        if (phase[index] is Phase.STEP and node.op != INPUT)
        # With one gate the product's buffer is one of the formula's own.
        or (gates == 1 and input_place(node, "v") is not None)
    ]


def _blocks(nodes: Sequence[Node], phase: Sequence[Phase], homes: dict[int, str]) -> Storage:
    """Return the places of what is computed for a block of steps at once."""
    order = [
        index
        for wanted in (Phase.BEFORE, Phase.AFTER)
        for index, node in enumerate(nodes)
        if phase[index] is wanted and node.op != INPUT
    ]
    given = {index: homes[index] for index in order if index in homes}
    inside = {a for k, node in enumerate(nodes) if phase[k] is Phase.STEP for a in node.args}
    return Storage(nodes, order, given, inside | set(homes), prefix="t")


def _sum_of(nodes: Sequence[Node], gate: int) -> int | None:
    """Return the node u + v of a gate, if v is needed for nothing else."""
    found = [
        (index, node)
        for index, node in enumerate(nodes)
        if any(input_place(nodes[a], "v") == gate for a in node.args)
    ]
    if len(found) != 1 or found[0][1].op != "add":
        return None
    index, node = found[0]
    return index if any(input_place(nodes[a], "u") == gate for a in node.args) else None


def _wide_sums(
    nodes: Sequence[Node], phase: Sequence[Phase], homes: dict[int, str], gates: int
) -> tuple[tuple[int, int], ...]:
    """Return the ranges of two gates and more whose u + v is one addition into v."""
    sums = [_sum_of(nodes, k) for k in range(gates)]
    fits = [index is not None and index not in homes for index in sums]
    fits = [fit and phase[sums[k] or 0] is Phase.STEP for k, fit in enumerate(fits)]
    ranges, first = [], 0
    for k in range(gates + 1):
        if k == gates or not fits[k]:
            if k - first > 1:
                ranges.append((first, k))
            first = k + 1
    return tuple(ranges)
