"""Pictures of data, training, states and networks."""

from xprnn.diagnostics.drawing import draw, draw_text
from xprnn.diagnostics.figure import Figure, save_figure
from xprnn.diagnostics.flow.measuring import gradient_flow
from xprnn.diagnostics.flow.recording import FlowRecord, GradientFlow
from xprnn.diagnostics.flow.result import Flow, Jacobians
from xprnn.diagnostics.inspection import Page, inspect_page
from xprnn.diagnostics.notebook import show_pictures
from xprnn.diagnostics.pictures.flow import (
    plot_contributions,
    plot_eigenvalues,
    plot_flow,
    plot_gradient_norms,
)
from xprnn.diagnostics.pictures.gates import gates_over_time
from xprnn.diagnostics.pictures.states import plot_gates, plot_phase, plot_state_map
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
    "gates_over_time",
    "gradient_flow",
    "inspect_page",
    "plot_contributions",
    "plot_eigenvalues",
    "plot_fit",
    "plot_flow",
    "plot_forecast",
    "plot_gates",
    "plot_gradient_norms",
    "plot_loss",
    "plot_phase",
    "plot_state_map",
    "plot_states",
    "save_figure",
    "show_pictures",
]
