"""The period of a series' season, found from its autocorrelation."""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.series import check_series

LEAST = 0.3
"""The least autocorrelation that counts as a season."""
LONGEST = 400
"""The longest period that is looked for: a year of days."""
HARMONIC = 1.1
"""How much higher the peak of a longer period must be: 24 correlates as 12 does."""


class Season(NamedTuple):
    """A period, and the autocorrelation at that lag."""

    period: int
    correlation: float


def find_season(values: HostArray) -> Season | None:
    """Return the period at which a series repeats itself best, or None.

    The autocorrelation is that of the first differences and that of the values without their
    straight line, neither of which a trend makes high at every lag.  A period is a peak after the
    first negative lag that is above 0.3 and above three standard errors, 3/√N; three periods must
    fit into the series.

    Parameters
    ----------
    values : host array, (N,)

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(60.0)
    >>> find_season(np.sin(2 * np.pi * t / 12) + 0.1 * t).period
    12
    """
    values = check_series("values", values, more_than=0)
    if len(values) < 8:
        return None
    centred = values - np.mean(values)
    largest = np.max(np.abs(centred))
    if not np.isfinite(largest) or largest == 0:
        return None
    centred = centred / largest
    t = np.linspace(-1.0, 1.0, len(values))
    level = centred - t * (t @ centred) / (t @ t)
    peaks = [_peak(np.diff(centred), len(values) // 3), _peak(level, len(values) // 3)]
    found = [peak for peak in peaks if peak is not None]
    return max(found, key=lambda peak: peak.correlation) if found else None


def autocorrelation(values: HostArray, lags: int) -> HostArray:
    """Return the autocorrelation at the lags 0 to ``lags`` - 1: zeros if the values are all equal.

    ::

        ρ(k) = Σ_t x(t) x(t+k) / Σ_t x(t)²,   x the values less their mean
    """
    x = values - np.mean(values)
    power = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    sums = np.fft.irfft(power)[:lags]
    # What rounding leaves of equal values is no correlation.
    if sums[0] <= len(x) * 1e-24:
        return np.zeros(lags)
    ratio: HostArray = sums / sums[0]
    return ratio


def _peak(values: HostArray, longest: int) -> Season | None:
    lags = min(longest, LONGEST) + 2
    rho = autocorrelation(values, lags)
    negative = np.flatnonzero(rho < 0)
    if not len(negative):
        return None
    best, least = None, max(LEAST, 3 / len(values) ** 0.5)
    for k in range(max(2, int(negative[0])), len(rho) - 1):
        if rho[k - 1] < rho[k] >= rho[k + 1] and rho[k] > least:
            best, least = Season(k, float(rho[k])), HARMONIC * float(rho[k])
    return best
