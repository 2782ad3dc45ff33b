"""The source of a time loop for Numba: one loop over steps, sequences and units.

Names are those of `xprnn.engine.loop.results`, numbers refer to the equations in
`xprnn.engine.loop.protocol`.  Normalisation, (3) and (7), is not here.

``u0``, ``v0``, ``state0``, ``new0``, ``saved0``, ``dv0``, ... are rows: the entries of one step and
sequence that belong to the units of the thread.  The whole array is ``u``, ``v``, ``states0``,
``dv``, ``du``, or has the name of the row and an underscore: ``saved0_``.  Besides::

    n, N, W             units and sequences that the thread owns; n rounded up to whole vectors
    b, j                a sequence; a unit, counted from the first that the thread owns
    here, wide, stored  where row b begins at step t: in (T, B, H), (T, B, G·H), what is saved
    padded, dropout     whether there is a padding mask, and a mask of recurrent dropout
    sync, team          where threads that share sequences meet once a step, and their number
    work                memory of the thread, which the next four are in; see `work_entries`
    p                   U, packed for the product (see `xprnn.backend.numba.packed`)
    v, through_U        the product of a step: (G, N, W) of v, or (N, W)
    direct              dh(t-1) by the paths that don't go through U, (N, W)
    at_x                the address of x
    s0, m0              scratch rows, of numbers and of booleans
"""

from collections.abc import Sequence

from xprnn.engine.loop.numba.parts import (
    Argument,
    Back,
    Loop,
    addresses,
    either,
    head,
    in_use,
    packing,
    row_at,
    scratch_rows,
    zero_of,
)
from xprnn.engine.loop.numba.rows import Rows
from xprnn.engine.loop.numba.window import window_entries
from xprnn.engine.loop.program import BOOL, FLOAT, Program
from xprnn.engine.loop.results import forward_results, saved_places
from xprnn.engine.loop.text import function, indented


def work_entries(direction: str, gates: int, hidden: int, sequences: int, width: int) -> int:
    """Return the entries of ``work``, for a thread that owns ``sequences`` and ``width`` units.

    The units are counted in whole vectors.
    """
    if direction == "window":
        return window_entries(gates, hidden, width)
    rows = gates if direction == "forward" else 2
    return width * (gates * hidden + rows * sequences)


def forward_loop(program: Program, gates: int, units: int) -> Loop:
    """Return ``forward(..., U, u, valid, mask, ...)``, with `NUMBERS`, ``sync``, ``work`` first.

    ``valid`` is (T, B), or (0, 0) without a padding mask; ``mask`` (B, H), or (0, 0) without one.
    The arguments after it: the per-unit parameters, (H,) each; ``masked``, (2, B, H), m h(t-1) at
    two steps in turn, the first of which is set; the states, (T+1, B, H), their first entries set;
    and the arrays for what is saved, (T, B, H), or (1, B, H) where ``save`` is 0.
    """
    program, results = forward_results(program)
    nodes, rows = program.nodes, Rows(program, results)
    states, products = range(len(program.outputs["state"])), list(program.inputs("v"))
    saved = {name: nodes[k].kind for k, name in results.items() if name.startswith("saved")}
    step = [
        *(row_at(f"u{k}", "u", f"wide + {k} * H") for k in program.inputs("u")),
        *(row_at(f"v{k}", "v", f"({k} * N + b - start) * W") for k in products),
        *rows.loops(),
    ]
    past_end = [
        "for j in range(n):",
        *(f"    new{k}[j] = state{k}[j]" for k in states),  # (4)
        *(f"    {name}[j] = {zero_of(kind)}" for name, kind in saved.items()),
    ]
    sequence = [
        f"here, wide = (t * B + b) * H + first, (t * B + b) * {gates} * H + first",
        "stored = (t * save * B + b) * H + first",
        *(row_at(f"state{k}", f"states{k}", "here") for k in states),
        *(row_at(f"new{k}", f"states{k}", "here + B * H") for k in states),
        *(row_at(name, f"{name}_", "stored", kind) for name, kind in saved.items()),
        *either("padded and not valid[t, b]", past_end, step),
        "if dropout:",
        f"    {row_at('m', 'mask', 'b * H + first')}",
        f"    {row_at('x', 'masked', '((t + 1) % 2 * B + b) * H + first')}",
        "    for j in range(n):",
        "        x[j] = new0[j] * m[j]",  # (1), of the next step
    ]
    lines = [
        "n, T, B, H = last - first, u.shape[0], u.shape[1], U.shape[1]",
        "N, W = stop - start, (n + LANES - 1) // LANES * LANES",
        "padded, dropout = valid.shape[0] > 0, mask.shape[0] > 0",
        f"p, v = work[: {gates} * W * H], work[{gates} * W * H :]",
        *scratch_rows(rows.scratch),
        *(f"unit{k} = unit{k}_[first:last]" for k in range(units)),
        *addresses(("sync", "U", "u", "mask", "masked", "p", "v")),
        *addresses((*(f"states{k}" for k in states), *(f"{name}_" for name in saved))),
        "at_h, P = at_masked if dropout else at_states0, W * H * SIZE",
        *(
            line
            for k in products
            for line in packing(f"{k} * H + first", f"{k} * H + last", f"at_p + {k} * P", turned=1)
        ),
        "for t in range(T):",
        "    at = at_h + ((t % 2 if dropout else t) * B + start) * H * SIZE",
        *(_products(products) if products else ()),  # (2)
        "    for b in range(start, stop):",
        *indented(indented(sequence)),
        "    if team > 1:",
        "        meet(at_sync, team, t + 1)",
        *in_use(("p", "v")),
    ]
    arrays = {"U": Argument(2), "u": Argument(3), "valid": Argument(2, BOOL), "mask": Argument(2)}
    arrays |= {f"unit{k}_": Argument(1) for k in range(units)}
    arrays |= {"masked": Argument(3, FLOAT, written=True)}
    arrays |= {f"states{k}": Argument(3, FLOAT, written=True) for k in states}
    arrays |= {f"{name}_": Argument(3, kind, written=True) for name, kind in saved.items()}
    source, places = function(head("forward", arrays), lines), tuple(saved_places(program))
    own = {int(name.removeprefix("saved")): kind for name, kind in saved.items()}
    return Loop(source, tuple(arrays.values()), rows.constants(), own, places)


