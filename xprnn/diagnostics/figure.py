"""A figure of matplotlib in the library's style: made, and written to a file.

None of this touches pyplot's global state, so it works in any thread and without a screen.
"""

import io
import os
from functools import partial
from typing import Any, TypeAlias

from xprnn.backend.host.files import write_atomic

Figure: TypeAlias = Any
"""A matplotlib figure; matplotlib, an optional dependency, is imported only to draw."""

DATA, MODEL, SECOND = "0.45", "#0b6fb8", "#d1495b"
"""Colours: of data, of the network's output, and of a second curve."""
BAND = "#cfe3f1"
"""The colour of an interval around the network's output."""


def new_figure(height: float = 4.2) -> tuple[Figure, Any]:
    """Return a figure, 9 inches wide, and its axes.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    figure = matplotlib_figure(9, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def matplotlib_figure(width: float, height: float) -> Figure:
    """Return a figure without axes.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as error:
        raise ImportError(
            f'pictures need matplotlib ({error}): pip install "xprnn[cli]"'
        ) from error
    figure: Figure = MatplotlibFigure(figsize=(width, height), layout="constrained")
    # A notebook shows figures of its own accord only after pyplot was imported.
    figure._repr_png_ = partial(_png, figure, dpi=100)
    return figure


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_atomic(path, _png(figure, dpi=130))
