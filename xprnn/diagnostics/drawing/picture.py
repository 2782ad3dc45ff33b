"""A network drawn as a picture, with matplotlib."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from xprnn.diagnostics.drawing.layout import Layout, Network, layout_of
from xprnn.diagnostics.figure import DATA, MODEL, SECOND, Figure, new_figure

# Lengths in inches.
RADIUS = 0.36  # of a node
ROW, COLUMN = 1.45, 1.5  # distances between nodes
FOLDED, UNFOLDED = 1.65, 5.6  # x of the folded network, and of the initial state beside it
LINE, CHARACTER = 0.26, 0.088  # height of a line of words, width of a character
MARGIN = 0.3

COLORS = {"x": DATA, "h": MODEL, "y": SECOND}

Point: TypeAlias = tuple[float, float]


def draw(net: Network, steps: int = 3) -> Figure:
    """Draw a network, folded on the left and unfolded in time on the right.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    On the left every arrow carries its parameters, with their names and shapes.  On the right every
    step has a copy of them; h(0) is the initial state.  Of several layers or directions one is
    drawn, and its parameters stand for those of all.

    Parameters
    ----------
    net : RNN
    steps : int
        How many steps to unfold.

    Returns
    -------
    matplotlib.figure.Figure
        Its width grows with the number of steps; `save_figure` writes it to a file.

    Raises
    ------
    TypeError
        If ``net`` is not a network, or ``steps`` not an integer.
    ValueError
        If ``steps`` is below 1.
    ImportError
        If matplotlib is missing.
    """
    layout = layout_of(net, steps)
    figure, axes = new_figure()
    top = 2 * ROW + RADIUS + 2 * MARGIN
    bottom = -RADIUS - LINE * len(layout.equations) - 2 * MARGIN
    left = _unfolded_from(layout)
    right = left + layout.steps * COLUMN + RADIUS + MARGIN
    # One unit is one inch, so that words never overlap, however many steps there are.
    figure.set_layout_engine("none")
    figure.set_size_inches(right, top - bottom)
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(0, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()

    _draw_folded(axes, layout)
    _draw_unfolded(axes, layout, left)
    for x, words in ((MARGIN, "folded"), (left - RADIUS, "unfolded in time")):
        _words(axes, x, top - MARGIN, [words], size=12)
    _words(axes, MARGIN, (bottom - RADIUS) / 2, layout.equations, family="monospace")
    return figure


def _draw_folded(axes: Any, layout: Layout) -> None:
    x, state, y = ((FOLDED, row * ROW) for row in range(3))
    rows = {arrow: [*map(str, each)] for arrow, each in layout.parameters.items()}
    _edge(axes, x, state)
    _edge(axes, state, y)
    # The loop leaves the state on its upper right and enters it again on its lower right.
    rim = RADIUS * math.sqrt(0.5)
    _arrow(axes, (FOLDED + rim, ROW + rim), (FOLDED + rim, ROW - rim), "arc3,rad=-1.7")
    _words(axes, FOLDED + 0.12, 0.5 * ROW, rows["input"])
    _words(axes, FOLDED + RADIUS + 0.45, ROW, rows["state"])
    _words(axes, FOLDED + 0.12, 1.5 * ROW, rows["output"] or ["y = h"])
    for at, words, letter in ((x, "x", "x"), (state, ", ".join(layout.state), "h"), (y, "y", "y")):
        _node(axes, at, words, COLORS[letter])
        _words(axes, FOLDED - RADIUS - 0.12, at[1], [layout.shapes[letter]], ha="right")


def _unfolded_from(layout: Layout) -> float:
    """Return the x of the initial state: further right where the words on its left are long."""
    shown = [p for each in layout.parameters.values() for p in each]
    if all("…" not in p.name for p in shown):
        return UNFOLDED
    longest = max(len(str(p)) for p in shown)
    return FOLDED + RADIUS + 0.45 + CHARACTER * longest + RADIUS + MARGIN


def _draw_unfolded(axes: Any, layout: Layout, left: float) -> None:
    for t in range(layout.steps + 1):
        column = left + t * COLUMN
        x, state, y = ((column, row * ROW) for row in range(3))
        _node(axes, state, "\n".join(f"{s}({t})" for s in layout.state), COLORS["h"], given=t == 0)
        if t > 0:
            _edge(axes, (column - COLUMN, ROW), state)
            _words(axes, column - COLUMN / 2, ROW + 0.16, [layout.link], ha="center")
            _edge(axes, x, state)
            _words(axes, column + 0.1, 0.5 * ROW, ["W"])
            _node(axes, x, f"x({t})", COLORS["x"])
        if t in layout.outputs:
            _edge(axes, state, y)
            if layout.parameters["output"]:
                _words(axes, column + 0.1, 1.5 * ROW, ["R"])
            _node(axes, y, layout.outputs[t], COLORS["y"])


def _node(axes: Any, at: Point, words: str, color: str, *, given: bool = False) -> None:
    from matplotlib.patches import Circle

    style = "--" if given else "-"
    axes.add_patch(Circle(at, RADIUS, facecolor="white", edgecolor=color, lw=1.8, ls=style))
    axes.text(*at, words, ha="center", va="center", fontsize=11, parse_math=False)


def _edge(axes: Any, start: Point, end: Point) -> None:
    """Draw an arrow between two nodes, from rim to rim."""
    distance = math.dist(start, end)
    x, y = ((b - a) * RADIUS / distance for a, b in zip(start, end, strict=True))
    _arrow(axes, (start[0] + x, start[1] + y), (end[0] - x, end[1] - y), "arc3")


def _arrow(axes: Any, start: Point, end: Point, style: str) -> None:
    look = {"arrowstyle": "-|>", "color": "0.3", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops={**look, "connectionstyle": style})


def _words(axes: Any, x: float, y: float, lines: Sequence[str], **options: Any) -> None:
    """Write lines of text, centred vertically at y."""
    axes.text(x, y, "\n".join(lines), va="center", parse_math=False, **({"size": 9} | options))
