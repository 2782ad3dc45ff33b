"""A network drawn folded and unfolded in time, as a picture and as text."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from xprnn import checks
from xprnn.backend.types import Array
from xprnn.cells import Activation, Cell
from xprnn.diagnostics.plots import DATA, MODEL, SECOND, Figure, _figure

# What each parameter is in the equations, and the arrow that it belongs to.
PARAMETERS = {
    "weight_ih_l0": ("W", "input"),
    "bias_l0": ("b", "input"),
    "weight_hh_l0": ("U", "state"),
    "readout.weight": ("R", "output"),
    "readout.bias": ("r", "output"),
}

# Of the picture, in inches.
RADIUS, ROW, COLUMN, LEFT, UNFOLDED, MARGIN = 0.36, 1.45, 1.5, 0.75, 4.9, 0.3


@runtime_checkable
class Network(Protocol):
    """What is drawn of a network: `xprnn.RNN`, which lives on a floor above this one."""

    input_size: int
    hidden_size: int
    output_size: int | None
    cell: Cell
    returns: str

    @property
    def parameters(self) -> Mapping[str, Array]: ...


class Parameter(NamedTuple):
    """A parameter's letter in the equations, its name, and its shape."""

    symbol: str
    name: str
    shape: tuple[int, ...]


class Plan(NamedTuple):
    """What both drawings show.

    Attributes
    ----------
    equations : tuple of str
    arrows : dict of list of Parameter
        By arrow: ``"input"``, ``"state"``, ``"output"``.
    shapes : dict of str
        Of all steps' x, h and y together, by letter.
    state : tuple of str
        The state variables.
    outputs : tuple of int
        The steps that have an output.
    steps : int
    """

    equations: tuple[str, ...]
    arrows: dict[str, list[Parameter]]
    shapes: dict[str, str]
    state: tuple[str, ...]
    outputs: tuple[int, ...]
    steps: int


def draw(net: Network, steps: int = 3) -> Figure:
    """Draw a network, folded on the left and unfolded in time on the right.

    ::

        h(t) = cell(W x(t) + b, U h(t-1))
        y(t) = R h(t) + r

    On the left every arrow carries its parameters, with their names and shapes; on the right every
    step has a copy of them, and there is one state more than there are steps, the initial one.

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
    top = 2 * ROW + RADIUS + 0.5
    equations = 0.26 * len(plan.equations)
    right = UNFOLDED + plan.steps * COLUMN + RADIUS
    limits = (0.0, right + MARGIN, -RADIUS - equations - 2 * MARGIN, top + MARGIN)
    # A unit is an inch, so that words never grow into each other, however many steps there are.
    figure.set_size_inches(limits[1] - limits[0], limits[3] - limits[2])
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(*limits[:2])
    axes.set_ylim(*limits[2:])
    axes.set_axis_off()

    _draw_folded(axes, plan)
    _draw_unfolded(axes, plan)
    for x, words in ((LEFT - RADIUS, "folded"), (UNFOLDED - RADIUS, "unfolded in time")):
        _words(axes, x, top, words, size=12)
    for k, equation in enumerate(plan.equations):
        _words(axes, LEFT - RADIUS, -RADIUS - MARGIN - 0.26 * (k + 0.5), equation, color="0.25")
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
            y       (B, 2)
            ↑       R  readout.weight  (2, 8)
            │       r  readout.bias    (2,)
       ┌──→ h ──┐   (T, B, 8)
       └────────┘   U  weight_hh_l0    (8, 8)
            ↑       W  weight_ih_l0    (8, 3)
            │       b  bias_l0         (8,)
            x       (T, B, 3)
    <BLANKLINE>
    unfolded in time
    <BLANKLINE>
                           y
                           ↑ R
    h(0) ── U → h(1) ── U → h(2)
                ↑ W        ↑ W
               x(1)       x(2)
    """
    plan = _plan(net, steps)
    return "\n".join(
        [*plan.equations, "", "folded", "", *_text_folded(plan), "", "unfolded in time", ""]
        + [line.rstrip() for line in _text_unfolded(plan)]
    )


