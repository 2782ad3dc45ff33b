"""Where in the time loop an operation belongs.

::

    constant    nowhere
    once        before the loop: it depends on per-unit parameters alone
    before      for a block of steps at once, before they run: on nothing that the loop carries
    step        inside the loop
    after       for a block of steps at once, after they ran: the loop doesn't need it

The formulas are elementwise, so for an operation of the second or fourth kind one call serves any
number of steps, and what such a call costs in Python is paid once.
"""

from collections.abc import Callable
from enum import Enum

from xprnn.engine.loop.program import CONSTANT, INPUT, Node, Program, needed


class Phase(Enum):
    """When an operation is computed."""

    CONSTANT = "constant"
    ONCE = "once"
    BEFORE = "before"
    STEP = "step"
    AFTER = "after"


def late_nodes(nodes: tuple[Node, ...], carried: Callable[[str], bool]) -> set[int]:
    """Return the nodes that depend on an input that the loop carries."""
    late: set[int] = set()
    for index, node in enumerate(nodes):
        if (node.op == INPUT and carried(f"{node.value}")) or late.intersection(node.args):
            late.add(index)
    return late


def phases(
    program: Program, late: set[int], loop: set[int], stored: Callable[[int], bool]
) -> list[Phase]:
    """Return the phase of every node.

    Parameters
    ----------
    program : Program
    late : set of int
    loop : set of int
        The results that the loop itself needs.
    stored : callable
        Whether the values of a late node are kept for all steps, so that `after` can read them.
    """
    nodes = program.nodes
    inside = late & needed(nodes, loop)
    # What is out of reach afterwards is computed inside, too; and then others may be out of reach.
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
            phase = Phase.ONCE if f"{node.value}".startswith("unit") else Phase.BEFORE
            phase = Phase.STEP if index in late else phase
        elif index in late:
            phase = Phase.STEP if index in inside else Phase.AFTER
        else:
            # A copy is of a result, which has an entry for every step.
            each_step = node.op == "copy" or any(found[a] is Phase.BEFORE for a in node.args)
            phase = Phase.BEFORE if each_step else Phase.ONCE
        found.append(phase)
    return found
