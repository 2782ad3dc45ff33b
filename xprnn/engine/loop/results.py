"""Where a program's results are kept: what the NumPy and the Numba loops share."""

from collections.abc import Iterable, Sequence

from xprnn.engine.loop.program import INPUT, Node, Program, input_place, needed

_READ_ONLY = ("saved", "units")
"""Results of which one may be the same array as another, or as an input that is kept."""

_KEPT_INPUTS = ("state", "saved", "previous")


def with_homes(
    program: Program, groups: Iterable[tuple[str, str]]
) -> tuple[Program, dict[int, str]]:
    """Return a program whose results have names, each node one; by copies where need be."""
    nodes, outputs = list(program.nodes), dict(program.outputs)
    homes: dict[int, str] = {}
    for group, name in groups:
        if group not in outputs:
            continue
        made: list[int | None] = []
        for k, index in enumerate(outputs[group]):
            if index is None:
                raise ValueError(f"{group} has no result {k}")
            own = index
            if not (group in _READ_ONLY and (index in homes or _is_kept(nodes[index]))):
                if index in homes or not _varies(nodes, index) or nodes[index].op == INPUT:
                    nodes.append(Node("copy", (index,), None, nodes[index].kind))
                    own = len(nodes) - 1
                homes[own] = f"{name}{k}"
            made.append(own)
        outputs[group] = tuple(made)
    return Program(tuple(nodes), outputs), homes


def with_exchanges(program: Program) -> Program:
    """Return a program that copies what is carried from one state variable to another.

    The one would be overwritten before the other is.
    """
    nodes, previous = list(program.nodes), []
    for k, index in enumerate(program.outputs["previous"]):
        own = index
        if index is not None and input_place(nodes[index], "d_state") not in (None, k):
            nodes.append(Node("copy", (index,), None, nodes[index].kind))
            own = len(nodes) - 1
        previous.append(own)
    return Program(tuple(nodes), {**program.outputs, "previous": tuple(previous)})


def _is_kept(node: Node) -> bool:
    return node.op == INPUT and f"{node.value}".rstrip("0123456789") in _KEPT_INPUTS


def _varies(nodes: Sequence[Node], index: int) -> bool:
    """Whether a node is another at every step."""
    inputs = (nodes[a] for a in needed(nodes, [index]) if nodes[a].op == INPUT)
    return any(not f"{node.value}".startswith("unit") for node in inputs)
