"""A small plot of errors over steps, as SVG."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP = 640, 240, 60, 10
ROW = 18
"""The height of a line of the legend."""
COLOURS = ("#3b82c4", "#d9822b", "#3f9d5d", "#b5539a", "#8a6fd1", "#c2504b", "#5aa7a7", "#9a8a3c")
FLOOR = 1e-17
"""Smaller errors are drawn here, because zero has no logarithm."""


def plot(lines: Mapping[str, Sequence[tuple[int, float]]], escaped: Callable[[object], str]) -> str:
    """Return the SVG of some lines on logarithmic scales of errors.

    Parameters
    ----------
    lines : mapping of str to sequence of (int, float)
        By name, the steps and the errors after them; a line ends where one is not finite.
    escaped : callable
        Makes a name harmless.

    Examples
    --------
    >>> plot({"numpy": [(1, 1e-16), (2, 1e-15)]}, str).count("<circle")
    2
    """
    known = [(step, _height(e)) for line in lines.values() for step, e in line if math.isfinite(e)]
    if not known:
        return "<p>no error is finite</p>"
    last = max(step for step, _ in known)
    low = math.floor(min(height for _, height in known))
    high = max(low + 1, math.ceil(max(height for _, height in known)))
    total = HEIGHT + 40 + ROW * len(lines)

    def place(step: int, height: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - 10) * step / last
        return right, TOP + (HEIGHT - TOP) * (high - height) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {total}" role="img" font-size="12" fill="currentColor" '
        'font-family="system-ui, sans-serif"><title>error over steps</title>',
        *_axes(low, high, last, place),
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], 4 * (number // len(COLOURS))
        points = [place(step, _height(e)) for step, e in line if math.isfinite(e)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashed}/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points]
        y = HEIGHT + 40 + ROW * number
        parts.append(f'<path d="M{LEFT} {y}h24" stroke="{colour}" stroke-width="3"{dashed}/>')
        parts.append(f'<text x="{LEFT + 32}" y="{y + 4}">{escaped(name)}</text>')
    return "\n".join((*parts, "</svg>"))


def _height(error: float) -> float:
    return math.log10(max(error, FLOOR))


def _axes(
    low: int, high: int, last: int, place: Callable[[int, float], tuple[float, float]]
) -> Iterator[str]:
    for exponent in range(low, high + 1, max(1, (high - low) // 6)):
        x, y = place(0, exponent)
        yield f'<path d="M{x} {y:.1f}H{WIDTH - 10}" stroke="currentColor" opacity=".15"/>'
        text = "0" if 10.0**exponent <= FLOOR else f"1e{exponent}"
        yield f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    for step in dict.fromkeys((0, last // 2, last)):
        x, _ = place(step, high)
        yield f'<text x="{x:.1f}" y="{HEIGHT + 18}" text-anchor="middle">{step}</text>'
