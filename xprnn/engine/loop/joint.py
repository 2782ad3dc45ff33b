"""The formulas of a cell with a second product, joined: one program for each direction.

A step of such a cell is a product, some operations, another product, the other operations; see
`xprnn.engine.loop.second`.  In a joint program the result of the second product is an input, so the
operations that depend on that input are those that come after it.
"""

from xprnn.engine.loop.program import CONSTANT, INPUT, Builder, Node, Program, split_name
from xprnn.engine.loop.trace import Formulas


def joint_forward(formulas: Formulas, *, masked: bool) -> Program:
    """Return `operand` and `forward` as one program.

    Its results are those of `forward`, o(t) as the last that is saved, and the group ``"operand"``,
    which is o(t) alone.  With ``masked``, the mask of recurrent dropout is an input, ``"mask"``.
    """
    assert formulas.operand is not None
    made = Builder()
    place = _replayed(made, formulas.operand)
    (index,) = formulas.operand.outputs["operand"]
    operand = place[index or 0]
    if masked:
        operand = made.apply("multiply", operand, made.input("mask"))  # (2b)
    place, outputs = _replayed(made, formulas.forward), formulas.forward.outputs
    state, saved = (_moved(place, outputs[group]) for group in ("state", "saved"))
    return made.program({"state": state, "saved": (*saved, operand), "operand": (operand,)})


def joint_backward(formulas: Formulas) -> Program:
    """Return `backward` and `operand_backward` as one program, with the sums of what they return.

    The input ``"d_operand"`` is do(t).
    """
    assert formulas.operand_backward is not None
    made, parts = Builder(), []
    for program in (formulas.backward, formulas.operand_backward):
        place = _replayed(made, program)
        parts.append({k: _moved(place, indices) for k, indices in program.outputs.items()})
    own, through = parts
    zero = made.constant(0.0)

    def plus(a: int | None, b: int | None) -> int | None:
        if a is None or b is None:
            return b if a is None else a
        return made.apply("add", a, b)

    def total(group: str) -> tuple[int, ...]:
        # The operand reads no block of the second product, so its gradient lacks those.
        missing = len(own[group]) - len(through[group])
        pairs = zip(own[group], (*through[group], *[None] * missing), strict=True)
        sums = [plus(a, b) for a, b in pairs]
        return tuple([zero if index is None else index for index in sums])

    previous = tuple(map(plus, own["previous"], through["previous"]))
    groups = {group: total(group) for group in ("du", "dv", "units")}
    return made.program({**groups, "previous": previous})  # (8b)


def second_blocks(nodes: tuple[Node, ...], first: int) -> set[int]:
    """Return the inputs v that come from the second product: those from block ``first`` on."""
    found = {k: split_name(f"{node.value}") for k, node in enumerate(nodes) if node.op == INPUT}
    return {k for k, (group, block) in found.items() if group == "v" and (block or 0) >= first}


def _replayed(made: Builder, program: Program) -> list[int]:
    """Build a program again; return the new nodes of the old ones."""
    place: list[int] = []
    for node in program.nodes:
        if node.op == INPUT:
            place.append(made.input(f"{node.value}", node.kind))
        elif node.op == CONSTANT:
            place.append(made.constant(node.value))  # type: ignore[arg-type]
        else:
            place.append(made.apply(node.op, *(place[a] for a in node.args)))
    return place


def _moved(place: list[int], indices: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return tuple([None if index is None else place[index] for index in indices])
