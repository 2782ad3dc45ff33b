"""Plots of fits, losses, states and forecasts.

Every function takes host arrays and returns a figure, which `save_figure` writes to a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.diagnostics.figure import BAND, DATA, MODEL, SECOND, Figure, new_figure
from xprnn.diagnostics.lettering import label_times, lettering


def plot_fit(
    x: HostArray,
    fitted: HostArray,
    *,
    data: HostArray | None = None,
    truth: HostArray | None = None,
    trained: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Draw a network's output ŷ(x) as a line, with the data y(x) as points.

    Parameters
    ----------
    x, fitted : host array, (N,)
    data : host array, (N,), optional
    truth : host array, (N,), optional
        What the data would be without noise, drawn as a thin line.
    trained : (float, float), optional
        The range of x that the network was trained on; x outside it is shaded.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the arrays are not of one length.
    """
    for name, a in (("fitted", fitted), ("data", data), ("truth", truth)):
        if a is not None:
            checks.of_shape(name, a, tuple(x.shape))
    figure, axes = new_figure()
    if truth is not None:
        axes.plot(x, truth, color=SECOND, lw=1.2, label="without noise")
    if data is not None:
        axes.plot(x, data, ".", color=DATA, ms=5, label="y, data")
    axes.plot(x, fitted, color=MODEL, lw=2, label="ŷ, network")
    if trained is not None:
        _shade_outside(axes, (float(np.min(x)), float(np.max(x))), trained)
    _label(axes, xlabel="x", ylabel="y", title=title)
    axes.margins(x=0.01)
    # Below the axes, where the legend covers no data.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, frameon=False)
    return figure


def plot_loss(
    loss: Sequence[float],
    validation: Sequence[float | None] = (),
    *,
    floor: float | None = None,
    others: Mapping[str, float] | None = None,
    best_epoch: int | None = None,
    title: str = "",
) -> Figure:
    """Draw the losses of a training over its epochs, on a logarithmic scale.

    Parameters
    ----------
    loss : sequence of float
        The training loss of every epoch, from epoch 1 on.
    validation : sequence of float or None
        The validation loss of the same epochs; entries that are None are left out.
    floor : float, optional
        The loss of the noise alone, drawn as a dashed line: a lower one means overfitting.
    others : mapping of str to float, optional
        Losses to compare with, by name, such as a baseline's on the validation data; each is a
        dash-dotted line.
    best_epoch : int, optional
        The epoch whose weights were kept, marked by a dotted line.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no losses.
    """
    if not len(loss):
        raise ValueError("loss is empty: expected the loss of at least one epoch")
    figure, axes = new_figure()
    one = "." if len(loss) == 1 else None
    axes.semilogy(range(1, len(loss) + 1), loss, color=MODEL, lw=1.5, marker=one, label="training")
    pairs = [(k, v) for k, v in enumerate(validation, start=1) if v is not None]
    if pairs:
        axes.semilogy(
            *zip(*pairs, strict=True), color=SECOND, lw=1.5, marker=one, label="validation"
        )
    if best_epoch is not None:
        axes.axvline(best_epoch, color="0.6", lw=1, ls=":", label=f"kept: epoch {best_epoch}")
    if floor is not None:
        axes.axhline(floor, color="0.2", lw=1, ls="--", label=f"noise floor {floor:g}")
    for name, other in ({} if others is None else others).items():
        axes.axhline(other, color="0.45", lw=1.2, ls="-.", label=f"{name} {other:.4g}")
    _label(axes, xlabel="epoch", ylabel="loss", title=title)
    axes.grid(visible=True, which="both", color="0.9")
    _plain_below_a_decade(axes)
    axes.legend(frameon=False)
    return figure


