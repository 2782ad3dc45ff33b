"""What the plots show, and how they are written to files."""

import struct
import sys
import zlib

import numpy as np
import pytest

from xprnn.diagnostics import plot_fit, plot_forecast, plot_loss, plot_states, save_figure

X = np.linspace(0, 3, 7)
PNG = b"\x89PNG\r\n\x1a\n"


def lines_of(figure):
    """Return the labelled lines of a figure, by label; it has one pair of axes."""
    (axes,) = figure.axes
    return {
        line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")
    }


def legend_of(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def assert_line(line, x, y):
    np.testing.assert_array_equal(line.get_xdata(), x)
    np.testing.assert_array_equal(line.get_ydata(), y)


def shades_of(figure):
    """Return the ranges that are shaded."""
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[0].patches]


def chunks_of(png: bytes) -> list[bytes]:
    """Check the checksums of a PNG file, and return the names of its chunks."""
    assert png.startswith(PNG)
    names, at = [], len(PNG)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(body),)
        names.append(body[:4])
        at += 12 + size
    return names


def test_a_fit_shows_the_network_the_data_and_the_truth():
    figure = plot_fit(X, X**2, data=X + 1, truth=X - 1, title="A fit")
    lines = lines_of(figure)
    assert set(lines) == {"ŷ, network", "y, data", "without noise"}
    assert_line(lines["ŷ, network"], X, X**2)
    assert_line(lines["y, data"], X, X + 1)
    assert_line(lines["without noise"], X, X - 1)
    assert (lines["y, data"].get_marker(), lines["ŷ, network"].get_marker()) == (".", "None")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("x", "y", "A fit")
    assert set(legend_of(figure)) == set(lines)
    assert shades_of(figure) == []


def test_a_fit_shows_no_more_than_there_is():
    assert set(lines_of(plot_fit(X, X))) == {"ŷ, network"}


@pytest.mark.parametrize(
    ("trained", "shaded"),
    [
        ((1.0, 2.0), [(0.0, 1.0), (2.0, 3.0)]),
        ((-5.0, 2.0), [(2.0, 3.0)]),
        ((1.0, 9.0), [(0.0, 1.0)]),
        ((0.0, 3.0), []),
        ((-9.0, -8.0), [(0.0, 3.0)]),
        ((8.0, 9.0), [(0.0, 3.0)]),
    ],
)
def test_a_fit_shades_where_the_network_was_not_trained(trained, shaded):
    figure = plot_fit(X, X, trained=trained)
    assert shades_of(figure) == shaded
    assert legend_of(figure).count("not trained on") == bool(shaded)


def test_a_loss_is_drawn_over_epochs_on_a_log_scale():
    figure = plot_loss([3.0, 2.0, 0.5], [None, 4.0, None], floor=0.1, best_epoch=2, title="Loss")
    lines = lines_of(figure)
    assert set(lines) == {"training", "validation", "kept: epoch 2", "noise floor 0.1"}
    assert_line(lines["training"], [1, 2, 3], [3.0, 2.0, 0.5])
    assert_line(lines["validation"], [2], [4.0])
    assert list(lines["kept: epoch 2"].get_xdata()) == [2, 2]
    assert list(lines["noise floor 0.1"].get_ydata()) == [0.1, 0.1]
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "loss", "Loss")


def test_a_loss_alone():
    figure = plot_loss([3.0, 2.0], [None, None])
    assert set(lines_of(figure)) == {"training"}
    assert lines_of(figure)["training"].get_marker() == "None"
    assert figure.axes[0].get_yscale() == "log"


def test_loss_beside_others():
    figure = plot_loss([3.0, 2.0], others={"3-gram:": 2.5})
    assert list(lines_of(figure)["3-gram: 2.5"].get_ydata()) == [2.5, 2.5]


@pytest.mark.parametrize("loss", [[2.3, 1.7], [0.31, 0.22], [9.5, 4.0]])
def test_a_short_axis_has_plain_numbers(loss, tmp_path):
    figure = plot_loss(loss)
    save_figure(figure, tmp_path / "loss.png")
    axis = figure.axes[0].yaxis
    texts = [tick.label1.get_text() for tick in axis.get_major_ticks() + axis.get_minor_ticks()]
    assert [float(text) for text in texts if text]


def test_a_long_axis_has_powers():
    figure = plot_loss([2.3, 0.001])
    texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert any("10^{-2}" in text for text in texts)


def test_a_single_epoch_is_a_point_that_can_be_seen():
    assert lines_of(plot_loss([3.0]))["training"].get_marker() == "."


def test_states_have_a_row_each_the_first_on_top():
    states = np.array([[0.5, -1.0, 0.25], [1.0, 0.0, -0.5], [-1.0, 2.0, 0.0]])
    (axes,) = plot_states(states, xlabel="x", title="States").axes
    rows = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(rows) == 3
    for k, row in enumerate(rows):
        # Relative to the largest state of all; the axis points down.
        assert_line(row, [0, 1, 2], k - 0.45 * states[:, k] / 2.0)
    low, high = axes.get_ylim()
    assert high < 0
    assert low > 2
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "2", "3"]
    assert list(axes.get_yticks()) == [0, 1, 2]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("x", "neuron", "States")
    assert [text.get_text() for text in axes.texts] == ["row height = ±2"]


