"""What the drawings of a network show, and that they can be read."""

import itertools
import math
import sys
from functools import cache

import numpy as np
import pytest
from matplotlib.patches import Circle

import xprnn
from tests.cases import CELLS, FORMS, Case, each_cell, in_forms, row_of
from tests.gated import Gated
from xprnn.cells import LSTM, Activation, Elman, has_layer_norm, has_recurrent_matrix, unit_names
from xprnn.diagnostics import draw, draw_text, save_figure
from xprnn.engine.architecture import Architecture

pytestmark = pytest.mark.slow

SYMBOLS = {
    "weight_ih_l0": "W",
    "weight_hh_l0": "U",
    "bias_l0": "b",
    "norm_ih_l0": "γ_u",
    "norm_hh_l0": "γ_v",
    "readout.weight": "R",
    "readout.bias": "r",
    # Parameters that a cell names have no letter.
    **{f"{name}_l0": name for case in CELLS for name in unit_names(case.cell)},
}
# Every cell in one form, and two cells in every form: a drawing combines nothing else.
ROWS = CELLS + in_forms((row_of("elman-tanh"), row_of("lstm-everything")), tuple(FORMS)[1:])
each_case = pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)
LARGE = Case("large", Gated(), None, I=12345, H=1024, O=54321)  # type: ignore[arg-type]


class Shown:
    """What a figure shows: its nodes by position, its arrows from name to name, its words."""

    def __init__(self, figure):
        (self.axes,) = figure.axes
        self.figure = figure
        figure.draw_without_rendering()
        self.texts = [text for text in self.axes.texts if text.get_text()]
        self.circles = [patch for patch in self.axes.patches if isinstance(patch, Circle)]
        self.nodes = {circle.center: self.words_at(circle.center) for circle in self.circles}
        self.words = [text for text in self.texts if text.get_position() not in self.nodes]
        self.arrows = [text for text in self.axes.texts if hasattr(text, "arrow_patch")]
        self.edges = [(self.node_at(arrow.xyann), self.node_at(arrow.xy)) for arrow in self.arrows]

    def words_at(self, position):
        (text,) = (text for text in self.texts if text.get_position() == position)
        return text.get_text()

    def node_at(self, point):
        """Return the words of the node whose rim a point is on."""
        (found,) = (
            self.nodes[circle.center]
            for circle in self.circles
            if abs(math.dist(circle.center, point) - circle.radius) < 1e-9
        )
        return found

    def right_of(self, x):
        return sorted(words for (at, _), words in self.nodes.items() if at > x)


@cache
def shown_of(case):
    """Return the drawing of a case over four steps, made once for several tests."""
    return Shown(draw(case.make(), 4))


def states(net, steps):
    return ["\n".join(f"{s}({t})" for s in net.cell.state) for t in range(steps + 1)]


@pytest.mark.parametrize("steps", [1, 5])
@each_cell
def test_as_many_steps_as_asked_for(case, steps):
    shown = Shown(draw(case.make(), steps))
    assert len(shown.circles) == 3 + 3 * steps + 1
    assert len(shown.edges) == 3 + 3 * steps


@each_case
def test_nodes_and_arrows(case):
    net, steps = case.make(), 4
    shown = shown_of(case)
    h, folded = states(net, steps), ", ".join(net.cell.state)
    x = [f"x({t})" for t in range(1, steps + 1)]
    y = {steps: "y"} if case.returns == "last" else {t: f"y({t})" for t in range(1, steps + 1)}
    assert sorted(shown.nodes.values()) == sorted(["x", folded, "y", *x, *h, *y.values()])
    assert sorted(shown.edges) == sorted(
        [("x", folded), (folded, folded), (folded, "y")]
        + list(itertools.pairwise(h))
        + list(zip(x, h[1:], strict=True))
        + [(h[t], name) for t, name in y.items()]
    )


def test_time_runs_to_the_right_and_the_signal_upwards():
    shown = Shown(draw(xprnn.RNN(1, 2, 3), 3))
    at = {words: position for position, words in shown.nodes.items()}
    for t in (1, 2, 3):
        below, middle, above = (at[f"{letter}({t})"] for letter in "xhy")
        assert below[0] == middle[0] == above[0] > at[f"h({t - 1})"][0]
        assert below[1] < middle[1] < above[1]
    assert max(at[letter][0] for letter in "xhy") < at["h(0)"][0]


def test_the_initial_state_is_dashed_because_it_is_given():
    shown = Shown(draw(xprnn.RNN(1, 2)))
    styles = {shown.nodes[circle.center]: circle.get_linestyle() for circle in shown.circles}
    assert [words for words, style in styles.items() if style == "--"] == ["h(0)"]
    assert {style for words, style in styles.items() if words != "h(0)"} == {"-"}


