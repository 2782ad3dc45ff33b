"""Pictures of the gradient's way back: over steps, from each loss, over a training."""

from collections.abc import Sequence
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.diagnostics.figure import Figure
from xprnn.diagnostics.flow.recording import FlowRecord
from xprnn.diagnostics.flow.result import Flow
from xprnn.diagnostics.pictures.style import (
    COLOURS,
    HEAT,
    hatch_missing,
    legend_below,
    line_style,
    new_panels,
    number_steps,
)
from xprnn.diagnostics.pictures.text import checked_tokens, label_steps, titled, unlike, wide_enough


def plot_flow(flow: Flow, *, tokens: Sequence[str] | None = None, title: str = "") -> Figure:
    """Draw ‖∂L/∂h(t)‖ over the steps, on a logarithmic scale, a line for each layer and direction.

    A step that no gradient reaches has no point.  Where the gradient is not finite, the picture is
    shaded, and says so.

    Parameters
    ----------
    flow : Flow
    tokens : sequence of str, optional
        The tokens of the steps, T of them.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If flow is none, or there are not as many tokens as steps.
    """
    _check(flow)
    steps = flow.norms.shape[1]
    width = wide_enough(tokens, steps, least=9, margin=1.0, most=24)
    figure, (axes,) = new_panels(width, 4.2 + 0.2 * (len(flow.names) // 4))
    for k, (name, norms) in enumerate(zip(flow.names, flow.norms, strict=True)):
        good = np.isfinite(norms) & (norms > 0)
        axes.plot(
            np.arange(steps), np.where(good, norms, np.nan), label=name, **line_style(k, steps)
        )
    axes.set_yscale("log")
    bad = np.flatnonzero(~np.all(np.isfinite(flow.norms), axis=0))
    if len(bad):
        axes.axvspan(bad[0] - 0.5, bad[-1] + 0.5, facecolor="0.9", edgecolor="0.6", hatch="///",
                     label="not finite", zorder=0)  # fmt: skip
    if not np.any(flow.norms > 0):
        _say(axes, "no gradient arrives")
    axes.set_xlim(-0.5, steps - 0.5)
    axes.grid(visible=True, which="major", color="0.9")
    titled(axes, title, None, "‖∂L/∂h(t)‖")
    label_steps(axes, checked_tokens(tokens, steps), steps, width - 1)
    legend_below(figure, axes)
    return figure


def plot_contributions(
    flow: Flow, *, row: int = 0, tokens: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw what the loss of step s contributes to the gradient of h(t), for all s and t.

    Light is large, on a logarithmic scale; hatched is nothing at all, as where h(t) comes after
    the loss, or where a window cuts.

    Parameters
    ----------
    flow : Flow
        Of ``gradient_flow(..., matrix=True)``.
    row : int
        Which layer and direction.
    tokens : sequence of str, optional
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If the flow has no matrix, there is no such row, or not as many tokens as steps.
    """
    _check(flow)
    if flow.matrix is None:
        raise ValueError("flow has no matrix: expected that of gradient_flow(..., matrix=True)")
    row = checks.index("row", row, len(flow.names), f": {', '.join(flow.names)}")
    matrix, steps = flow.matrix[row], flow.matrix.shape[1]
    tokens = checked_tokens(tokens, steps)
    # Square, so not as wide as other pictures.
    width = wide_enough(tokens, steps, least=6.5, margin=2.0, most=16)
    figure, (axes,) = new_panels(width, width - 0.7)
    good = np.isfinite(matrix) & (matrix > 0)
    hatch_missing(axes)
    if good.any():
        from matplotlib.colors import LogNorm

        largest = float(np.max(matrix[good]))
        # A gradient that has all but vanished would leave no shades for the others.
        smallest = max(float(np.min(matrix[good])), largest * 1e-8)
        norm = LogNorm(min(smallest, 0.5 * largest), largest)
        shown = np.where(good, np.maximum(matrix, smallest), np.nan)
        image = axes.imshow(shown, cmap=HEAT, norm=norm, origin="lower", interpolation="nearest")
        figure.colorbar(image, ax=axes, label="‖∂Lₛ/∂h(t)‖", shrink=0.8)
    else:
        _say(axes, "no gradient arrives")
    axes.set_xlim(-0.5, steps - 0.5)
    axes.set_ylim(-0.5, steps - 0.5)
    named = flow.names[row] if len(flow.names) > 1 else ""
    titled(axes, title or named, None, "s, the step of the loss")
    label_steps(axes, tokens, steps, width - 2.0)
    axes.set_xlabel(axes.get_xlabel().replace("step", "t, the step of the state", 1))
    number_steps(axes.yaxis)
    return figure


def plot_gradient_norms(
    records: Sequence[Any], *, clip_norm: float | None = None, title: str = ""
) -> Figure:
    """Draw the norm of the gradients over a training; a triangle marks where it was clipped.

    Parameters
    ----------
    records : sequence of FlowRecord, or of Record
        ``GradientFlow.records``, or ``History.records`` of a training with ``clip_norm``, which has
        the largest norm of every epoch.
    clip_norm : float, optional
        What the norm was limited to; a `FlowRecord` knows it itself.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no records with a norm.
    """
    known = [r for r in records if r.gradient_norm is not None]
    if not known:
        raise ValueError(
            "records has no gradient norms: expected GradientFlow.records, or History.records of a "
            "training with clip_norm"
        )
    epochs = np.array([r.epoch for r in known])
    norms = np.array([_limited_norm(r) for r in known])
    limits = [r.clip_norm if isinstance(r, FlowRecord) else clip_norm for r in known]
    limit = next((each for each in limits if each is not None), None)
    clipped = np.array(
        [each is not None and not norm <= each for norm, each in zip(norms, limits, strict=True)]
    )
    figure, (axes,) = new_panels(9, 4.2)
    good = np.isfinite(norms) & (norms > 0)
    axes.plot(epochs, np.where(good, norms, np.nan), color=COLOURS[0], lw=1.5,
              marker="." if len(known) < 60 else None, label="norm, before clipping")  # fmt: skip
    axes.set_yscale("log")
    if clipped.any():
        marked = clipped & good
        size = 6 if np.count_nonzero(marked) < 100 else 3
        axes.plot(epochs[marked], norms[marked], "v", color=COLOURS[1], ms=size, ls="none",
                  label=f"clipped ({np.count_nonzero(clipped)} of {len(known)})")  # fmt: skip
    if limit is not None:
        axes.axhline(limit, color="0.2", lw=1.2, ls="--", label=f"clip_norm {limit:g}")
    for k, epoch in enumerate(epochs[~np.isfinite(norms)]):
        axes.axvline(epoch, color="0.5", lw=1, ls=":", label=None if k else "not finite")
    number_steps(axes.xaxis)
    axes.grid(visible=True, which="major", color="0.9")
    titled(axes, title, "epoch", "gradient norm")
    legend_below(figure, axes)
    return figure


def _limited_norm(record: Any) -> float:
    """Return the norm that was limited; a `Record` has no other."""
    limited = record.limited_norm if isinstance(record, FlowRecord) else None
    return float(record.gradient_norm if limited is None else limited)


def plot_eigenvalues(
    records: Sequence[FlowRecord] | Flow, *, row: int = 0, gate: int = 0, title: str = ""
) -> Figure:
    """Draw the eigenvalues of U beside the unit circle, at the beginning and over a training.

    The first epoch's are circles, the last one's crosses; those between get darker.  An eigenvalue
    outside the circle makes what it multiplies grow with every step, one inside makes it fade.

    Parameters
    ----------
    records : sequence of FlowRecord, or Flow
        ``GradientFlow.records``, or a single flow.
    row : int
        Which layer and direction.
    gate : int
        Which gate's block of U.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no eigenvalues, as of a cell without U, or no such row or gate.
    """
    found: list[tuple[int | None, HostArray]]
    if isinstance(records, Flow):
        found = [(None, records.eigenvalues)]
    else:
        found = [(r.epoch, r.eigenvalues) for r in records if r.eigenvalues is not None]
    if not found:
        raise ValueError(
            "records has no eigenvalues: expected those of a GradientFlow(eigenvalues=True)"
        )
    rows, gates, _ = found[0][1].shape
    if not gates:
        raise ValueError("the cell has no U: expected one with a recurrent matrix, for eigenvalues")
    row, gate = checks.index("row", row, rows), checks.index("gate", gate, gates)
    shown = [found[k] for k in unlike(len(found), 12)]
    figure, (axes,) = new_panels(6.4, 6.2)
    angle = np.linspace(0, 2 * np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color="0.3", lw=1.2, label="unit circle")
    axes.axhline(0, color="0.85", lw=0.8, zorder=0)
    axes.axvline(0, color="0.85", lw=0.8, zorder=0)
    for k, (epoch, values) in enumerate(shown):
        z = values[row, gate]
        z = z[np.isfinite(z)]
        last = k == len(shown) - 1
        share = k / max(len(shown) - 1, 1)
        named = "U" if epoch is None else f"epoch {epoch}"
        style: dict[str, Any] = {"marker": ".", "color": str(0.75 - 0.5 * share), "ms": 4}
        if k == 0:
            style = {"marker": "o", "color": COLOURS[0], "mfc": "none", "ms": 6}
        elif last:
            style = {"marker": "x", "color": COLOURS[1], "ms": 6, "mew": 1.5}
        ends = k == 0 or last
        axes.plot(z.real, z.imag, ls="none", label=named if ends else None, **style)
    axes.set_aspect("equal", adjustable="datalim")
    titled(axes, title, "real part", "imaginary part")
    legend_below(figure, axes, columns=3)
    return figure


def _check(flow: object) -> None:
    if not isinstance(flow, Flow):
        raise TypeError(f"flow is {type(flow).__name__}: expected what gradient_flow returned")


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.3")