def backward_loop(program: Program, gates: int, saved: Sequence[str]) -> Loop:
    """Return ``backward(..., U, dh, valid, mask, ...)``, with `NUMBERS`, ``sync``, ``work`` first.

    ``dh`` is (T, B, H), or (0, 0, 0) for none.  So is ``reached``, which gets dh(t) of every step.
    The arguments after it: the per-unit parameters and the states, as in `forward_loop`; what was
    saved, (T, B, H), of the kinds ``saved``; the gradients of the state, (B, H), which are those of
    the final state before and of the initial state after the call; the gradient of v, (T, B, G·H),
    and that of u if it differs; and those of the per-unit parameters, (B/`GROUP`, H), zero before
    the call.
    """
    back = Back(program, saved)
    states, units, wholes, grads = back.states, back.units, back.wholes, back.grads
    step = [
        *back.inputs,
        *back.rows.loops(),
        "for j in range(n):",
        f"    direct_b[j] = {back.direct}",
        *(f"    d_state{k}[j] = {value}" for k, value in back.others),
        *back.sums,
    ]
    past_end = [
        "for j in range(n):",
        "    direct_b[j] = d_state0[j]",  # (10), of the other state variables by doing nothing
        *(f"    {name}[j] = zero" for name in grads),  # (6)
    ]
    sequence = [
        f"here, wide = (t * B + b) * H + first, (t * B + b) * {gates} * H + first",
        *(row_at(f"d_state{k}", f"d_state{k}_", "b * H + first") for k in states),
        *(row_at(name, name[:2], f"wide + {name[2:]} * H") for name in grads),
        row_at("direct_b", "direct", "(b - start) * W"),
        "if outer:",
        f"    {row_at('dh_b', 'dh', 'here')}",
        "    for j in range(n):",
        "        d_state0[j] += dh_b[j]",  # (5)
        "if kept:",
        f"    {row_at('reached_b', 'reached', 'here')}",
        "    for j in range(n):",
        "        reached_b[j] = d_state0[j]",
        *either("padded and not valid[t, b]", past_end, step),
    ]
    lines = [
        "n, T, B, H = last - first, dv.shape[0], dv.shape[1], U.shape[1]",
        "K, N, W = U.shape[0], stop - start, (n + LANES - 1) // LANES * LANES",
        "padded, dropout, outer = valid.shape[0] > 0, mask.shape[0] > 0, dh.shape[0] > 0",
        "kept = reached.shape[0] > 0",
        "p, through_U = work[: K * W], work[K * W : K * W + N * W]",
        "direct = work[K * W + N * W :]",
        *scratch_rows(back.scratch),
        *(f"unit{k} = unit{k}_[first:last]" for k in units),
        *addresses(("sync", "U", "dh", "mask", "reached", "p", "through_U", "direct")),
        *(packing("first", "last", "at_p") if back.product else ()),
        *addresses((*(f"states{k}" for k in states), *(f"saved{k}_" for k in range(len(saved))))),
        *addresses((*(f"d_state{k}_" for k in states), *wholes, *(f"sum{k}_" for k in units))),
        "for t in range(T - 1, -1, -1):",
        "    for b in range(start, stop):",
        *indented(indented(sequence)),
        *(_BACK if back.product else ()),
        "    for b in range(start, stop):",
        f"        {row_at('x', 'd_state0_', 'b * H + first')}",
        f"        {row_at('y', 'through_U', '(b - start) * W')}",
        f"        {row_at('z', 'direct', '(b - start) * W')}",
        f"        if {'padded and not valid[t, b]' if back.product else 'True'}:",
        "            for j in range(n):",
        "                x[j] = z[j]",  # (10), and (9) without U
        "        elif dropout:",
        f"            {row_at('m', 'mask', 'b * H + first')}",
        "            for j in range(n):",
        "                x[j] = y[j] * m[j] + z[j]",  # (9)
        "        else:",
        "            for j in range(n):",
        "                x[j] = y[j] + z[j]",  # (9)
        *in_use(("p", "through_U", "direct")),
    ]
    carried = {f"d_state{k}_": Argument(2, FLOAT, written=True) for k in states}
    return back.loop("backward", lines, carried, keeps=True)


_BACK = (
    "    if team > 1:",
    "        meet(at_sync, team, T - t)",
    "    at = at_dv + (t * B + start) * K * SIZE",
    "    call(table, PRODUCT, (table, at, K, at_p, at_through_U, N, K, W, t % 2))",  # (8)
)
"""The product of a step of the backward direction."""


def _products(gates: Sequence[int]) -> list[str]:
    """Return the products of a step, one per gate.

    The order alternates from step to step: if U is larger than the cache, the part that was read
    last is still in it.
    """
    return [
        f"    for i in range({len(gates)}):",
        f"        k = {tuple(gates)}[{len(gates) - 1} - i if t % 2 else i]",
        "        at_k = at_v + k * N * W * SIZE",
        "        call(table, PRODUCT, (table, at, H, at_p + k * P, at_k, N, H, W, t % 2))",
    ]
