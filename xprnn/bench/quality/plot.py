"""The picture of `xprnn bench quality`: the losses of xprnn and torch, and their differences."""

from collections.abc import Sequence

from xprnn.backend.host.arrays import HostArray, np
from xprnn.bench.quality.comparison import Curves
from xprnn.diagnostics.figure import DATA, MODEL, SECOND, Figure


def plot_quality(curves: Curves, *, title: str = "") -> Figure:
    """Draw the losses of xprnn and torch over each other, and below them their difference.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    updates = np.arange(1, len(curves.losses["xprnn"]) + 1)
    for name, color, style, width in (("xprnn", MODEL, "-", 2.5), ("torch", SECOND, "--", 0.7)):
        label = f"{name}, training"
        above.plot(updates, curves.losses[name], style, color=color, lw=width, label=label)
    for name, color, mark, size in (("xprnn", MODEL, "o", 8), ("torch", SECOND, "x", 6)):
        held_out, label = curves.held_out[name], f"{name}, held out"
        above.plot(curves.evaluated_at, held_out, mark, color=color, ms=size, mew=1.5, label=label)
    above.set_ylabel("loss per character, nats")
    above.set_title(title, parse_math=False)
    above.legend(frameon=False, ncols=2)

    pairs: Sequence[tuple[str, str, str, str]] = (
        ("torch", "moved", DATA, "torch and torch from weights moved by a rounding"),
        ("xprnn", "torch", MODEL, "xprnn and torch"),
    )
    for one, other, color, label in pairs:
        apart: HostArray = curves.apart(one, other)
        # A logarithmic scale has no zero.
        shown = np.where(apart > 0, apart, np.nan)
        below.plot(updates, shown, ".", color=color, ms=2.5, label=label)
    below.set_yscale("log")
    below.set_xlabel("update")
    below.set_ylabel("training losses apart")
    # Above the axes, where the legend covers no points.
    below.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, markerscale=4)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="0.93")
        axes.margins(x=0.01)
    return figure
