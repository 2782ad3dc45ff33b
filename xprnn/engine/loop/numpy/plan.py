"""A formula made ready for a NumPy loop: when each operation is computed, and where its value goes.

Names are those of `xprnn.engine.loop.results`, and besides:

    u0_t, saved0_t      an input or something saved, at step t
    b3                  node 3 at step t, where it has been computed for a block of steps
    t0, t0_             scratch for a block of steps, and the buffer that it is the beginning of
"""

from collections.abc import Container, Sequence
from typing import NamedTuple

from xprnn.engine.loop.joint import second_blocks
from xprnn.engine.loop.numpy.joined import Joined, joined_gates, sum_of
from xprnn.engine.loop.numpy.phases import Phase, depending, late_nodes, phases
from xprnn.engine.loop.numpy.regroup import regrouped
from xprnn.engine.loop.numpy.storage import Storage
from xprnn.engine.loop.program import CONSTANT, INPUT, Node, Program, input_number
from xprnn.engine.loop.results import backward_results, forward_results


class LoopPlan(NamedTuple):
    """What the source of a loop is written from.

    Attributes
    ----------
    program : Program
        With a copy for every result that would have no array of its own otherwise.
    phase : list of Phase
        Per node.
    results : dict of int to str
        The nodes that are stored for all steps (or for a block of them), and their names.
    steps, blocks : Storage
        The places of what is computed step by step, and of what is computed in blocks.
    wide : tuple of (int, int)
        Ranges of gates whose sums u + v are one addition.
    joined : tuple of Joined
        Ranges of gates that are computed together, sums included.
    waiting : set of int
        The operations that come after the second product of a step, if there is one.
    """

    program: Program
    phase: list[Phase]
    results: dict[int, str]
    steps: Storage
    blocks: Storage
    wide: tuple[tuple[int, int], ...] = ()
    waiting: Container[int] = ()
    joined: tuple[Joined, ...] = ()

    @property
    def saved(self) -> list[tuple[str, str]]:
        """The arrays of what a forward loop saves: their names, and the kinds of their entries."""
        nodes = self.program.nodes
        found = [(name, nodes[k].kind) for k, name in self.results.items()]
        return [(name, kind) for name, kind in found if name.startswith("saved")]

    @property
    def stored_gates(self) -> list[Joined]:
        """The joined gates that are saved."""
        return [each for each in self.joined if each.results[0] in self.results]

    def nodes_of(self, phase: Phase) -> list[int]:
        """Return the operations of a phase, in order."""
        return [
            index
            for index, node in enumerate(self.program.nodes)
            if self.phase[index] is phase and node.op not in (INPUT, CONSTANT)
        ]

    def step_nodes(self, *, waiting: bool) -> list[int]:
        """Return the operations within a step before its second product, or after it, in order.

        Without a second product, all of them come before.  Those of joined gates are left out.
        """
        apart = {k for each in self.joined for k in (*each.inner, *each.results)}
        found = self.nodes_of(Phase.STEP)
        return [k for k in found if (k in self.waiting) == waiting and k not in apart]


def plan_forward(program: Program, gates: int, second: int = 0) -> LoopPlan:
    """Return the plan of a forward loop; the last ``second`` blocks are a second product's."""
    program, results = forward_results(program)
    nodes = program.nodes
    late = late_nodes(nodes, {"v", "state"})
    operand = program.outputs.get("operand", ())
    loop = {index for index in (*program.outputs["state"], *operand) if index is not None}
    states = set(program.inputs("state").values())
    phase = phases(program, late, loop, lambda index: index in results or index in states)
    wide: tuple[tuple[int, int], ...] = ()
    joined: tuple[Joined, ...] = ()
    if gates > 1 and not second:
        joined = joined_gates(nodes, phase, results, set(results) | loop, gates)
    if gates > 1:
        alone = [k for k in range(gates) if not any(a.first <= k < a.last for a in joined)]
        wide = _wide_sums(nodes, phase, results, gates - second, gates, alone)
    waiting = depending(nodes, second_blocks(nodes, gates - second))
    fixed = _results_of_steps(phase, results) | _inputs(program, "state")
    if gates > 1:
        fixed |= _inputs(program, "v")
    for first, last in wide:
        for k in range(first, last):
            fixed[sum_of(nodes, k) or 0] = f"v{k}"
    apart = {k for each in joined for k in (*each.inner, *each.results)}
    for each in joined:
        for k, index in enumerate(each.results):
            fixed.setdefault(index, f"{each.name}[{k}]")
    order = [k for k in _order(nodes, phase, gates) if k not in apart]
    order.sort(key=waiting.__contains__)
    shareable = {name for name in results.values() if name.startswith(("new", "saved"))}
    steps = Storage(nodes, order, fixed, set(results) | loop, shareable)
    blocks = _blocks(nodes, phase, results)
    return LoopPlan(program, phase, results, steps, blocks, wide, waiting, joined)


