"""A network drawn folded and unfolded in time, as a picture and as text."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from xprnn import checks
from xprnn.backend.types import Array
from xprnn.cells import Activation, Cell, unit_names
from xprnn.diagnostics.plots import DATA, MODEL, SECOND, Figure, _figure

# What each parameter is in the equations, and the arrow that it belongs to, the layer and direction
# left out of its name; those that a cell names itself are beside the state.
PARAMETERS = {
    "weight_ih": ("W", "input"),
    "bias": ("b", "input"),
    "weight_hh": ("U", "state"),
    "norm_ih": ("γ_u", "input"),
    "norm_hh": ("γ_v", "state"),
    "embedding.weight": ("E", "input"),
    "readout.weight": ("R", "output"),
    "readout.bias": ("r", "output"),
}

# Of the picture, in inches: a node's radius, the distances of rows and columns, where the folded
# network and the initial state stand, the height of a line of words, and what is left around all;
# and the width of a character of words.
RADIUS, ROW, COLUMN, FOLDED, UNFOLDED, LINE, MARGIN = 0.36, 1.45, 1.5, 1.65, 5.6, 0.26, 0.3
CHARACTER = 0.088

_LAYER = re.compile(r"_l\d+(_reverse)?$")

COLORS = {"x": DATA, "h": MODEL, "y": SECOND}

Point: TypeAlias = tuple[float, float]

# Of the text: between two states, and where the words beside the folded network begin.
LINK, BESIDE = " ── U → ", 20


@runtime_checkable
class Network(Protocol):
    """What is drawn of a network: `xprnn.RNN`, which lives on a floor above this one."""

    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def output_size(self) -> int | None: ...
    @property
    def cell(self) -> Cell: ...
    @property
    def returns(self) -> str: ...
    @property
    def layers(self) -> int: ...
    @property
    def bidirectional(self) -> bool: ...
    @property
    def dropout(self) -> float: ...
    @property
    def recurrent_dropout(self) -> float: ...
    @property
    def embedding_size(self) -> int | None: ...
    @property
    def parameters(self) -> Mapping[str, Array]: ...


class Parameter(NamedTuple):
    """A parameter's letter in the equations, its name, and its shape.

    In a network of several layers or directions it stands for that of all of them: from which name
    to which, and their shapes.
    """

    symbol: str
    name: str
    shape: str


class Plan(NamedTuple):
    """What both drawings show.

    Attributes
    ----------
    equations : tuple of str
    parameters : dict of list of Parameter
        By arrow: ``"input"``, ``"state"``, ``"output"``; the last has none without a readout.
    shapes : dict of str
        Of all steps' x, h and y together, by letter.
    state : tuple of str
        The state variables.
    outputs : dict of str
        What the outputs are called, by step.
    steps : int
    """

    equations: tuple[str, ...]
    parameters: dict[str, list[Parameter]]
    shapes: dict[str, str]
    state: tuple[str, ...]
    outputs: dict[int, str]
    steps: int


def draw(net: Network, steps: int = 3) -> Figure:
    """Draw a network, folded on the left and unfolded in time on the right.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    On the left every arrow carries its parameters, with their names and shapes; on the right every
    step has a copy of them, and there is one state more than there are steps, the initial one.  Of
    several layers or directions one is drawn, its parameters standing for those of all.

    Parameters
    ----------
    net : RNN
    steps : int
        How many steps to unfold.

    Returns
    -------
    matplotlib.figure.Figure
        `save_figure` writes it; its width grows with the steps.

    Raises
    ------
    TypeError
        If ``net`` is no network, or ``steps`` no integer.
    ValueError
        If ``steps`` is below 1.
    ImportError
        If matplotlib is missing.
    """
    plan = _plan(net, steps)
    figure, axes = _figure()
    top = 2 * ROW + RADIUS + 2 * MARGIN
    bottom = -RADIUS - LINE * len(plan.equations) - 2 * MARGIN
    left = _unfolded_from(plan)
    right = left + plan.steps * COLUMN + RADIUS + MARGIN
    # A unit is an inch, so that words never grow into each other, however many steps there are.
    figure.set_layout_engine("none")
    figure.set_size_inches(right, top - bottom)
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(0, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()

    _draw_folded(axes, plan)
    _draw_unfolded(axes, plan, left)
    for x, words in ((MARGIN, "folded"), (left - RADIUS, "unfolded in time")):
        _words(axes, x, top - MARGIN, [words], size=12)
    _words(axes, MARGIN, (bottom - RADIUS) / 2, plan.equations, family="monospace")
    return figure


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
        Lines, the last one without its end; their width grows with the steps.

    Raises
    ------
    TypeError
        If ``net`` is no network, or ``steps`` no integer.
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
    plan = _plan(net, steps)
    folded = ["folded", "", *_text_folded(plan)]
    unfolded = ["unfolded in time", "", *_text_unfolded(plan)]
    return "\n".join([*plan.equations, "", *folded, "", *unfolded])


def _plan(net: Network, steps: int) -> Plan:
    if isinstance(net, type) or not isinstance(net, Network):
        raise TypeError(f"net is of type {type(net).__name__}: expected an xprnn.RNN")
    steps = checks.positive_int("steps", steps)
    parameters: dict[str, list[Parameter]] = {"input": [], "state": [], "output": []}
    known = PARAMETERS | {name: (name, "state") for name in unit_names(net.cell)}
    alike: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, array in net.parameters.items():
        alike.setdefault(_LAYER.sub("", name), {})[name] = tuple(array.shape)
    for kind, shapes in alike.items():
        symbol, arrow = known[kind]
        first, *others = shapes
        named = f"{first} … {others[-1]}" if others else first
        # Of the layers above the first, the inputs have another size.
        given = " or ".join(map(str, dict.fromkeys(shapes.values())))
        parameters[arrow].append(Parameter(symbol, named, given))
    last = net.returns == "last"
    features = net.hidden_size * (2 if net.bidirectional else 1)
    outputs = features if net.output_size is None else net.output_size
    tokens = net.embedding_size is not None
    return Plan(
        _equations(net, parameters),
        parameters,
        {
            "x": f"(T, B), below {net.input_size}" if tokens else f"(T, B, {net.input_size})",
            "h": f"(T, B, {features})",
            "y": f"(B, {outputs})" if last else f"(T, B, {outputs})",
        },
        tuple(net.cell.state),
        {steps: "y"} if last else {t: f"y({t})" for t in range(1, steps + 1)},
        steps,
    )


def _equations(net: Network, parameters: dict[str, list[Parameter]]) -> tuple[str, ...]:
    last = net.returns == "last"
    symbols = {p.symbol for each in parameters.values() for p in each}
    u, v = "W E[x(t)]" if "E" in symbols else "W x(t)", "U h(t-1)"
    if "γ_u" in symbols:
        u, v = f"γ_u N({u})", f"γ_v N({v})"
    u += " + b" if "b" in symbols else ""
    before = ", ".join([v, *(f"{s}(t-1)" for s in net.cell.state[1:])])
    state = f"{', '.join(f'{s}(t)' for s in net.cell.state)} = cell({u}, {before})"
    h = "h(T)" if last else "h(t)"
    readout = parameters["output"]
    output = f"{'y' if last else 'y(t)'} = " + (
        f"R {h}{' + r' if len(readout) > 1 else ''}" if readout else h
    )
    width = len(state) + 4
    return (
        f"{state:{width}}cell: {_cell_name(net.cell)}",
        f"{output:{width}}T: the last step" if last else output,
        *_stack(net),
    )


def _stack(net: Network) -> tuple[str, ...]:
    """Say what the picture of one layer in one direction leaves out."""
    words = []
    if net.layers > 1:
        words.append(f"{net.layers} layers, each reading the h of the one below")
    if net.bidirectional:
        words.append("in both directions, their h concatenated")
    for name, where in (("dropout", "between layers"), ("recurrent_dropout", "of h(t-1)")):
        if getattr(net, name):
            words.append(f"dropout {getattr(net, name):g} {where}")
    return tuple(words)


def _cell_name(cell: Any) -> str:
    """Return a cell's name with its options, an activation by its own name."""
    options = [getattr(cell, field.name) for field in fields(cell)] if is_dataclass(cell) else []
    words = (repr(o.name if isinstance(o, Activation) else o) for o in options)
    return f"{type(cell).__name__}({', '.join(words)})"