@each_case
def test_every_parameter_is_named_with_its_shape(case):
    net = case.make()
    words = [text.get_text() for text in shown_of(case).words]
    lines = [line for each in words for line in each.split("\n")]
    for name, array in net.parameters.items():
        assert lines.count(f"{SYMBOLS[name]} = {name} {tuple(array.shape)}") == 1
    beginnings = [line.partition(" = ")[0] for line in lines if " = " in line]
    assert sum(words in SYMBOLS.values() for words in beginnings) == len(net.parameters)
    outputs = case.H if case.O is None else case.O
    y = f"(B, {outputs})" if case.returns == "last" else f"(T, B, {outputs})"
    assert {f"(T, B, {case.I})", f"(T, B, {case.H})", y} <= set(words)
    assert ("y = h" in lines) == (case.O is None)
    assert {"folded", "unfolded in time"} <= set(words)


@each_case
def test_unfolded_arrows_carry_their_symbols(case):
    words = [text.get_text() for text in shown_of(case).words]
    assert words.count("W") == 4
    assert words.count("U") == (4 if has_recurrent_matrix(case.cell) else 0)
    readouts = 0 if case.O is None else 1 if case.returns == "last" else 4
    assert words.count("R") == readouts


SMALL = LARGE.but(id="small", I=1, H=1, O=None, cell=Elman())
EVERYTHING = LARGE.but(id="everything", cell=LSTM(peepholes=True, layer_norm=True))


@pytest.mark.parametrize(
    ("case", "returns", "steps"),
    [
        *((LARGE, returns, steps) for returns in ("sequence", "last") for steps in (1, 3)),
        (LARGE, "sequence", 12),
        (SMALL, "sequence", 12),
        (SMALL, "last", 1),
        (EVERYTHING, "last", 12),
        (EVERYTHING, "sequence", 1),
    ],
    ids=lambda value: getattr(value, "id", None),
)
def test_nothing_overlaps_or_leaves_the_picture(case, steps, returns):
    shown = Shown(draw(Sketch(case, returns), steps))
    boxes = {text: text.get_window_extent() for text in shown.texts}
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())
    things = [*shown.circles, *(arrow.arrow_patch for arrow in shown.arrows)]
    for words, thing in itertools.product(shown.words, things):
        assert not boxes[words].overlaps(thing.get_window_extent()), words.get_text()
    whole = shown.figure.bbox
    for box in [*boxes.values(), *(circle.get_window_extent() for circle in shown.circles)]:
        assert whole.x0 < box.x0 < box.x1 < whole.x1
        assert whole.y0 < box.y0 < box.y1 < whole.y1


class Sketch:
    """The attributes of a network that a drawing shows, without the gigabytes of its weights."""

    layers, bidirectional, embedding_size = 1, False, None
    dropout = recurrent_dropout = 0.0

    def __init__(self, case, returns):
        self.input_size, self.hidden_size, self.output_size = case.I, case.H, case.O
        self.cell, self.returns = case.cell, returns
        shapes = Architecture(case.I, case.H, case.O, case.cell, True, returns).shapes()
        self.parameters = {
            name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()
        }


def test_the_state_s_inside_fits_into_its_node():
    shown = Shown(draw(xprnn.RNN(1, 2, cell=Gated()), 12))
    for circle in shown.circles:
        (text,) = (t for t in shown.texts if t.get_position() == circle.center)
        inner, outer = text.get_window_extent(), circle.get_window_extent()
        assert math.hypot(inner.width, inner.height) < outer.width


@each_case
def test_the_equations_are_those_of_the_network(case):
    net = case.make()
    words = [text.get_text() for text in shown_of(case).words]
    (equations,) = (text for text in words if "cell:" in text)
    assert equations == "\n".join(draw_text(net).split("\n")[:2])
    state, output = equations.split("\n")
    b = " + b" if case.bias else ""
    u, v = f"W x(t){b}", "U h(t-1)"
    if has_layer_norm(net.cell):
        u, v = f"γ_u N(W x(t)){b}", "γ_v N(U h(t-1))"
    after, before = {
        ("h",): ("h(t)", ""),
        ("h", "c"): ("h(t), c(t)", ", c(t-1)"),
        ("h", "c", "n", "m"): ("h(t), c(t), n(t), m(t)", ", c(t-1), n(t-1), m(t-1)"),
    }[net.cell.state]
    if not has_recurrent_matrix(net.cell):
        v = "h(t-1)"
    assert state.startswith(f"{after} = cell({u}, {v}{before})  ")
    h = "h(T)" if case.returns == "last" else "h(t)"
    wanted = h if case.O is None else f"R {h} + r" if case.bias else f"R {h}"
    assert output.split("  ")[0] == f"{'y' if case.returns == 'last' else 'y(t)'} = {wanted}"
    assert output.endswith("T: the last step") == (case.returns == "last")


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Elman("relu"), "Elman('relu')"),
        (Elman(Activation("soft", max, min)), "Elman('soft')"),
        (Gated(), "Gated(0.5)"),
    ],
)
def test_a_cell_is_named_with_its_options(cell, name):
    assert draw_text(xprnn.RNN(1, 2, cell=cell)).split("\n")[0].endswith(f"cell: {name}")


