"""When the time loop computes an operation.

::

    constant    never: it is a number
    once        before the loop: it depends on per-unit parameters alone
    before      for a block of steps, before these run: it depends on nothing that the loop carries
    step        within each step
    after       for a block of steps, after these ran: the loop itself doesn't need it

The formulas are elementwise, so an operation that is computed before or after a block is one call
for all of its steps, and the cost of a call in Python is paid once.
"""

from collections.abc import Callable, Container
from enum import Enum

from xprnn.engine.loop.program import CONSTANT, INPUT, Node, Program, needed, split_name


class Phase(Enum):
    """When an operation is computed."""

    CONSTANT = "constant"
    ONCE = "once"
    BEFORE = "before"
    STEP = "step"
    AFTER = "after"


def late_nodes(nodes: tuple[Node, ...], carried: Container[str]) -> set[int]:
    """Return the nodes that depend on what the loop carries, which are inputs of these groups."""
    late: set[int] = set()
    for index, node in enumerate(nodes):
        is_carried = node.op == INPUT and split_name(f"{node.value}")[0] in carried
        if is_carried or late.intersection(node.args):
            late.add(index)
    return late


def depending(nodes: tuple[Node, ...], inputs: set[int]) -> set[int]:
    """Return the nodes that depend on these inputs, without the inputs themselves."""
    found: set[int] = set()
    for index, node in enumerate(nodes):
        if not inputs.isdisjoint(node.args) or not found.isdisjoint(node.args):
            found.add(index)
    return found


def phases(
    program: Program, late: set[int], loop: set[int], stored: Callable[[int], bool]
) -> list[Phase]:
    """Return the phase of every node.

    Parameters
    ----------
    program : Program
    late : set of int
        The nodes that depend on what the loop carries.
    loop : set of int
        The results that the loop itself needs.
    stored : callable
        Whether the values of a late node are stored for all steps, so that operations after the
        block can read them.
    """
    nodes = program.nodes
    inside = late & needed(nodes, loop)
    # An operation with an operand that is not stored can't wait until the block is over.  Moving it
    # into the step may leave others with such an operand.
    before = -1
    while len(inside) != before:
        before = len(inside)
        for index in sorted(late - inside):
            unreachable = (
                a in inside or nodes[a].op == INPUT
                for a in nodes[index].args
                if a in late and not stored(a)
            )
            if nodes[index].op != INPUT and any(unreachable):
                inside |= late & needed(nodes, [index])
    found: list[Phase] = []
    for index, node in enumerate(nodes):
        if node.op == CONSTANT:
            phase = Phase.CONSTANT
        elif node.op == INPUT:
            same = split_name(f"{node.value}")[0] in ("unit", "mask")
            phase = Phase.ONCE if same else Phase.BEFORE
            phase = Phase.STEP if index in late else phase
        elif index in late:
            phase = Phase.STEP if index in inside else Phase.AFTER
        else:
            # A copy makes a result, which has an entry for every step.
            each_step = node.op == "copy" or any(found[a] is Phase.BEFORE for a in node.args)
            phase = Phase.BEFORE if each_step else Phase.ONCE
        found.append(phase)
    return found
