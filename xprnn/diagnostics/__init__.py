"""Pictures of data, training, states and networks."""

from xprnn.diagnostics.drawing import draw, draw_text
from xprnn.diagnostics.figure import Figure, save_figure
from xprnn.diagnostics.notebook import show_pictures
from xprnn.diagnostics.plots import plot_fit, plot_forecast, plot_loss, plot_states

__all__ = [
    "Figure",
    "draw",
    "draw_text",
    "plot_fit",
    "plot_forecast",
    "plot_loss",
    "plot_states",
    "save_figure",
    "show_pictures",
]
