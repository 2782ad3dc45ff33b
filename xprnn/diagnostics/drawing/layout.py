"""What a drawing of a network shows, whether it is a picture or text."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from xprnn import checks
from xprnn.backend.types import Array
from xprnn.cells import Activation, Cell, has_recurrent_matrix, unit_names

# By a parameter's name without its layer and direction: its letter in the equations, and the arrow
# that it is written beside.  A cell's parameters per unit keep their names, and stand at the state.
PARAMETERS = {
    "weight_ih": ("W", "input"),
    "bias": ("b", "input"),
    "weight_hh": ("U", "state"),
    "weight_hr": ("P", "state"),
    "norm_ih": ("γ_u", "input"),
    "norm_hh": ("γ_v", "state"),
    "embedding.weight": ("E", "input"),
    "readout.weight": ("R", "output"),
    "readout.bias": ("r", "output"),
}

_LAYER_AND_DIRECTION = re.compile(r"_l\d+(_reverse)?$")


@runtime_checkable
class Network(Protocol):
    """The attributes of `xprnn.RNN` that a drawing shows.

    A protocol, because diagnostics may not import the engine.
    """

    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int | tuple[int, ...]: ...
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
    """One line beside an arrow: a parameter of one layer, standing for those of all layers.

    Attributes
    ----------
    symbol : str
        Its letter in the equations.
    name : str
        Its name; with several layers or directions, the first name and the last.
    shape : str
        Its shape; where layers differ, every shape that occurs.
    """

    symbol: str
    name: str
    shape: str

    def __str__(self) -> str:
        return f"{self.symbol} = {self.name} {self.shape}"


class Layout(NamedTuple):
    """What a drawing shows.

    Attributes
    ----------
    equations : tuple of str
        The equations and, below them, what the drawing of one layer leaves out.
    parameters : dict of list of Parameter
        By arrow: ``"input"``, ``"state"``, ``"output"``; the last is empty without a readout.
    shapes : dict of str
        The shapes of ``"x"``, ``"h"`` and ``"y"``, all steps together.
    state : tuple of str
        The names of the state variables.
    outputs : dict of str
        The name of each step's output, for the steps that have one.
    steps : int
    link : str
        What h(t-1) is multiplied by on its way to h(t), such as ``"U"``; empty if by nothing.
    """

    equations: tuple[str, ...]
    parameters: dict[str, list[Parameter]]
    shapes: dict[str, str]
    state: tuple[str, ...]
    outputs: dict[int, str]
    steps: int
    link: str = "U"


def layout_of(net: Network, steps: int) -> Layout:
    """Return what a drawing of a network shows, unfolded over a number of steps.

    Raises
    ------
    TypeError
        If ``net`` is not a network, or ``steps`` not an integer.
    ValueError
        If ``steps`` is below 1.
    """
    if isinstance(net, type) or not isinstance(net, Network):
        raise TypeError(f"net is of type {type(net).__name__}: expected an xprnn.RNN")
    steps = checks.positive_int("steps", steps)
    parameters = _parameters(net)
    last = net.returns == "last"
    sizes = net.hidden_size if isinstance(net.hidden_size, tuple) else (net.hidden_size,)
    features = (getattr(net, "projection", None) or sizes[-1]) * (2 if net.bidirectional else 1)
    outputs = features if net.output_size is None else net.output_size
    tokens = net.embedding_size is not None
    return Layout(
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
        "U" if has_recurrent_matrix(net.cell) else "",
    )


def _parameters(net: Network) -> dict[str, list[Parameter]]:
    """Return the lines beside each arrow; parameters that differ only in their layer share one."""
    known = PARAMETERS | {name: (name, "state") for name in unit_names(net.cell)}
    alike: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, array in net.parameters.items():
        kind = _LAYER_AND_DIRECTION.sub("", name)
        alike.setdefault(kind, {})[name] = tuple(array.shape)
    found: dict[str, list[Parameter]] = {"input": [], "state": [], "output": []}
    for kind, shapes in alike.items():
        symbol, arrow = known[kind]
        first, *others = shapes
        names = f"{first} … {others[-1]}" if others else first
        # The input weights of the first layer have another shape than those above.
        shape = " or ".join(map(str, dict.fromkeys(shapes.values())))
        found[arrow].append(Parameter(symbol, names, shape))
    return found


def _equations(net: Network, parameters: dict[str, list[Parameter]]) -> tuple[str, ...]:
    last = net.returns == "last"
    symbols = {p.symbol for each in parameters.values() for p in each}
    u, v = "W E[x(t)]" if "E" in symbols else "W x(t)", "U h(t-1)"
    if "γ_u" in symbols:
        u, v = f"γ_u N({u})", f"γ_v N({v})"
    u += " + b" if "b" in symbols else ""
    names = net.cell.state
    if "P" in symbols:
        # What the cell calls h is m, and h is put out.
        names = ("m", *names[1:])
    carried = names[1:] if "U" in symbols else names
    before = ", ".join([*([v] if "U" in symbols else []), *(f"{s}(t-1)" for s in carried)])
    state = f"{', '.join(f'{s}(t)' for s in names)} = cell({u}, {before})"
    state += ",  h(t) = P m(t)" if "P" in symbols else ""
    h = "h(T)" if last else "h(t)"
    output = f"{'y' if last else 'y(t)'} = "
    if net.output_size is None:
        output += h
    else:
        # Tied weights have no R of their own.
        output += f"{'R' if 'R' in symbols else 'E'} {h}{' + r' if 'r' in symbols else ''}"
    width = len(state) + 4
    return (
        f"{state:{width}}cell: {_cell_name(net.cell)}",
        f"{output:{width}}T: the last step" if last else output,
        *_left_out(net),
    )


def _left_out(net: Network) -> tuple[str, ...]:
    """Say what a drawing of one layer in one direction does not show."""
    words = []
    if net.layers > 1:
        words.append(f"{net.layers} layers, each reading the h of the one below")
    if getattr(net, "residual", False):
        words.append("a layer's input is added to its output where both have the same size")
    heads = getattr(net, "heads", 1)
    if heads > 1:
        words.append(f"{heads} heads: U connects units of the same block of H/{heads} alone")
    if net.bidirectional:
        words.append("in both directions, their h concatenated")
    for name, where in (("dropout", "between layers"), ("recurrent_dropout", "of h(t-1)")):
        if getattr(net, name):
            words.append(f"dropout {getattr(net, name):g} {where}")
    return tuple(words)


def _cell_name(cell: Any) -> str:
    """Return a cell's class and options; an activation is written by its name."""
    options = [getattr(cell, field.name) for field in fields(cell)] if is_dataclass(cell) else []
    words = (repr(o.name if isinstance(o, Activation) else o) for o in options)
    return f"{type(cell).__name__}({', '.join(words)})"