@pytest.mark.parametrize(("units", "neurons", "rows"), [(30, None, 20), (30, 7, 7), (3, 20, 3)])
def test_as_many_states_as_asked_for_and_as_there_are(units, neurons, rows):
    states = np.ones((4, units))
    states[:, rows:] = 99
    (axes,) = plot_states(states, **({} if neurons is None else {"neurons": neurons})).axes
    assert len(axes.get_yticklabels()) == rows
    assert axes.texts[0].get_text() == "row height = ±1"


def test_states_are_drawn_over_x():
    states = np.zeros((7, 2))
    (axes,) = plot_states(states, x=X).axes
    rows = [line for line in axes.lines if len(line.get_xdata()) == 7]
    assert_line(rows[0], X, np.zeros(7))
    assert_line(rows[1], X, np.ones(7))


VALUES = np.arange(10.0)


def forecast(**options):
    given = {"start": 4, "one_step_start": 2, "closed_loop_start": 8}
    return plot_forecast(VALUES, VALUES[2:] + 0.5, VALUES[:5] - 20, **(given | options))


def test_a_forecast_shows_the_later_part():
    figure = forecast(ylabel="spots", title="Forecast")
    lines = lines_of(figure)
    assert set(lines) == {"data", "one step ahead", "closed loop"}
    assert_line(lines["data"], range(4, 10), VALUES[4:])
    assert_line(lines["one step ahead"], range(4, 10), VALUES[4:] + 0.5)
    assert_line(lines["closed loop"], range(8, 13), VALUES[:5] - 20)
    assert legend_of(figure) == ["data", "one step ahead", "closed loop"]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "spots", "Forecast")
    assert [list(line.get_xdata()) for line in axes.lines if line not in lines.values()] == [
        [7.5, 7.5]
    ]


def test_a_forecast_that_begins_the_picture_has_no_border():
    lines = forecast(start=8).axes[0].lines
    assert len(lines) == 3


def test_a_forecast_is_labelled_with_times():
    (axes,) = forecast(times=[str(year) for year in range(1990, 2000)]).axes
    label = axes.xaxis.get_major_formatter()
    assert [label(k) for k in (0, 9, 10, 12, -1)] == ["1990", "1999", "+1", "+3", ""]
    assert all(tick == int(tick) for tick in axes.xaxis.get_major_locator()())
    assert axes.get_xlabel() == ""


def test_dollars_are_dollars(tmp_path):
    # What stands between the dollar signs can't be parsed as a formula.
    words = r"$a^$ in $ \frac$"
    figure = forecast(ylabel=words, title=words)
    save_figure(figure, tmp_path / "figure.png")
    save_figure(plot_states(np.ones((2, 2)), xlabel=words, title=words), tmp_path / "states.png")
    assert figure.axes[0].get_ylabel() == words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_fit(X, X[1:]), r"fitted has shape \(6,\): expected \(7,\)"),
        (lambda: plot_fit(X, X, data=X[1:]), r"data has shape \(6,\): expected \(7,\)"),
        (lambda: plot_fit(X, X, truth=X[:, None]), r"truth has shape \(7, 1\): expected \(7,\)"),
        (lambda: plot_loss([]), "loss is empty: expected the loss of at least one epoch"),
        (lambda: plot_states(X), r"states has shape \(7,\): expected \(T, H\)"),
        (lambda: plot_states(np.ones((3, 2)), x=X), r"x has shape \(7,\): expected \(3,\)"),
        (lambda: plot_states(np.ones((3, 2)), neurons=0), "neurons is 0: expected an int of at"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: plot_fit(X, X),
        lambda: plot_loss([1.0]),
        lambda: plot_states(np.ones((3, 2))),
        forecast,
    ],
    ids=["fit", "loss", "states", "forecast"],
)
def test_a_missing_matplotlib_is_named_with_its_remedy(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=r'pictures need matplotlib .*: pip install "xprnn\[cli\]'
    ):
        call()


def test_a_figure_is_written_as_png(tmp_path):
    path = tmp_path / "figure.png"
    save_figure(forecast(), path)
    content = path.read_bytes()
    chunks = chunks_of(content)
    assert (chunks[0], chunks[-1]) == (b"IHDR", b"IEND")
    assert struct.unpack(">II", content[16:24]) == (9 * 130, int(4.6 * 130))


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("one.png", "other.png"):
        save_figure(forecast(title="same"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_a_figure_that_fails_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    class Broken:
        def savefig(self, buffer, format, dpi):  # noqa: A002
            assert (format, dpi) == ("png", 130)
            buffer.write(PNG)
            raise RuntimeError("no font")

    with pytest.raises(RuntimeError, match="no font"):
        save_figure(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(OSError, match=r"figure\.png"):
        save_figure(plot_loss([1.0]), tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_pictures_leave_pyplot_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert len(plot_fit(X, X).axes) == 1


def test_a_notebook_shows_a_figure_without_pyplot():
    figure = plot_loss([0.5, 0.1])
    assert chunks_of(figure._repr_png_())[-1] == b"IEND"
