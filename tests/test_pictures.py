"""Pictures of gradients and states: what they show, and that everything on them can be read."""

import itertools
import sys
import warnings

import numpy as np
import pytest

import xprnn
from tests.gated import Gated
from xprnn import RNN, History
from xprnn.diagnostics import (
    GradientFlow,
    gates_over_time,
    gradient_flow,
    plot_contributions,
    plot_eigenvalues,
    plot_flow,
    plot_gates,
    plot_gradient_norms,
    plot_phase,
    plot_state_map,
)
from xprnn.diagnostics.pictures.style import line_style
from xprnn.diagnostics.pictures.text import PLAIN, drawable, fonts_for
from xprnn.training.history import Record

RNG = np.random.default_rng(0)
WORDS = (
    "the",
    "antidisestablishmentarianism",
    "中文",
    "$x$ and \\alpha",
    "a\nb",
    "",
    " ",
    "\x07",
    "_",
)


def tokens(count: int) -> list[str]:
    return [WORDS[k % len(WORDS)] for k in range(count)]


def flow_of(steps: int, layers: int = 1, **options):
    net = RNN(1, 3, 1, cell="gru", layers=layers, bidirectional=layers > 1, dtype="float64", rng=0)
    x = RNG.normal(size=(steps, 2, 1))
    return gradient_flow(net, x, d_output=np.ones_like(x), **options)