def plan_backward(program: Program, gates: int) -> LoopPlan:
    """Return the plan of a backward loop, which computes the program regrouped."""
    carried = {"d_state", "d_operand"}
    program, results = backward_results(regrouped(program, late_nodes(program.nodes, carried)))
    nodes = program.nodes
    late = late_nodes(nodes, carried)
    previous = program.outputs["previous"]
    loop = {a for a in (*previous, *program.outputs["dv"]) if a is not None}
    phase = phases(program, late, loop, results.__contains__)
    waiting = late_nodes(nodes, {"d_operand"})
    order = sorted(_order(nodes, phase, 0), key=waiting.__contains__)
    d_states = program.inputs("d_state")
    fixed = _results_of_steps(phase, results) | _inputs(program, "d_state")
    fixed |= {k: "d_operand" for k, node in enumerate(nodes) if node.value == "d_operand"}
    last = {a: k for k, index in enumerate(order) for a in nodes[index].args}
    for k, index in enumerate(previous):
        # The carried gradient is overwritten in place if nobody reads the old one after that.
        free = index in order and last.get(d_states.get(k, -1), -1) <= order.index(index)
        if k and index is not None and index not in fixed and free:
            fixed[index] = f"d_state{k}"
    shareable = {name for name in results.values() if gates == 1 or name.startswith("unit_grad")}
    read_later = set(results) | loop
    steps = Storage(nodes, order, fixed, read_later, shareable, carried=("d_state0",))
    blocks = _blocks(nodes, phase, results)
    return LoopPlan(program, phase, results, steps, blocks, waiting=waiting)


def _inputs(program: Program, group: str) -> dict[int, str]:
    """Return the places of inputs that the loop carries."""
    return {index: f"{group}{k}" for k, index in program.inputs(group).items()}


def _results_of_steps(phase: Sequence[Phase], results: dict[int, str]) -> dict[int, str]:
    return {index: name for index, name in results.items() if phase[index] is Phase.STEP}


def _order(nodes: Sequence[Node], phase: Sequence[Phase], gates: int) -> list[int]:
    """Return the nodes that need a place within a step, in order."""
    return [
        index
        for index, node in enumerate(nodes)
        if (phase[index] is Phase.STEP and node.op != INPUT)
        # With one gate, the product is put where a value of the formula will be.
        or (gates == 1 and input_number(node, "v") is not None)
    ]


def _blocks(nodes: Sequence[Node], phase: Sequence[Phase], results: dict[int, str]) -> Storage:
    """Return the places of what is computed for a block of steps at once."""
    order = [
        index
        for wanted in (Phase.BEFORE, Phase.AFTER)
        for index, node in enumerate(nodes)
        if phase[index] is wanted and node.op != INPUT
    ]
    fixed = {index: results[index] for index in order if index in results}
    inside = {a for k, node in enumerate(nodes) if phase[k] is Phase.STEP for a in node.args}
    return Storage(nodes, order, fixed, inside | set(results), prefix="t")


def _wide_sums(
    nodes: Sequence[Node],
    phase: Sequence[Phase],
    results: dict[int, str],
    first: int,
    gates: int,
    alone: Container[int],
) -> tuple[tuple[int, int], ...]:
    """Return the ranges of two gates and more whose sums u + v are one addition, made in v.

    A range ends with the blocks of the first product, and beside gates that are not ``alone``.
    """
    sums = [sum_of(nodes, k) if k in alone else None for k in range(gates)]
    fits = [index is not None and index not in results for index in sums]
    fits = [fit and phase[sums[k] or 0] is Phase.STEP for k, fit in enumerate(fits)]
    ranges, start = [], 0
    for k in range(gates + 1):
        if k in (first, gates) or not fits[k]:
            if k - start > 1:
                ranges.append((start, k))
            start = k if k < gates and fits[k] else k + 1
    return tuple(ranges)
