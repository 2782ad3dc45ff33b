"""Pictures of states and gates over time."""

from collections.abc import Mapping, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.diagnostics.figure import Figure
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

FEW = 6
"""Up to so many units have a line each."""


def plot_gates(
    gates: Mapping[str, HostArray], *, tokens: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw gates over time, a panel for each: up to six units as lines, more as bands.

    A band has all units, a darker one the middle half of them, and the line is the median.

    Parameters
    ----------
    gates : mapping of str to host array, (T, H)
        By name; see `gates_over_time`.
    tokens : sequence of str, optional
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are none, they are not of one shape, or there are not as many tokens as steps.
    """
    if not gates:
        raise ValueError("gates is empty: expected arrays (T, H) by name")
    shape = tuple(next(iter(gates.values())).shape)
    for name, values in gates.items():
        checks.of_shape(f"gates[{name!r}]", values, ("T", "H") if len(shape) != 2 else shape)
    steps, units = shape
    tokens = checked_tokens(tokens, steps)
    width = wide_enough(tokens, steps, least=9, margin=1.0, most=24)
    figure, panels = new_panels(width, 0.8 + 1.5 * len(gates), rows=len(gates))
    t = np.arange(steps)
    for axes, (name, values) in zip(panels, gates.items(), strict=True):
        shown = np.where(np.isfinite(values), values, np.nan)
        if units <= FEW:
            for unit in range(units):
                style = line_style(unit, steps)
                axes.plot(t, shown[:, unit], label=f"unit {unit}", **style)
        else:
            low, lower, middle, upper, high = np.percentile(values, (0, 25, 50, 75, 100), axis=1)
            axes.fill_between(t, low, high, color="0.88", label=f"all {units} units")
            axes.fill_between(t, lower, upper, color="#8fbbd9", label="the middle half")
            axes.plot(t, middle, color="black", lw=1.5, label="median")
        _limit(axes, values)
        axes.grid(visible=True, axis="y", color="0.92")
        titled(axes, title if axes is panels[0] else "", None, name)
        axes.yaxis.label.set_rotation(0)
        axes.yaxis.label.set_horizontalalignment("right")
    panels[-1].set_xlim(-0.5, steps - 0.5)
    label_steps(panels[-1], tokens, steps, width - 1)
    legend_below(figure, panels[0], columns=FEW)
    return figure


def plot_state_map(
    states: HostArray, *, tokens: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw the hidden state of all units over time as a heat map, dark for low and light for high.

    Parameters
    ----------
    states : host array, (T, H)
    tokens : sequence of str, optional
        The tokens of the steps, as labels.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the states are not of shape (T, H), or there are not as many tokens as steps.
    """
    checks.of_shape("states", states, ("T", "H"))
    steps, units = states.shape
    tokens = checked_tokens(tokens, steps)
    width = wide_enough(tokens, steps, least=9, margin=1.8, most=24)
    figure, (axes,) = new_panels(width, float(np.clip(1.6 + 0.16 * units, 2.8, 7.5)))
    good = np.isfinite(states).T
    hatch_missing(axes)
    swing = float(np.max(np.abs(states.T[good]), initial=0.0)) or 1.0
    image = axes.imshow(
        np.where(good, states.T, np.nan), cmap=HEAT, vmin=-swing, vmax=swing, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label="h", pad=0.01, fraction=0.05)
    number_steps(axes.yaxis, most=10)
    titled(axes, title, None, "unit")
    label_steps(axes, tokens, steps, width - 1.8)
    return figure


def plot_phase(
    states: HostArray, *, units: tuple[int, int] | None = None, title: str = ""
) -> Figure:
    """Draw the way of a state through the plane of two units, or of its two principal components.

    The way begins at the circle and ends at the square; it gets darker with time, and some steps
    have their number beside them.

    Parameters
    ----------
    states : host array, (T, H)
    units : (int, int), optional
        Two units; None: the two principal components of h, the directions in which it varies most.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If the states are not of shape (T, H) or not finite, there are no two such units, or there
        are fewer than two units.
    """
    checks.of_shape("states", states, ("T", "H"))
    if not np.all(np.isfinite(states)):
        t, unit = np.argwhere(~np.isfinite(states))[0]
        raise ValueError(f"states[{t}, {unit}] is {states[t, unit]}: expected finite")
    count = states.shape[1]
    if count < 2:
        raise ValueError(f"states has {count} unit: expected at least 2, for a plane")
    if units is None:
        points, labels = _principal(states.astype(np.float64))
    else:
        first, second = _units(units, count)
        points = states[:, [first, second]].astype(np.float64)
        labels = (f"unit {first}", f"unit {second}")
    figure, (axes,) = new_panels(6.4, 6.0)
    steps = len(points)
    for t in range(steps - 1):
        share = t / max(steps - 2, 1)
        axes.plot(*points[t : t + 2].T, color=str(0.78 - 0.68 * share), lw=1.4, zorder=1)
    _arrows(axes, points)
    axes.plot(*points[0], "o", color=COLOURS[0], ms=9, ls="none", label="first step")
    axes.plot(*points[-1], "s", color=COLOURS[1], ms=9, ls="none", label="last step")
    _number(axes, points)
    axes.margins(0.12)
    titled(axes, title, *labels)
    legend_below(figure, axes)
    return figure


def _principal(states: HostArray) -> tuple[HostArray, tuple[str, str]]:
    """Return the two principal components, and labels that say how much of the variance they have.

    A component's sign is free; here the largest of its weights is positive.
    """
    centred = states - np.mean(states, axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    total = float(np.sum(sizes**2)) or 1.0
    two = np.zeros((2, states.shape[1]))
    two[: len(directions[:2])] = directions[:2]
    two *= np.where(np.take_along_axis(two, np.argmax(np.abs(two), axis=1)[:, None], 1) < 0, -1, 1)
    shares = [float(size) ** 2 / total for size in (*sizes, 0.0)[:2]]
    first, second = (
        f"principal component {k + 1} ({share:.0%} of the variance)"
        for k, share in enumerate(shares)
    )
    return centred @ two.T, (first, second)


def _units(units: object, count: int) -> tuple[int, int]:
    if not isinstance(units, tuple | list) or len(units) != 2:
        raise TypeError(f"units is {units!r}: expected two numbers of units")
    for unit in units:
        if isinstance(unit, bool) or not hasattr(unit, "__index__"):
            raise TypeError(f"units is {units!r}: expected two ints")
        if not 0 <= unit < count:
            raise ValueError(f"units is {tuple(units)!r}: expected numbers from 0 to {count - 1}")
    return int(units[0]), int(units[1])


def _arrows(axes: Any, points: HostArray) -> None:
    """Draw arrow heads along the way, where there is a way."""
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    reach = float(np.max(np.ptp(points, axis=0), initial=0.0))
    for t in unlike(len(moves), 10):
        if moves[t] > 0.02 * reach:
            axes.annotate(
                "", points[t + 1], points[t], zorder=2,
                arrowprops={"arrowstyle": "-|>", "color": "0.25", "lw": 0.8, "shrinkA": 0,
                            "shrinkB": 0, "mutation_scale": 11},
            )  # fmt: skip


def _number(axes: Any, points: HostArray) -> None:
    """Write the numbers of some steps, far enough from each other not to overlap."""
    from matplotlib.patheffects import withStroke

    reach = np.ptp(points, axis=0)
    scaled = points / np.where(reach > 0, reach, 1.0)
    placed: list[HostArray] = []
    candidates = [0, len(points) - 1, *unlike(len(points), 25)]
    for t in candidates:
        if all(abs(scaled[t, 0] - p[0]) > 0.09 or abs(scaled[t, 1] - p[1]) > 0.06 for p in placed):
            placed.append(scaled[t])
            axes.annotate(
                str(t), points[t], xytext=(7, 5), textcoords="offset points", fontsize=8, zorder=3,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip


def _limit(axes: Any, values: HostArray) -> None:
    """Let a gate's axis have the whole range of its activation, where it keeps to one."""
    finite = values[np.isfinite(values)]
    low, high = np.min(finite, initial=0.0), np.max(finite, initial=0.0)
    if low >= 0 and high <= 1:
        axes.set_ylim(-0.05, 1.05)
    elif low >= -1 and high <= 1:
        axes.set_ylim(-1.1, 1.1)
