"""Pictures of data, training and states."""

from xprnn.diagnostics.plots import (
    Figure,
    plot_fit,
    plot_forecast,
    plot_loss,
    plot_states,
    save_figure,
)

__all__ = ["Figure", "plot_fit", "plot_forecast", "plot_loss", "plot_states", "save_figure"]
