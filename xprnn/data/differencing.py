"""Differences of a series, first and seasonal, and the way back."""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class Differencing(NamedTuple):
    """Which differences of a series are forecast.

    ::

        Δ(t) = y(t)                                   levels
        Δ(t) = y(t) - y(t-1)                          first differences
        Δ(t) = y(t) - y(t-m)                          seasonal differences of period m
        Δ(t) = y(t) - y(t-m) - (y(t-1) - y(t-m-1))    both

    Attributes
    ----------
    first : bool
        Whether first differences are taken.
    season : int
        The period m of the seasonal differences; 0 for none.
    """

    first: bool = False
    season: int = 0

    @property
    def lost(self) -> int:
        """How many values come before the first difference."""
        return self.first + self.season

    @property
    def name(self) -> str:
        """The word of ``--difference`` for it: none, first, seasonal or both."""
        if self.first:
            return "both" if self.season else "first"
        return "seasonal" if self.season else "none"

    def apply(self, values: HostArray) -> HostArray:
        """Return the differences (N - lost, ...) along the first axis, which is time."""
        if self.season:
            values = values[self.season :] - values[: -self.season]
        return np.diff(values, axis=0) if self.first else values

    def base(self, history: HostArray) -> HostArray:
        """Return what the next value is if its difference is 0: (...), from values (L, ...).

        L is at least `lost`; the last value is the latest.
        """
        if self.first and self.season:
            next_value = history[-1] + history[-self.season] - history[-self.season - 1]
        elif self.first or self.season:
            next_value = history[-1 if self.first else -self.season]
        else:
            next_value = np.zeros_like(history[0])
        found: HostArray = next_value
        return found