def texts_of(figure) -> list:
    """Return every text that is drawn, with where it is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a character that no font has
        canvas.draw()
    renderer = canvas.get_renderer()
    hidden = set()
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        # Ticks outside the limits are kept, and not drawn.
        ticks = {*axis.majorTicks, *axis.minorTicks} - set(axis._update_ticks())
        hidden |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found if t not in hidden]


def assert_readable(figure) -> None:
    """Check that no text is outside the picture, and none lies on another."""
    found = texts_of(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        room = min(box.x0, box.y0, width - box.x1, height - box.y1)
        assert room >= -1, f"{text!r} is cut off"
    for (text, a), (other, b) in itertools.combinations(found, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(overlap) <= 1, f"{text!r} lies on {other!r}"


SIZES = [1, 7, 100, *(pytest.param(steps, marks=pytest.mark.full) for steps in (2, 50, 300))]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("steps", SIZES)
def test_labels_never_overlap(steps: int, labelled: bool) -> None:
    named = {"tokens": tokens(steps)} if labelled else {}
    flow = flow_of(steps, layers=3 if steps < 60 else 1)
    assert_readable(plot_flow(flow, title="中文 and $x$", **named))
    assert_readable(plot_state_map(RNG.normal(size=(steps, 1 + steps % 40)), title="A", **named))
    gates = {name: RNG.uniform(size=(steps, 5)) for name in ("i", "a long name", "o")}
    assert_readable(plot_gates(gates, **named))


def test_labels_are_left_out_where_there_is_no_room() -> None:
    figure = plot_state_map(np.zeros((250, 3)), tokens=tokens(250))
    assert_readable(figure)
    assert figure.axes[0].get_xlabel() == "step (every second token is labelled)"


@pytest.mark.parametrize(("steps", "labelled"), [(1, False), (30, True), (120, True)])
def test_labels_of_contributions_never_overlap(steps: int, labelled: bool) -> None:
    named = {"tokens": tokens(steps)} if labelled else {}
    flow = flow_of(steps)._replace(matrix=RNG.uniform(0.1, 9.0, (1, steps, steps)))
    assert_readable(plot_contributions(flow, **named))


@pytest.mark.parametrize("steps", [1, 2, 30, pytest.param(500, marks=pytest.mark.full)])
def test_numbers_of_steps_never_overlap(steps: int) -> None:
    assert_readable(plot_phase(RNG.normal(size=(steps, 3))))
    assert_readable(plot_phase(np.zeros((steps, 2)), units=(0, 1)))


def test_lines_differ_in_black_and_white() -> None:
    styles = [line_style(k, 50) for k in range(16)]
    assert len({s["linestyle"] for s in styles}) == 4
    assert len({s["marker"] for s in styles}) == 8
    assert len({(s["color"], s["linestyle"], s["marker"]) for s in styles}) == 16


def test_the_colour_map_gets_steadily_lighter() -> None:
    import matplotlib as mpl

    from xprnn.diagnostics.pictures.style import HEAT

    red, green, blue, _ = mpl.colormaps[HEAT](np.linspace(0, 1, 64)).T
    assert np.all(np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0)


def test_a_flow_has_a_line_for_each_layer_and_direction() -> None:
    flow = flow_of(9, layers=2)
    (axes,) = plot_flow(flow).axes
    assert axes.get_yscale() == "log"
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ["layer 0", "layer 0 reversed", "layer 1", "layer 1 reversed"]
    for name, norms in zip(flow.names, flow.norms, strict=True):
        np.testing.assert_array_equal(lines[name], norms)


def test_what_does_not_arrive_or_is_not_finite_is_said() -> None:
    flow = flow_of(9)
    norms = flow.norms.copy()
    norms[0, :4] = np.inf
    figure = plot_flow(flow._replace(norms=norms))
    assert "not finite" in [text for text, _ in texts_of(figure)]
    assert np.all(np.isnan(figure.axes[0].lines[0].get_ydata()[:4]))
    nothing = flow._replace(norms=np.zeros((1, 9)), matrix=np.zeros((1, 9, 9)))
    for picture in (plot_flow, plot_contributions):
        assert "no gradient arrives" in [text for text, _ in texts_of(picture(nothing))]


def test_contributions_are_those_of_the_matrix_and_nothing_is_left_out() -> None:
    flow = flow_of(9, matrix=True, window=2)
    axes = plot_contributions(flow).axes[0]
    shown = np.asarray(axes.images[0].get_array().filled(np.nan))
    there = flow.matrix[0] > 0
    np.testing.assert_array_equal(shown[there], flow.matrix[0][there])
    assert np.all(np.isnan(shown[~there]))
    assert axes.patch.get_hatch() == "////"
    assert axes.images[0].origin == "lower"


def recorded(epochs: int = 8, **options) -> GradientFlow:
    net, recorder = RNN(1, 4, 1, cell="gru", dtype="float64", rng=0), GradientFlow()
    x = RNG.normal(size=(6, 3, 1))
    xprnn.fit(net, (x, x), epochs=epochs, callbacks=[recorder], **options)
    return recorder


def test_clipped_norms_are_marked() -> None:
    records = recorded(clip_norm=0.2).records
    middle = float(np.median([record.gradient_norm for record in records]))
    records = [record._replace(clip_norm=middle) for record in records]
    figure = plot_gradient_norms(records)
    line, clipped, limit = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [r.gradient_norm for r in records])
    assert list(clipped.get_xdata()) == [r.epoch for r in records if r.gradient_norm > middle]
    assert clipped.get_label() == "clipped (4 of 8)"
    assert clipped.get_marker() == "v"
    assert limit.get_ydata()[0] == middle
    assert_readable(figure)


def test_norms_of_a_history() -> None:
    history = History([Record(k, 1.0, None, float(k)) for k in range(1, 6)])
    figure = plot_gradient_norms(history.records, clip_norm=3.0)
    _, clipped, _ = figure.axes[0].lines
    assert list(clipped.get_xdata()) == [4, 5]
    infinite = [*history.records, Record(6, 1.0, None, np.inf)]
    figure = plot_gradient_norms(infinite, clip_norm=3.0)
    assert {"not finite", "clipped (3 of 6)"} <= {text for text, _ in texts_of(figure)}
    with pytest.raises(ValueError, match="records has no gradient norms"):
        plot_gradient_norms([Record(1, 1.0, None, None)])


def test_eigenvalues_at_first_and_at_last() -> None:
    recorder = recorded(30)
    figure = plot_eigenvalues(recorder.records, gate=2)
    by_label = {line.get_label(): line for line in figure.axes[0].lines}
    for label, record in (("epoch 1", recorder.records[0]), ("epoch 30", recorder.records[-1])):
        z = record.eigenvalues[0, 2]
        np.testing.assert_array_equal(by_label[label].get_xdata(), z.real)
        np.testing.assert_array_equal(by_label[label].get_ydata(), z.imag)
    circle = by_label["unit circle"]
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), 1.0)
    assert by_label["epoch 1"].get_marker() != by_label["epoch 30"].get_marker()
    assert_readable(figure)
    assert_readable(plot_eigenvalues(flow_of(3)))
    with pytest.raises(ValueError, match="gate is 3: expected 0 to 2"):
        plot_eigenvalues(recorder.records, gate=3)
    with pytest.raises(ValueError, match="records has no eigenvalues"):
        plot_eigenvalues([])


def test_gates_have_their_names() -> None:
    x = RNG.normal(size=(7, 2, 1))
    expected = {
        "lstm": ["i", "f", "g", "o"],
        "gru": ["r", "z", "n"],
        "minimal_gated": ["f", "n"],
        "elman": ["h"],
        Gated(): ["c", "factor", "h"],
    }
    for cell, names in expected.items():
        net = RNN(1, 5, cell=cell, layers=2, dtype="float64", rng=0)
        gates = gates_over_time(net, x, sequence=1, lengths=[7, 4], row=1)
        assert list(gates) == names
        assert all(values.shape == (4, 5) for values in gates.values())
        figure = plot_gates(gates)
        assert [axes.get_ylabel() for axes in figure.axes] == names
    lstm = RNN(1, 5, cell="lstm", dtype="float64", rng=0)
    gates = gates_over_time(lstm, x)
    c = np.zeros(5)
    for t in range(7):
        c = gates["f"][t] * c + gates["i"][t] * gates["g"][t]
    np.testing.assert_allclose(gates["o"][6] * np.tanh(c), lstm(x)[0][6, 0])
    with pytest.raises(ValueError, match="row is 1: expected 0 to 0"):
        gates_over_time(lstm, x, row=1)


def test_many_units_are_bands() -> None:
    values = RNG.uniform(size=(20, 9))
    figure = plot_gates({"z": values})
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=1))
    assert "all 9 units" in [text for text, _ in texts_of(figure)]
    few = plot_gates({"z": values[:, :6]})
    assert [line.get_label() for line in few.axes[0].lines] == [f"unit {k}" for k in range(6)]


def test_a_state_map_shows_every_number() -> None:
    states = RNG.normal(size=(6, 3))
    states[2, 1] = np.nan
    figure = plot_state_map(states, tokens=["a", "b", "c", "$d$", "e", "f"])
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array().filled(np.nan)), states.T)
    low, high = image.get_clim()
    assert low == -high == -np.nanmax(np.abs(states))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "b", "c", "$d$", "e", "f"]


def test_principal_components_are_those_of_the_covariance() -> None:
    states = RNG.normal(size=(50, 4)) * [3.0, 1.0, 0.1, 0.1]
    figure = plot_phase(states)
    (axes,) = figure.axes
    values, vectors = np.linalg.eigh(np.cov(states.T))
    share = values[-1] / values.sum()
    assert axes.get_xlabel() == f"principal component 1 ({share:.0%} of the variance)"
    first = next(line for line in axes.lines if line.get_label() == "first step")
    along = (states - states.mean(0)) @ vectors[:, -1]
    assert abs(first.get_xdata()[0]) == pytest.approx(abs(along[0]))
    assert plot_phase(states, units=(2, 0)).axes[0].get_xlabel() == "unit 2"


def test_labels_are_cut_and_codes_stand_for_what_no_font_has() -> None:
    assert drawable("a" * 40) == "a" * 15 + "…"
    assert drawable("a\nb") == "a⏎b"
    assert drawable("") == "∅"
    assert drawable(" ") == "␣"
    assert drawable("a b") == "a b"
    assert drawable("\x07") == "\\u0007"
    # A letter that matplotlib has, though not in its usual font.
    assert drawable("\U0001d400") == "\U0001d400"
    assert fonts_for(["a", "\U0001d400"])[0] == PLAIN
    assert len(fonts_for(["a", "\U0001d400"])) == 2
    assert drawable("\U000f0000") == "\\U000f0000"


def test_what_does_not_fit_is_refused() -> None:
    flow = flow_of(5)
    with pytest.raises(TypeError, match="flow is ndarray: expected what gradient_flow returned"):
        plot_flow(flow.norms)
    with pytest.raises(ValueError, match="tokens has 3 entries: expected 5, one for each step"):
        plot_flow(flow, tokens=["a"] * 3)
    with pytest.raises(ValueError, match=r"expected that of gradient_flow\(\.\.\., matrix=True\)"):
        plot_contributions(flow)
    with pytest.raises(ValueError, match="row is 1: expected 0 to 0: layer 0"):
        plot_contributions(flow._replace(matrix=np.ones((1, 5, 5))), row=1)
    with pytest.raises(ValueError, match="gates is empty"):
        plot_gates({})
    with pytest.raises(ValueError, match=r"gates\['b'\] has shape \(4, 2\): expected \(3, 2\)"):
        plot_gates({"a": np.ones((3, 2)), "b": np.ones((4, 2))})
    with pytest.raises(ValueError, match="states has shape"):
        plot_state_map(np.ones(3))
    with pytest.raises(ValueError, match="expected at least 2, for a plane"):
        plot_phase(np.ones((3, 1)))
    with pytest.raises(ValueError, match="expected numbers from 0 to 1"):
        plot_phase(np.ones((3, 2)), units=(0, 2))
    with pytest.raises(TypeError, match="units is 1: expected two"):
        plot_phase(np.ones((3, 2)), units=1)
    with pytest.raises(ValueError, match=r"states\[1, 0\] is nan"):
        plot_phase(np.array([[1.0, 2.0], [np.nan, 2.0]]))


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_of(5)._replace(matrix=np.ones((1, 5, 5)))
    for name in [*(n for n in sys.modules if n.partition(".")[0] == "matplotlib"), "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    records = [Record(1, 1.0, None, 2.0)]
    states = np.ones((5, 2))
    for draw in (
        lambda: plot_flow(flow),
        lambda: plot_contributions(flow),
        lambda: plot_gradient_norms(records),
        lambda: plot_eigenvalues(flow),
        lambda: plot_gates({"a": states}),
        lambda: plot_phase(states),
        lambda: plot_state_map(states, tokens=["中"] * 5),
    ):
        with pytest.raises(ImportError, match=r'pip install "xprnn\[cli\]"'):
            draw()
