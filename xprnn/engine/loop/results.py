"""The results of a traced formula: their names, and which of them are one array.

The sources of the NumPy and the Numba loops use these names; the source of the CUDA kernels has
names of its own, but shares arrays in the same way.  0 stands for any number:

    forward     inputs      u0, v0, state0, unit0       per gate, state variable, per-unit parameter
                results     new0, saved0                the state after the step; what is saved
    backward    inputs      saved0, unit0, previous0    previous0: the state before the step
                            d_state0                    the gradient carried from step to step
                results     dv0, du0, unit_grad0        per gate; per per-unit parameter
    both        values      k3, n3                      node 3 of the program: a constant, any other
                scratch     s0                          a value that is only needed within a step
    arrays                  states0, saved0             for all steps: (T+1, B, H), (T, B, H)
                            masked                      m h(t-1), (B, H)
                            through_U                   Uᵀ dv, (B, H)
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from xprnn.engine.loop.program import INPUT, Node, Program, input_number, needed, split_name

Place: TypeAlias = tuple[Literal["before", "after", "saved"], int]

_READ_ONLY = ("saved", "units")
"""Groups of results that may be one array with another result, or with an input that stays."""

_STAYING_INPUTS = ("state", "saved", "previous")


def forward_results(program: Program) -> tuple[Program, dict[int, str]]:
    """Return the forward formula with every result a node of its own, and the results' names.

    A result that has no entry for each step, or that is another result too, is copied.  What is
    saved is not copied where it is a state or has been saved already (see `saved_places`).
    """
    return _named(program, (("state", "new"), ("saved", "saved")))


def backward_results(program: Program) -> tuple[Program, dict[int, str]]:
    """Return the backward formula with every result a node of its own, and the results' names.

    Without du where it equals dv.
    """
    if one_gradient(program):
        program = Program(program.nodes, {k: v for k, v in program.outputs.items() if k != "du"})
    groups = (("dv", "dv"), ("du", "du"), ("units", "unit_grad"))
    return _named(_with_exchanges(program), groups)


def one_gradient(program: Program) -> bool:
    """Return whether the gradients of u and of v are equal, and so one array."""
    return program.outputs["du"] == program.outputs["dv"]


def direct_gradient(program: Program) -> int | None:
    """Return the node of the gradient of h(t-1) by the paths that don't go through U, if any."""
    return program.outputs["previous"][0]


def saved_places(program: Program) -> list[Place]:
    """Return where each saved quantity lies.

    ``("before", k)`` is state variable k before the step, ``("after", k)`` the same after it, and
    ``("saved", k)`` the array of saved quantity k, which may be an earlier one with equal values.
    """
    known: dict[int | None, Place] = {
        index: ("before", k) for k, index in program.inputs("state").items()
    }
    for k, new in enumerate(program.outputs["state"]):
        known.setdefault(new, ("after", k))
    return [known.setdefault(made, ("saved", k)) for k, made in enumerate(program.outputs["saved"])]


def _named(program: Program, groups: Iterable[tuple[str, str]]) -> tuple[Program, dict[int, str]]:
    """Return a program with copies where need be, and by node the names of the results of groups.

    ``groups`` are pairs: the group's name in ``program.outputs``, and the name of its results.
    """
    nodes, outputs = list(program.nodes), dict(program.outputs)
    names: dict[int, str] = {}
    for group, name in groups:
        if group not in outputs:
            continue
        made: list[int | None] = []
        for k, index in enumerate(outputs[group]):
            if index is None:
                raise ValueError(f"{group} has no result {k}")
            result = index
            if not (group in _READ_ONLY and (index in names or _stays(nodes[index]))):
                if index in names or not _varies(nodes, index) or nodes[index].op == INPUT:
                    result = _copied(nodes, index)
                names[result] = f"{name}{k}"
            made.append(result)
        outputs[group] = tuple(made)
    return Program(tuple(nodes), outputs), names


def _with_exchanges(program: Program) -> Program:
    """Copy what is carried from one state variable to another, which may be overwritten before."""
    nodes, previous = list(program.nodes), []
    for k, index in enumerate(program.outputs["previous"]):
        moved = index is not None and input_number(nodes[index], "d_state") not in (None, k)
        previous.append(_copied(nodes, index) if index is not None and moved else index)
    return Program(tuple(nodes), {**program.outputs, "previous": tuple(previous)})


def _copied(nodes: list[Node], index: int) -> int:
    """Add a copy of a node, and return it."""
    nodes.append(Node("copy", (index,), None, nodes[index].kind))
    return len(nodes) - 1


def _stays(node: Node) -> bool:
    """Whether a node is an input that is not overwritten, and is there for all steps."""
    return node.op == INPUT and split_name(f"{node.value}")[0] in _STAYING_INPUTS


def _varies(nodes: Sequence[Node], index: int) -> bool:
    """Whether a node depends on more than constants and per-unit parameters."""
    inputs = (nodes[a] for a in needed(nodes, [index]) if nodes[a].op == INPUT)
    return any(split_name(f"{node.value}")[0] != "unit" for node in inputs)
