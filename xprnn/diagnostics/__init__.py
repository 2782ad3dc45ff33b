"""Pictures of data, training, states and networks."""

from xprnn.diagnostics.drawing import draw, draw_text
from xprnn.diagnostics.figure import Figure, save_figure
from xprnn.diagnostics.flow.measuring import gradient_flow
from xprnn.diagnostics.flow.recording import FlowRecord, GradientFlow
from xprnn.diagnostics.flow.result import Flow, Jacobians
from xprnn.diagnostics.inspection import Page, inspect_page
from xprnn.diagnostics.notebook import show_pictures
from xprnn.diagnostics.plots import plot_fit, plot_forecast, plot_loss, plot_states

__all__ = [
    "Figure",
    "Flow",
    "FlowRecord",
    "GradientFlow",
    "Jacobians",
    "Page",
    "draw",
    "draw_text",
    "gradient_flow",
    "inspect_page",
    "plot_fit",
    "plot_forecast",
    "plot_loss",
    "plot_states",
    "save_figure",
    "show_pictures",
]