def _text_folded(plan: Plan) -> list[str]:
    """Draw input, state and output on top of each other, and what belongs to them beside them."""
    node = ", ".join(plan.state)
    middle = 8 + len(node) // 2
    shown = [p for each in plan.parameters.values() for p in each]
    symbol, width = (max(len(p[k]) for p in shown) for k in (0, 1))
    rows = {
        arrow: [f"{p.symbol:{symbol}}  {p.name:{width}}  {p.shape}" for p in each]
        for arrow, each in plan.parameters.items()
    }
    return [
        _line((middle, "y"), (BESIDE, plan.shapes["y"])),
        *_text_arrow(middle, rows["output"] or ["y = h"]),
        _line((3, f"┌──→ {node} ──┐"), (BESIDE, plan.shapes["h"])),
        _line((3, f"└────{'─' * len(node)}───┘"), (BESIDE, rows["state"][0])),
        *(_line((BESIDE, row)) for row in rows["state"][1:]),
        *_text_arrow(middle, rows["input"]),
        _line((middle, "x"), (BESIDE, plan.shapes["x"])),
    ]


def _text_arrow(column: int, rows: list[str]) -> list[str]:
    return [_line((column, "│" if k else "↑"), (BESIDE, row)) for k, row in enumerate(rows)]


def _text_unfolded(plan: Plan) -> list[str]:
    """Draw a column a step, the initial state before the first one."""
    states = [",".join(f"{s}({t})" for s in plan.state) for t in range(plan.steps + 1)]
    middles = [
        sum(len(before) + len(LINK) for before in states[:t]) + len(state) // 2
        for t, state in enumerate(states)
    ]
    readout = "↑ R" if plan.parameters["output"] else "↑"
    inputs = {t: f"x({t})" for t in range(1, plan.steps + 1)}
    return [
        _line(*((middles[t] - len(y) // 2, y) for t, y in plan.outputs.items())),
        _line(*((middles[t], readout) for t in plan.outputs)),
        LINK.join(states),
        _line(*((middles[t], "↑ W") for t in inputs)),
        _line(*((middles[t] - len(x) // 2, x) for t, x in inputs.items())),
    ]


def _line(*words: tuple[int, str]) -> str:
    """Return a line with words at their columns, from left to right."""
    line = ""
    for column, word in words:
        line = line.ljust(column) + word
    return line


def _draw_folded(axes: Any, plan: Plan) -> None:
    x, state, y = ((FOLDED, row * ROW) for row in range(3))
    rows = {
        arrow: [f"{p.symbol} = {p.name} {p.shape}" for p in each]
        for arrow, each in plan.parameters.items()
    }
    _edge(axes, x, state)
    _edge(axes, state, y)
    # Out of the state on its upper right, and back into it on its lower right.
    rim = RADIUS * math.sqrt(0.5)
    _arrow(axes, (FOLDED + rim, ROW + rim), (FOLDED + rim, ROW - rim), "arc3,rad=-1.7")
    _words(axes, FOLDED + 0.12, 0.5 * ROW, rows["input"])
    _words(axes, FOLDED + RADIUS + 0.45, ROW, rows["state"])
    _words(axes, FOLDED + 0.12, 1.5 * ROW, rows["output"] or ["y = h"])
    for at, words, letter in ((x, "x", "x"), (state, ", ".join(plan.state), "h"), (y, "y", "y")):
        _node(axes, at, words, COLORS[letter])
        _words(axes, FOLDED - RADIUS - 0.12, at[1], [plan.shapes[letter]], ha="right")


def _unfolded_from(plan: Plan) -> float:
    """Return where the initial state stands: further right, if words would reach it."""
    if all("…" not in p.name for each in plan.parameters.values() for p in each):
        return UNFOLDED
    rows = (f"{p.symbol} = {p.name} {p.shape}" for each in plan.parameters.values() for p in each)
    return FOLDED + RADIUS + 0.45 + CHARACTER * max(map(len, rows)) + RADIUS + MARGIN


def _draw_unfolded(axes: Any, plan: Plan, left: float) -> None:
    for t in range(plan.steps + 1):
        column = left + t * COLUMN
        x, state, y = ((column, row * ROW) for row in range(3))
        _node(axes, state, "\n".join(f"{s}({t})" for s in plan.state), COLORS["h"], given=t == 0)
        if t > 0:
            _edge(axes, (column - COLUMN, ROW), state)
            _words(axes, column - COLUMN / 2, ROW + 0.16, ["U"], ha="center")
            _edge(axes, x, state)
            _words(axes, column + 0.1, 0.5 * ROW, ["W"])
            _node(axes, x, f"x({t})", COLORS["x"])
        if t in plan.outputs:
            _edge(axes, state, y)
            if plan.parameters["output"]:
                _words(axes, column + 0.1, 1.5 * ROW, ["R"])
            _node(axes, y, plan.outputs[t], COLORS["y"])


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
    """Write lines, their middle at y."""
    axes.text(x, y, "\n".join(lines), va="center", parse_math=False, **({"size": 9} | options))