def plot_states(
    states: HostArray,
    *,
    x: HostArray | None = None,
    neurons: int = 20,
    xlabel: str = "step",
    title: str = "",
) -> Figure:
    """Draw the states of hidden units over time, one row per unit.

    Parameters
    ----------
    states : host array, (T, H)
    x : host array, (T,), optional
        The horizontal axis; None: the step's number.
    neurons : int
        How many units to draw, beginning with the first.
    xlabel, title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the states are not of shape (T, H), or x is not of shape (T,).
    """
    checks.of_shape("states", states, ("T", "H"))
    neurons = min(checks.positive_int("neurons", neurons), states.shape[1])
    x = np.arange(states.shape[0]) if x is None else x
    checks.of_shape("x", x, (states.shape[0],))
    figure, axes = new_figure(height=1.4 + 0.26 * neurons)
    swing = float(np.max(np.abs(states[:, :neurons]))) or 1.0
    for k in range(neurons):
        axes.axhline(k, color="0.9", lw=0.8, zorder=0)
        axes.plot(x, k - 0.45 * states[:, k] / swing, color=MODEL if k % 2 else SECOND, lw=1.2)
    _label(axes, xlabel=xlabel, ylabel="neuron", title=title)
    axes.set_yticks(range(neurons), [str(k + 1) for k in range(neurons)])
    # The axis points down, so that the first neuron is on top; hence the minus sign above.
    axes.set_ylim(neurons - 0.4, -0.6)
    axes.margins(x=0.01)
    axes.text(
        1.0, 1.01, f"row height = ±{swing:.2g}", transform=axes.transAxes, ha="right", color="0.4"
    )
    return figure


def plot_forecast(
    values: HostArray,
    one_step: HostArray,
    closed_loop: HostArray,
    *,
    start: int,
    one_step_start: int,
    closed_loop_start: int,
    band: tuple[int, HostArray, HostArray] | None = None,
    band_name: str = "interval",
    times: Sequence[str] | None = None,
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Draw the end of a series with its one-step and its closed-loop forecast.

    Parameters
    ----------
    values, one_step, closed_loop : host array, one-dimensional
    start : int
        The index of the first value that is drawn.
    one_step_start, closed_loop_start : int
        The index of the first entry of each forecast; a forecast may reach past the last value.
    band : (int, host array, host array), optional
        A prediction interval: the index of its first entry, its lower and its upper limits.  It is
        not drawn where they are NaN.
    band_name : str
        What the legend calls it.
    times : sequence of str, optional
        The label of every value.
    ylabel, title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    figure, axes = new_figure(height=4.6)
    axes.plot(
        np.arange(start, len(values)), values[start:], ".-", color=DATA, lw=1, ms=5, label="data"
    )
    if band is not None:
        index = np.arange(band[0], band[0] + len(band[1]))
        shown = index >= start
        limits = [limit[shown] for limit in band[1:]]
        axes.fill_between(index[shown], *limits, color=BAND, lw=0, zorder=0, label=band_name)
    for forecast, first, color, style, name in (
        (one_step, one_step_start, MODEL, "-", "one step ahead"),
        (closed_loop, closed_loop_start, SECOND, "--", "closed loop"),
    ):
        index = np.arange(first, first + len(forecast))
        shown = index >= start
        axes.plot(index[shown], forecast[shown], style, color=color, lw=1.8, label=name)
    if closed_loop_start > start:
        axes.axvline(closed_loop_start - 0.5, color="0.6", lw=1, ls=":")
    _label(axes, xlabel="step" if times is None else "", ylabel=ylabel, title=title)
    axes.margins(x=0.01)
    if times is not None:
        label_times(axes, times)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    return figure


def _plain_below_a_decade(axes: Any) -> None:
    """Label a short logarithmic axis with 2.3, not with 2.3 × 10⁰."""
    low, high = axes.get_ylim()
    if high < 10 * low:
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")


def _label(axes: Any, *, xlabel: str, ylabel: str, title: str) -> None:
    """Label the axes verbatim, in fonts that have the characters."""
    for draw, words, most in (
        (axes.set_xlabel, xlabel, 90),
        (axes.set_ylabel, ylabel, 50),
        (axes.set_title, title, 90),
    ):
        shown = lettering(words, most)
        draw(shown.text, **shown.options)


def _shade_outside(axes: Any, drawn: tuple[float, float], trained: tuple[float, float]) -> None:
    label: str | None = "not trained on"
    for low, high in ((drawn[0], min(trained[0], drawn[1])), (max(trained[1], drawn[0]), drawn[1])):
        if low < high:
            axes.axvspan(low, high, color="0.93", zorder=0, label=label)
            label = None