GATED = """\
h(t), c(t) = cell(W x(t), U h(t-1), c(t-1))    cell: Gated(0.5)
y(t) = h(t)

folded

          y         (T, B, 8)
          ↑         y = h
   ┌──→ h, c ──┐    (T, B, 8)
   └───────────┘    U  weight_hh_l0  (16, 8)
          ↑         W  weight_ih_l0  (16, 3)
          x         (T, B, 3)

unfolded in time

                   y(1)             y(2)
                     ↑                ↑
h(0),c(0) ── U → h(1),c(1) ── U → h(2),c(2)
                     ↑ W              ↑ W
                   x(1)             x(2)"""


def test_the_text_of_a_gated_network_without_bias_and_readout():
    assert draw_text(xprnn.RNN(3, 8, cell=Gated(), bias=False), 2) == GATED


@each_case
def test_the_text_names_every_parameter_with_its_shape(case):
    net = case.make()
    lines = [" ".join(line.split()) for line in draw_text(net).split("\n")]
    for name, array in net.parameters.items():
        ending = f"{SYMBOLS[name]} {name} {tuple(array.shape)}"
        assert sum(line.endswith(ending) for line in lines) == 1


@pytest.mark.parametrize("steps", [1, 3, 12])
@each_case
def test_the_text_has_a_column_a_step(case, steps):
    net = case.make()
    outputs, ups, state, ups_below, inputs = draw_text(net, steps).split("\n")[-5:]
    nodes = [",".join(f"{s}({t})" for s in net.cell.state) for t in range(steps + 1)]
    arrow = " ── U → " if has_recurrent_matrix(net.cell) else " ───→ "
    assert state == arrow.join(nodes)
    assert inputs.split() == [f"x({t})" for t in range(1, steps + 1)]
    assert ups_below.split() == ["↑", "W"] * steps
    last = case.returns == "last"
    assert outputs.split() == (["y"] if last else [f"y({t})" for t in range(1, steps + 1)])
    assert ups.split() == (["↑"] if case.O is None else ["↑", "R"]) * (1 if last else steps)
    for line in (ups, ups_below):
        # Every arrow stands above or below the words of its state.
        spans = [(state.index(node), state.index(node) + len(node)) for node in nodes[1:]]
        arrows = [k for k, letter in enumerate(line) if letter == "↑"]
        wanted = spans[-1:] if len(arrows) < steps else spans
        assert all(a <= k < b for k, (a, b) in zip(arrows, wanted, strict=True))


@pytest.mark.parametrize("function", [draw, draw_text])
@pytest.mark.parametrize(
    ("net", "steps", "error", "message"),
    [
        (xprnn.RNN(1, 2), 0, ValueError, "steps is 0: expected an int of at least 1"),
        (xprnn.RNN(1, 2), 2.0, TypeError, r"steps is 2\.0 \(float\): expected an int"),
        ("net", 3, TypeError, r"net is of type str: expected an xprnn\.RNN"),
        (xprnn.RNN, 3, TypeError, r"net is of type type: expected an xprnn\.RNN"),
    ],
)
def test_bad_arguments(function, net, steps, error, message):
    with pytest.raises(error, match=message):
        function(net, steps)


def test_three_steps_unless_asked_otherwise():
    assert Shown(draw(xprnn.RNN(1, 2))).right_of(4)[:4] == ["h(0)", "h(1)", "h(2)", "h(3)"]
    assert draw_text(xprnn.RNN(1, 2)).endswith("x(3)")


def test_a_missing_matplotlib_is_named_and_the_text_needs_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pictures need matplotlib .*: pip install "xprnn\[cli'):
        draw(xprnn.RNN(1, 2))
    assert "weight_hh_l0" in draw_text(xprnn.RNN(1, 2))


def test_a_drawing_is_written_as_a_picture(tmp_path):
    save_figure(draw(xprnn.RNN(1, 2)), tmp_path / "network.png")
    assert (tmp_path / "network.png").read_bytes().startswith(b"\x89PNG")


def test_one_layer_stands_for_all():
    net = network_of_many()
    text = draw_text(net, steps=2)
    for line in (
        "h(t), c(t) = cell(W E[x(t)] + b, U h(t-1), c(t-1))    cell: LSTM(0.0, False, False)",
        "2 layers, each reading the h of the one below",
        "in both directions, their h concatenated",
        "dropout 0.1 between layers",
        "dropout 0.2 of h(t-1)",
    ):
        assert f"\n{line}\n" in f"\n{text}"
    words = " ".join(text.split())
    assert "U weight_hh_l0 … weight_hh_l1_reverse (16, 4)" in words
    assert "W weight_ih_l0 … weight_ih_l1_reverse (16, 3) or (16, 8)" in words
    assert "E embedding.weight (7, 3)" in words
    assert "(T, B, 8)" in words
    assert "x (T, B), below 7" in words
    figure = draw(net, steps=2)
    shown = {line for text in figure.axes[0].texts for line in text.get_text().splitlines()}
    assert "E = embedding.weight (7, 3)" in shown
    assert "2 layers, each reading the h of the one below" in shown


def network_of_many():
    return xprnn.RNN(
        7,
        4,
        2,
        cell="lstm",
        layers=2,
        bidirectional=True,
        dropout=0.1,
        recurrent_dropout=0.2,
        embedding_size=3,
    )
