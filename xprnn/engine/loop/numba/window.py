"""The source of the sweeps of a windowed truncation for Numba.

They are explained in `xprnn.engine.layer.window`, and the names in
`xprnn.engine.loop.numba.source`.  Besides::

    reach0              the gradient of a state variable before each step, (T, B, H)
    da                  dv of a block of rows
    i                   a row, counted from the first of its block
    s                   the next step of the sequence that exists, T if there is none
"""

from collections.abc import Sequence

from xprnn.engine.loop.numba.parts import (
    NUMBERS,
    Argument,
    Back,
    Loop,
    addresses,
    either,
    in_use,
    packing,
    row_at,
    scratch_rows,
)
from xprnn.engine.loop.program import FLOAT, Program
from xprnn.engine.loop.text import indented

WINDOW_NUMBERS = ("table", "sweeps", *NUMBERS[2:])
"""Those of the loop of a windowed truncation."""

WINDOW_ROWS = 64
"""The rows of a block in a sweep of a windowed truncation; even, because the last of an odd number
of rows is multiplied by tiles that sum in another order."""


_BACK = (
    "        call(table, PRODUCT, (table, at_da, K, at_p, at_through_U, count, K, W, m % 2))",
)  # (8)
"""The product of a block of rows."""


def window_entries(gates: int, hidden: int, width: int) -> int:
    """Return the entries of ``work``, for units that are ``width`` in whole vectors."""
    return width * (gates * hidden + 2 * WINDOW_ROWS) + WINDOW_ROWS * gates * hidden


def window_loop(program: Program, gates: int, saved: Sequence[str]) -> Loop:
    """Return ``window(..., U, dh, valid, mask, ...)``, the sweeps of a windowed truncation.

    They are explained in `xprnn.engine.layer.window`.  The first arguments are `NUMBERS`, with the
    number of sweeps in the place of ``save``, ``sync`` and ``work``.  A thread owns sequences, and
    all units.  The arguments are those of `backward_loop`, but for the gradients of the state:
    those of the final state, (B, H), which stay as they are; and those of the state before each
    step, (T, B, H), which are those of the sweep before the first one (zero if there is none)
    before, and those of the last sweep after the call.

    All steps of a sweep are independent of each other, so its rows (steps times sequences) go
    through the elementwise formula and the product in blocks of `WINDOW_ROWS`.  Row (t, b) needs
    the sweep before at row (s, b) only, s > t being the next step that exists: going up in t, that
    may be overwritten as soon as row t has been computed.
    """
    back = Back(program, saved)
    states, units, wholes, grads = back.states, back.units, back.wholes, back.grads
    start = ["s = t + 1", "if padded:", "    while s < T and not valid[s, b]:", "        s += 1"]
    start += [
        line
        for k in states
        for line in (
            row_at("ending", f"d_state{k}_", "b * H"),
            row_at("next", f"reach{k}", "(s * B + b) * H"),
            *either(
                "s == T",
                ["for j in range(n):", f"    d_state{k}[j] = ending[j]"],
                ["for j in range(n):", f"    d_state{k}[j] = next[j]"],
            ),
        )
    ]
    step = [
        *start,
        "if outer:",
        f"    {row_at('dh_b', 'dh', 'here')}",
        "    for j in range(n):",
        "        d_state0[j] += dh_b[j]",  # (5)
        *back.inputs,
        *back.rows.loops(),
        "for j in range(n):",
        f"    direct_b[j] = {back.direct}",
        *(f"    reached{k}[j] = {value}" for k, value in back.others),
        "if m == sweeps - 1:",
        f"    {row_at('kept', 'dv', 'wide', width='K')}",
        f"    {row_at('made', 'da', 'i * K', width='K')}",
        "    for j in range(K):",
        "        kept[j] = made[j]",
        *indented(["for j in range(n):", *back.sums] if back.sums else []),
    ]
    past_end = [
        "for j in range(n):",
        "    direct_b[j] = zero",
        *(f"    reached{k}[j] = zero" for k, _ in back.others),
        *(f"    {name}[j] = zero" for name in grads),  # (6)
        "if m == sweeps - 1:",
        f"    {row_at('kept', 'dv', 'wide', width='K')}",
        "    for j in range(K):",
        "        kept[j] = zero",
    ]
    row_lines = [
        f"here, wide = (t * B + b) * H, (t * B + b) * {gates} * H",
        *(row_at(f"reached{k}", f"reach{k}", "here") for k, _ in back.others),
        *(
            row_at(name, "da", f"i * K + {name[2:]} * H")
            if name.startswith("dv")
            else row_at(name, "du", f"wide + {name[2:]} * H")
            for name in grads
        ),
        row_at("direct_b", "direct", "i * W"),
        *either("padded and not valid[t, b]", past_end, step),
    ]
    lines = [
        "n, T, B, H = last - first, dv.shape[0], dv.shape[1], U.shape[1]",
        "K, N, W = U.shape[0], stop - start, (n + LANES - 1) // LANES * LANES",
        "padded, dropout, outer = valid.shape[0] > 0, mask.shape[0] > 0, dh.shape[0] > 0",
        "p, through_U = work[: K * W], work[K * W : K * W + ROWS * W]",
        "direct, da = work[K * W + ROWS * W :], work[K * W + 2 * ROWS * W :]",
        *scratch_rows(back.scratch | {f"d_state{k}": FLOAT for k in states}),
        *(f"unit{k} = unit{k}_[first:last]" for k in units),
        *addresses(("U", "dh", "mask", "p", "through_U", "direct", "da")),
        *(packing("first", "last", "at_p") if back.product else ()),
        *addresses((*(f"states{k}" for k in states), *(f"saved{k}_" for k in range(len(saved))))),
        *addresses((*(f"d_state{k}_" for k in states), *(f"reach{k}" for k in states))),
        *addresses((*wholes, *(f"sum{k}_" for k in units))),
        "for m in range(sweeps):",
        "    for begun in range(0, T * N, ROWS):",
        "        count = min(ROWS, T * N - begun)",
        "        for i in range(count):",
        "            t, b = (begun + i) // N, start + (begun + i) % N",
        *indented(indented(indented(row_lines))),
        *(_BACK if back.product else ()),
        "        for i in range(count):",
        "            t, b = (begun + i) // N, start + (begun + i) % N",
        f"            {row_at('x', 'reach0', '(t * B + b) * H')}",
        f"            {row_at('y', 'through_U', 'i * W')}",
        f"            {row_at('z', 'direct', 'i * W')}",
        f"            if {not back.product}:",
        "                for j in range(n):",
        "                    x[j] = z[j]",  # (9) without U
        "            elif dropout:",
        f"                {row_at('d', 'mask', 'b * H')}",
        "                for j in range(n):",
        "                    x[j] = y[j] * d[j] + z[j]",  # (9)
        "            else:",
        "                for j in range(n):",
        "                    x[j] = y[j] + z[j]",  # (9)
        *in_use(("p", "through_U", "direct", "da")),
    ]
    carried = {f"d_state{k}_": Argument(2) for k in states}
    carried |= {f"reach{k}": Argument(3, FLOAT, written=True) for k in states}
    return back.loop("window", lines, carried, numbers=WINDOW_NUMBERS)
