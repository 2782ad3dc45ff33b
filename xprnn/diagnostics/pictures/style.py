"""What the pictures share: sizes, lines that can be told apart, legends, colour maps."""

from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.diagnostics.figure import Figure, matplotlib_figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
"""M. Okabe and K. Ito, "Color Universal Design" (2008), the yellow left out."""

DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

HEAT = "cividis"
"""A colour map whose lightness rises from end to end, also for the colour-blind."""

NOTHING = "0.88"
"""The grey of entries that don't exist, which are hatched, too."""


def new_panels(width: float, height: float, rows: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure, in inches, and its axes, one below the other.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    figure = matplotlib_figure(width, height)
    panels = np.atleast_1d(figure.subplots(rows, 1, sharex=True))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels)


def line_style(k: int, points: int) -> dict[str, Any]:
    """Return how line k is drawn: no two of the first 56 alike, in black and white nor of 8."""
    every = max(1, points // 12)
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": DASHES[k % len(DASHES)],
        "marker": MARKERS[k % len(MARKERS)],
        # Beginning elsewhere for every line, so that the markers of equal lines are seen.
        "markevery": (k * every // 4 % every, every),
        "markersize": 5,
        "linewidth": 1.5,
    }


def legend_below(figure: Figure, axes: Any, columns: int = 4) -> None:
    """Put the legend below the picture, where it covers nothing; none for a single line."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(columns, len(labels)),
            frameon=False,
        )  # fmt: skip


def hatch_missing(axes: Any) -> None:
    """Hatch what a heat map leaves out: its entries that are nan let the background be seen."""
    axes.patch.set(facecolor=NOTHING, hatch="////", edgecolor="0.72", linewidth=0)


def number_steps(axis: Any, most: int = 12) -> None:
    """Let an axis have whole numbers at its ticks."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
