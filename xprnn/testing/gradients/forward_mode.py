"""Exact derivatives of a function along directions, by forward-mode differentiation.

The function is computed with arrays that carry tangents (`xprnn.backend.dual`), along many
directions at once.  There is no step, and nothing is subtracted, so the derivatives are exact to
rounding, of functions that are not analytic, too.  Where there is no derivative, the place is
known.

The effect of rounding is measured: the same derivatives at a point that is off by a rounding error
in every variable.  Long recurrences may amplify it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend.differentiation import Kink, noting_kinks
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.testing.gradients.numeric import (
    EPS,
    RUNGS,
    STEP,
    WITNESS,
    Direction,
    Function,
    Probes,
    Slopes,
    slope,
)

WIDTH = 64
"""The most directions at once: enough that the overhead of each call hardly counts, and few enough
that the tangents of a small network stay in the cache."""


class Exact(NamedTuple):
    """Derivatives, and the places where there is none."""

    slopes: Slopes
    kinks: tuple[Kink, ...]


@dataclass(frozen=True)
class Forward:
    """Forward mode, for a function at a point.

    Attributes
    ----------
    function : Function
        With a ``push``.
    near : mapping of str to array
        The point, off by a rounding error in every variable.
    """

    function: Function
    near: Mapping[str, HostArray]

    def along(self, probes: Probes) -> Exact:
        """Return the derivatives along probes."""
        count = probes.count
        value, near, kink = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
        kinks: list[Kink] = []
        for start in range(0, count, WIDTH):
            stop = min(start + WIDTH, count)
            stacked, size = _stacked([probes.direction(k) for k in range(start, stop)])
            with noting_kinks() as found:
                value[start:stop] = self._push(self.function.variables, stacked)[:size]
            near[start:stop] = self._push(self.near, stacked)[:size]
            for one in found:
                kink[start:stop] |= one.along[:size]
            kinks += found
        off = np.abs(near - value)
        noise = 4 * float(np.max(off, where=np.isfinite(off) & ~kink, initial=0.0))
        return Exact(Slopes(value, np.full(count, noise), kink), tuple(kinks))

    def _push(self, at: Mapping[str, HostArray], stacked: Direction) -> HostArray:
        assert self.function.push is not None
        return self.function.push(at, stacked).slopes


def forward_mode(
    f: Function, at_rest: HostArray, rounding: float, rng: Generator
) -> tuple[Forward | None, str]:
    """Return forward mode for a function, or None and why it can't be used.

    It is tried once, in a random direction that changes all variables: the value must be that of
    the function, and the derivative must agree with central differences.
    """
    if f.push is None:
        return None, "the function has no such mode"
    near = {
        name: np.asarray(a + EPS * np.maximum(np.abs(a), 1e-3) * rng.normal(size=a.shape))
        for name, a in f.variables.items()
    }
    d = {name: np.asarray(rng.normal(size=a.shape)) for name, a in f.variables.items()}
    try:
        with noting_kinks() as kinks:
            pushed = f.push(f.variables, {name: a[None, ...] for name, a in d.items()})
    except Exception as error:
        # A formula may do anything that arrays with tangents can't do.
        return None, f"{type(error).__name__}: {error}"
    made = Forward(f, near)
    value, wanted, by_forward = pushed.value, float(np.sum(at_rest)), float(pushed.slopes[0])
    scale = 1e-10 * float(np.sqrt(np.sum(at_rest * at_rest)))
    if np.isfinite(wanted) and not abs(value - wanted) <= scale + 64 * rounding:
        return None, (
            f"its value is {value:.12g} with tangents and {wanted:.12g} without, so something "
            "other is computed"
        )
    if kinks:
        # Differences are no judge here.
        return made, ""
    for rung in RUNGS:
        by_differences, _ = slope(f, d, at_rest, rung * STEP)
        allowed = WITNESS * max(abs(by_differences), abs(by_forward)) + 4 * rounding / (rung * STEP)
        if abs(by_differences - by_forward) <= allowed or not np.isfinite(by_differences):
            return made, ""
    return None, (
        f"the slope in a random direction is {by_forward:.6g} by forward mode and "
        f"{by_differences:.6g} by central differences, so a derivative is lost on the way"
    )


def _stacked(directions: list[Direction]) -> tuple[Direction, int]:
    """Return directions as one, with an axis in front, and their number.

    Their number is made a power of two by zeros, because some libraries compile anew for every
    shape.
    """
    size = len(directions)
    width = 1 << (size - 1).bit_length()
    stacked = {}
    for name, first in directions[0].items():
        stacked[name] = np.zeros((width, *first.shape))
        for k, direction in enumerate(directions):
            stacked[name][k] = direction[name]
    return stacked, size
