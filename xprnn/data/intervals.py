"""Prediction intervals from errors on values that nothing was fitted to (split conformal)."""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class Intervals(NamedTuple):
    """Half widths of prediction intervals: the forecast plus and minus them.

    Attributes
    ----------
    coverage : float
        The share of values that is meant to be inside.
    widths : tuple of tuple of float
        For each column the half width of every horizon, from one step ahead on.
    """

    coverage: float
    widths: tuple[tuple[float, ...], ...]

    def band(self, steps: int) -> HostArray:
        """Return the half widths (steps, O); NaN past the last horizon."""
        found = np.full((steps, len(self.widths)), np.nan)
        for k, row in enumerate(self.widths):
            found[: min(steps, len(row)), k] = row[:steps]
        return found


def half_width(errors: HostArray, coverage: float) -> float:
    """Return the half width of an interval for the next value.

    It is the ⌈(n + 1)·coverage⌉-th smallest of the n absolute errors.  If the next error is
    exchangeable with them, the value is inside with at least that probability, whatever their
    distribution is.  With fewer errors than coverage/(1 - coverage), 9 for 90 %, no width promises
    that; then it is the largest error.

    References
    ----------
    J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, "Distribution-free predictive
    inference for regression", JASA 113 (2018), 1094-1111: split conformal prediction.
    """
    return float(np.sort(np.abs(errors))[_rank(len(errors), coverage) - 1])


def _rank(count: int, coverage: float) -> int:
    """Return which of so many errors, from the smallest, is the half width; from 1."""
    # Less what rounding adds: 10 times 0.9 is 9, and so is what 9.000000000000002 stands for.
    return min(count, math.ceil((count + 1) * coverage - 1e-9))


def enough(count: int, coverage: float) -> bool:
    """Whether so many errors make an interval of this coverage."""
    return math.ceil((count + 1) * coverage - 1e-9) <= count


def growing_widths(
    before: HostArray, errors: HostArray, horizon: int, coverage: float
) -> HostArray:
    """Return a half width for every error, made of nothing that was known later.

    Parameters
    ----------
    before : host array, (n,)
        Errors from before.
    errors : host array, (N,)
        Errors of the origins one after the other; that of origin i is known at i + horizon.
    horizon : int
    coverage : float

    Returns
    -------
    host array, (N,)
        NaN where there is no error yet.
    """
    found = np.full(len(errors), np.nan)
    known = sorted(np.abs(before).tolist())
    for i in range(len(errors)):
        if i >= horizon:
            bisect.insort(known, float(abs(errors[i - horizon])))
        if known:
            found[i] = known[_rank(len(known), coverage) - 1]
    return found


def share_inside(errors: HostArray, widths: HostArray) -> float | None:
    """Return the share of errors that are within their widths; None if none has a width."""
    have = np.isfinite(widths)
    return float(np.mean(np.abs(errors[have]) <= widths[have])) if np.any(have) else None


def intervals(errors: Sequence[Sequence[HostArray]], coverage: float) -> Intervals:
    """Return the intervals that errors make: for each column those of every horizon.

    A wider interval of a shorter horizon is kept, because a forecast gets no better with distance.
    """
    rows = []
    for column in errors:
        widths = [half_width(of_horizon, coverage) for of_horizon in column if len(of_horizon)]
        rows.append(tuple(float(w) for w in np.maximum.accumulate(widths)) if widths else ())
    return Intervals(coverage, tuple(rows))
