"""The source of a time loop for a compiler: one loop over steps, sequences and units.

Names in it are those of `xprnn.engine.loop.numpy.plan`: ``u0``, ``v0``, ``state0``, ``new0``,
``kept0``, ``dv0``, ... are rows, of the units that a thread owns; ``n7`` is a node within a loop,
and ``s0`` a row that is only needed within a step.  An array with a row for every step and sequence
has the rows' name and an underscore.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xprnn.engine.loop.numba.rows import Rows
from xprnn.engine.loop.program import BOOL, FLOAT, Program, input_place
from xprnn.engine.loop.results import with_exchanges, with_homes

NUMBERS = ("product", "save", "first", "last", "start", "stop", "team")
"""What a loop takes first: the address of the compiled product, whether anything is to be saved,
the units and the sequences that the thread owns, and how many threads share these sequences."""

GROUP = 8
"""Sequences over which the gradients of per-unit parameters are summed in one piece: threads own
whole groups of them, so that the same sums are formed however many threads there are."""


class Argument(NamedTuple):
    """An array that a loop takes: its number of axes, its kind, and whether the loop fills it."""

    axes: int
    kind: str = FLOAT
    filled: bool = False


class Loop(NamedTuple):
    """A function's text, and what else there is to know of it.

    Attributes
    ----------
    source : str
    arrays : tuple of Argument
        What it takes, after numbers of the machine's word size and the array ``sync``.
    constants : dict
        The constants that it names: value and kind.
    kept : dict
        Forward: the arrays that it fills with what is saved, and their kinds.
    saved : tuple of str
        Forward: per quantity saved, which array that is, ``"kept0"``, ``"new0"`` or ``"state0"``.
    """

    source: str
    arrays: tuple[Argument, ...]
    constants: dict[str, tuple[float | bool, str]]
    kept: dict[str, str] = {}  # noqa: RUF012 - never written to
    saved: tuple[str, ...] = ()


def forward_loop(program: Program, gates: int, units: int) -> Loop:
    """Return ``forward(..., U, u, valid, mask, ...)``, after `NUMBERS` and ``sync``.

    Then come the units, (H,) each; ``masked``, (2, B, H), its first entry the initial state times
    the mask; the states, (T+1, B, H), their first entry the initial state; and what is saved,
    (T, B, H), or (1, B, H) with a ``save`` of 0.  ``valid`` is (T, B), or (0, 0) where all steps
    are; ``mask`` (B, H), or (0, 0) without.
    """
    program, homes = with_homes(program, (("state", "new"), ("saved", "kept")))
    nodes, outputs, rows = program.nodes, program.outputs, Rows(program, homes)
    states, products = range(len(outputs["state"])), rows.inputs("v")
    kept = {name: nodes[index].kind for index, name in homes.items() if name.startswith("kept")}
    step = [
        *(_row(f"u{k}", "u", f"wide + {k} * H") for k in rows.inputs("u")),
        *(_row(f"v{k}", "v", f"({k} * N + b - start) * W") for k in products),
        *rows.loops(),
    ]
    beyond = [
        "for j in range(n):",
        *(f"    new{k}[j] = state{k}[j]" for k in states),
        *(f"    {name}[j] = {_nothing(kind)}" for name, kind in kept.items()),
    ]
    sequence = [
        f"here, wide = (t * B + b) * H + first, (t * B + b) * {gates} * H + first",
        "one_step = (t * save * B + b) * H + first",
        *(_row(f"state{k}", f"states{k}", "here") for k in states),
        *(_row(f"new{k}", f"states{k}", "here + B * H") for k in states),
        *(_row(name, f"{name}_", "one_step", kind) for name, kind in kept.items()),
        *_either("held and not valid[t, b]", beyond, step),
        "if dropped:",
        f"    {_row('m', 'mask', 'b * H + first')}",
        f"    {_row('x', 'masked', '((t + 1) % 2 * B + b) * H + first')}",
        "    for j in range(n):",
        "        x[j] = new0[j] * m[j]",
    ]
    lines = [
        "n, T, B, H = last - first, u.shape[0], u.shape[1], U.shape[1]",
        "N, W = stop - start, (n + LANES - 1) // LANES * LANES",
        "held, dropped = valid.shape[0] > 0, mask.shape[0] > 0",
        f"p, v = empty({gates} * W * H, dtype), empty(({gates}, N, W), dtype)",
        *(
            f"pack(U, {k} * H + first, {k} * H + last, True, p[{k} * W * H : {k + 1} * W * H])"
            for k in products
        ),
        *_made(rows.scratch),
        *(f"unit{k} = unit{k}_[first:last]" for k in range(units)),
        *_addresses(("sync", "u", "mask", "masked", "p", "v")),
        *_addresses((*(f"states{k}" for k in states), *(f"{name}_" for name in kept))),
        "at_h, P = at_masked if dropped else at_states0, W * H * SIZE",
        "for t in range(T):",
        "    at = at_h + ((t % 2 if dropped else t) * B + start) * H * SIZE",
        *(_turns(products) if products else ()),
        "    for b in range(start, stop):",
        *_indented(_indented(sequence)),
        "    if team > 1:",
        "        meet(at_sync, team, t + 1)",
        *_held(("p", "v")),
    ]
    arrays = {"U": Argument(2), "u": Argument(3), "valid": Argument(2, BOOL), "mask": Argument(2)}
    arrays |= {f"unit{k}_": Argument(1) for k in range(units)}
    arrays |= {"masked": Argument(3, FLOAT, filled=True)}
    arrays |= {f"states{k}": Argument(3, FLOAT, filled=True) for k in states}
    arrays |= {f"{name}_": Argument(3, kind, filled=True) for name, kind in kept.items()}
    saved = []
    for index in outputs["saved"]:
        k = input_place(nodes[index or 0], "state")
        saved.append(homes[index or 0] if k is None else f"state{k}")
    source = _function("forward", arrays, lines)
    return Loop(source, tuple(arrays.values()), rows.constants(), kept, tuple(saved))


def backward_loop(program: Program, gates: int, saved: Sequence[str]) -> Loop:
    """Return ``backward(..., U, dh, valid, mask, ...)``, after `NUMBERS` and ``sync``.

    Then come the units and the states, as `forward_loop` has them; what was saved, (T, B, H) each,
    of the kinds ``saved``; the gradients of the state, (B, H), of the final one before and of the
    initial one after; that of v, (T, B, G·H), and of u, where it differs; and those of the units,
    (B/`GROUP`, H), zero before.  ``dh`` is (T, B, H), or (0, 0, 0) for none.
    """
    if program.outputs["du"] == program.outputs["dv"]:
        program = Program(program.nodes, {k: v for k, v in program.outputs.items() if k != "du"})
    groups = (("dv", "dv"), ("du", "du"), ("units", "unit_grad"))
    program, homes = with_homes(with_exchanges(program), groups)
    outputs, previous = program.outputs, program.outputs["previous"]
    rows = Rows(program, homes, [index for index in previous if index is not None])
    states, units = range(len(previous)), range(len(outputs["units"]))
    wholes = [group for group in ("dv", "du") if group in outputs]
    grads = [f"{group}{k}" for group in wholes for k in range(gates)]
    own = {name: "float" for name in homes.values() if name.startswith("unit_grad")}
    summed = [rows.name(index or 0) for index in outputs["units"]]
    carried = ["zero" if index is None else f"{rows.name(index)}[j]" for index in previous]
    step = [
        *(_row(f"saved{k}", f"saved{k}_", "here", saved[k]) for k in rows.inputs("saved")),
        *(_row(f"previous{k}", f"states{k}", "here") for k in rows.inputs("previous")),
        *(_row(f"sum{k}", f"sum{k}_", "b // GROUP * H + first") for k in units),
        *rows.loops(),
        "for j in range(n):",
        f"    through_b[j] = {carried[0]}",
        *(f"    d_state{k}[j] = {carried[k]}" for k in states[1:]),
        *(f"    sum{k}[j] += {name}[j]" for k, name in enumerate(summed)),
    ]
    beyond = [
        "for j in range(n):",
        "    through_b[j] = d_state0[j]",
        *(f"    {name}[j] = zero" for name in grads),
    ]
    sequence = [
        f"here, wide = (t * B + b) * H + first, (t * B + b) * {gates} * H + first",
        *(_row(f"d_state{k}", f"d_state{k}_", "b * H + first") for k in states),
        *(_row(name, name[:2], f"wide + {name[2:]} * H") for name in grads),
        _row("through_b", "through", "(b - start) * W"),
        "if outer:",
        f"    {_row('dh_b', 'dh', 'here')}",
        "    for j in range(n):",
        "        d_state0[j] += dh_b[j]",
        *_either("held and not valid[t, b]", beyond, step),
    ]
    lines = [
        "n, T, B, H = last - first, dv.shape[0], dv.shape[1], U.shape[1]",
        f"K, N, W = {gates} * H, stop - start, (n + LANES - 1) // LANES * LANES",
        "held, dropped, outer = valid.shape[0] > 0, mask.shape[0] > 0, dh.shape[0] > 0",
        "p = empty(K * W, dtype)",
        "pack(U, first, last, False, p)",
        "q, through = empty((N, W), dtype), empty((N, W), dtype)",
        *_made(rows.scratch | own),
        *(f"unit{k} = unit{k}_[first:last]" for k in units),
        *_addresses(("sync", "dh", "mask", "p", "q", "through")),
        *_addresses((*(f"states{k}" for k in states), *(f"saved{k}_" for k in range(len(saved))))),
        *_addresses((*(f"d_state{k}_" for k in states), *wholes, *(f"sum{k}_" for k in units))),
        "for t in range(T - 1, -1, -1):",
        "    for b in range(start, stop):",
        *_indented(_indented(sequence)),
        "    if team > 1:",
        "        meet(at_sync, team, T - t)",
        "    at = at_dv + (t * B + start) * K * SIZE",
        "    call_product(product, at, K, at_p, at_q, N, K, W, t % 2)",
        "    for b in range(start, stop):",
        f"        {_row('x', 'd_state0_', 'b * H + first')}",
        f"        {_row('y', 'q', '(b - start) * W')}",
        f"        {_row('z', 'through', '(b - start) * W')}",
        "        if held and not valid[t, b]:",
        "            for j in range(n):",
        "                x[j] = z[j]",
        "        elif dropped:",
        f"            {_row('m', 'mask', 'b * H + first')}",
        "            for j in range(n):",
        "                x[j] = y[j] * m[j] + z[j]",
        "        else:",
        "            for j in range(n):",
        "                x[j] = y[j] + z[j]",
        *_held(("p", "q", "through")),
    ]
    arrays = {"U": Argument(2), "dh": Argument(3), "valid": Argument(2, BOOL), "mask": Argument(2)}
    arrays |= {f"unit{k}_": Argument(1) for k in units}
    arrays |= {f"states{k}": Argument(3) for k in states}
    arrays |= {f"saved{k}_": Argument(3, kind) for k, kind in enumerate(saved)}
    arrays |= {f"d_state{k}_": Argument(2, FLOAT, filled=True) for k in states}
    arrays |= {name: Argument(3, FLOAT, filled=True) for name in wholes}
    arrays |= {f"sum{k}_": Argument(2, FLOAT, filled=True) for k in units}
    source = _function("backward", arrays, lines)
    return Loop(source, tuple(arrays.values()), rows.constants())


def _turns(products: Sequence[int]) -> list[str]:
    """Return the products of a step: there and back, in turns.

    So that a U that is larger than the cache is still there in part.
    """
    return [
        f"    for i in range({len(products)}):",
        f"        k = {tuple(products)}[{len(products) - 1} - i if t % 2 else i]",
        "        at_k = at_v + k * N * W * SIZE",
        "        call_product(product, at, H, at_p + k * P, at_k, N, H, W, t % 2)",
    ]


def _row(name: str, array: str, place: str, kind: str = FLOAT) -> str:
    """Return what makes a row of an array, from its first entry on."""
    size = "SIZE" if kind == FLOAT else "1"
    return f"{name} = row({_nothing(kind)}, at_{array} + ({place}) * {size}, n)"


def _addresses(names: Iterable[str]) -> list[str]:
    return [f"at_{name} = {name}.ctypes.data" for name in names]


def _held(names: Iterable[str]) -> list[str]:
    """Return what keeps arrays of which the loop has only the address."""
    return [f"hold({name})" for name in names]


def _made(kinds: dict[str, str]) -> list[str]:
    """Return what makes rows that are only needed within a step."""
    return [
        f"{name} = empty(W, {'boolean' if kind == BOOL else 'dtype'})"
        for name, kind in kinds.items()
    ]


def _nothing(kind: str) -> str:
    return "False" if kind == BOOL else "zero"


def _either(test: str, one: list[str], other: list[str]) -> list[str]:
    return [f"if {test}:", *_indented(one), "else:", *_indented(other)]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(name: str, arrays: Iterable[str], lines: list[str]) -> str:
    arguments = ", ".join((*NUMBERS, "sync", *arrays))
    return "\n".join((f"def {name}({arguments}):", *_indented(lines), ""))
