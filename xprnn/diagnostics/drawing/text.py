"""A network drawn as text."""

from xprnn.diagnostics.drawing.layout import Layout, Network, layout_of

BESIDE = 20  # the column at which the words beside the folded network begin, or further right


def draw_text(net: Network, steps: int = 3) -> str:
    """Draw a network as text, folded on top and unfolded in time below.

    Parameters
    ----------
    net : RNN
    steps : int
        How many steps to unfold.

    Returns
    -------
    str
        Lines without a line break at the end; their width grows with the number of steps.

    Raises
    ------
    TypeError
        If ``net`` is not a network, or ``steps`` not an integer.
    ValueError
        If ``steps`` is below 1.

    Examples
    --------
    >>> import xprnn
    >>> print(draw_text(xprnn.RNN(3, 8, 2, returns="last"), steps=2))
    h(t) = cell(W x(t) + b, U h(t-1))    cell: Elman('tanh')
    y = R h(T) + r                       T: the last step
    <BLANKLINE>
    folded
    <BLANKLINE>
            y           (B, 2)
            ↑           R  readout.weight  (2, 8)
            │           r  readout.bias    (2,)
       ┌──→ h ──┐       (T, B, 8)
       └────────┘       U  weight_hh_l0    (8, 8)
            ↑           W  weight_ih_l0    (8, 3)
            │           b  bias_l0         (8,)
            x           (T, B, 3)
    <BLANKLINE>
    unfolded in time
    <BLANKLINE>
                              y
                              ↑ R
    h(0) ── U → h(1) ── U → h(2)
                  ↑ W         ↑ W
                x(1)        x(2)
    """
    layout = layout_of(net, steps)
    folded = ["folded", "", *_folded(layout)]
    unfolded = ["unfolded in time", "", *_unfolded(layout)]
    return "\n".join([*layout.equations, "", *folded, "", *unfolded])


def _folded(layout: Layout) -> list[str]:
    """Draw output, state and input one above the other, with shapes and parameters beside them."""
    node = ", ".join(layout.state)
    middle, beside = 8 + len(node) // 2, max(BESIDE, len(node) + 15)
    shown = [p for each in layout.parameters.values() for p in each]
    symbol, width = (max(len(p[k]) for p in shown) for k in (0, 1))
    rows = {
        arrow: [f"{p.symbol:{symbol}}  {p.name:{width}}  {p.shape}" for p in each]
        for arrow, each in layout.parameters.items()
    }
    return [
        _line((middle, "y"), (beside, layout.shapes["y"])),
        *_arrow(middle, beside, rows["output"] or ["y = h"]),
        _line((3, f"┌──→ {node} ──┐"), (beside, layout.shapes["h"])),
        _line((3, f"└────{'─' * len(node)}───┘"), *((beside, row) for row in rows["state"][:1])),
        *(_line((beside, row)) for row in rows["state"][1:]),
        *_arrow(middle, beside, rows["input"]),
        _line((middle, "x"), (beside, layout.shapes["x"])),
    ]


def _arrow(column: int, beside: int, rows: list[str]) -> list[str]:
    return [_line((column, "│" if k else "↑"), (beside, row)) for k, row in enumerate(rows)]


def _unfolded(layout: Layout) -> list[str]:
    """Draw one column per step, after one for the initial state."""
    states = [",".join(f"{s}({t})" for s in layout.state) for t in range(layout.steps + 1)]
    link = f" ── {layout.link} → " if layout.link else " ───→ "
    middles = [
        sum(len(before) + len(link) for before in states[:t]) + len(state) // 2
        for t, state in enumerate(states)
    ]
    readout = "↑ R" if layout.parameters["output"] else "↑"
    inputs = {t: f"x({t})" for t in range(1, layout.steps + 1)}
    return [
        _line(*((middles[t] - len(y) // 2, y) for t, y in layout.outputs.items())),
        _line(*((middles[t], readout) for t in layout.outputs)),
        link.join(states),
        _line(*((middles[t], "↑ W") for t in inputs)),
        _line(*((middles[t] - len(x) // 2, x) for t, x in inputs.items())),
    ]


def _line(*words: tuple[int, str]) -> str:
    """Return a line with each word at its column; columns ascend."""
    line = ""
    for column, word in words:
        line = line.ljust(column) + word
    return line