def _plan(net: Network, steps: int) -> Plan:
    if not isinstance(net, Network):
        raise TypeError(f"net is of type {type(net).__name__}: expected an xprnn.RNN")
    steps = checks.positive_int("steps", steps)
    arrows: dict[str, list[Parameter]] = {"input": [], "state": [], "output": []}
    for name, array in net.parameters.items():
        symbol, arrow = PARAMETERS[name]
        arrows[arrow].append(Parameter(symbol, name, tuple(array.shape)))
    symbols = {p.symbol for parameters in arrows.values() for p in parameters}
    last = net.returns == "last"
    state = ", ".join(f"{s}(t)" for s in net.cell.state)
    before = ", ".join(["U h(t-1)", *(f"{s}(t-1)" for s in net.cell.state[1:])])
    cell = f"{state} = cell(W x(t){' + b' if 'b' in symbols else ''}, {before})"
    h = "h(T)" if last else "h(t)"
    readout = f"R {h}{' + r' if 'r' in symbols else ''}" if "R" in symbols else h
    output = f"{'y' if last else 'y(t)'} = {readout}"
    width = max(len(cell), len(output)) + 4
    outputs = net.hidden_size if net.output_size is None else net.output_size
    return Plan(
        (
            f"{cell:{width}}cell: {_cell_name(net.cell)}",
            f"{output:{width}}T: the last step" if last else output,
        ),
        arrows,
        {
            "x": f"(T, B, {net.input_size})",
            "h": f"(T, B, {net.hidden_size})",
            "y": f"(B, {outputs})" if last else f"(T, B, {outputs})",
        },
        tuple(net.cell.state),
        (steps,) if last else tuple(range(1, steps + 1)),
        steps,
    )


def _cell_name(cell: Cell) -> str:
    """Return a cell's name with its options, an activation by its own name."""
    options = [getattr(cell, field.name) for field in fields(cell)] if is_dataclass(cell) else []
    words = [repr(o.name if isinstance(o, Activation) else o) for o in options]
    return f"{type(cell).__name__}({', '.join(words)})"



def _text_folded(plan: Plan) -> list[str]:
    """Draw input, state and output on top of each other, what belongs to them on the right."""
    node = ", ".join(plan.state)
    middle = 8 + len(node) // 2
    rows = _parameter_rows(plan.arrows)
    lines = [_line((middle, "y"), (20, plan.shapes["y"]))]
    lines += _arrow(middle, rows["output"] or ["y = h"])
    lines += [_line((3, f"┌──→ {node} ──┐"), (20, plan.shapes["h"]))]
    loop = f"└────{'─' * len(node)}───┘"
    lines += [_line((3, loop), (20, rows["state"][0]))]
    lines += _arrow(middle, rows["input"])
    return [*lines, _line((middle, "x"), (20, plan.shapes["x"]))]


def _arrow(column: int, rows: list[str]) -> list[str]:
    return [_line((column, "│" if k else "↑"), (20, row)) for k, row in enumerate(rows)]


def _parameter_rows(arrows: dict[str, list[Parameter]]) -> dict[str, list[str]]:
    """Return the parameters of every arrow, a row each, all in the same columns."""
    width = max(len(p.name) for parameters in arrows.values() for p in parameters)
    return {
        arrow: [f"{p.symbol}  {p.name:{width}}  {p.shape}" for p in parameters]
        for arrow, parameters in arrows.items()
    }


def _text_unfolded(plan: Plan) -> list[str]:
    """Draw a column a step, the initial state before the first one."""
    states = [",".join(f"{s}({t})" for s in plan.state) for t in range(plan.steps + 1)]
    starts = [0]
    for state in states:
        starts.append(starts[-1] + len(state) + len(LINK))
    middles = [start + len(state) // 2 for start, state in zip(starts, states, strict=False)]
    ups = range(1, plan.steps + 1)
    has_readout = bool(plan.arrows["output"])
    outputs = {t: _output_name(plan, t) for t in plan.outputs}
    return [
        _line(*((middles[t] - len(y) // 2, y) for t, y in outputs.items())),
        _line(*((middles[t], "↑ R" if has_readout else "↑") for t in outputs)),
        LINK.join(states),
        _line(*((middles[t], "↑ W") for t in ups)),
        _line(*((middles[t] - len(f"x({t})") // 2, f"x({t})") for t in ups)),
    ]


def _line(*words: tuple[int, str]) -> str:
    """Return a line with words at their columns, from left to right."""
    line = ""
    for column, word in words:
        line = line.ljust(column) + word
    return line


def _output_name(plan: Plan, t: int) -> str:
    return f"y({t})" if len(plan.outputs) == plan.steps and not plan.last else "y"


def _draw_folded(axes: Any, plan: Plan) -> None:
    x, state, y = ((LEFT, row * ROW) for row in range(3))
    rows = {arrow: [f"{p.symbol} = {p.name} {p.shape}" for p in plan.arrows[arrow]] for arrow in ARROWS}
    _edge(axes, x, state, INPUT)
    _edge(axes, state, y, OUTPUT)
    # Out of the state on its upper right, and into it again on its lower right.
    side = RADIUS * math.cos(math.pi / 5), RADIUS * math.sin(math.pi / 5)
    ...
