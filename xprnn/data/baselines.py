"""Baselines: simple forecasts that a network has to beat, and errors to compare them by."""

import math
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np, refuse_changed
from xprnn.data.differencing import Differencing
from xprnn.data.linear import Linear
from xprnn.data.rolling import OneStep
from xprnn.data.series import check_series

ROWS = 4096
"""How many rows of lags are in memory at a time."""
FEWEST_FOR_AR = 8
"""Fewer values are not enough for an autoregression whose order is chosen."""


def persistence(values: HostArray) -> HostArray:
    """Forecast every value but the first as the value before it: (N-1,)."""
    return check_series("values", values, more_than=1)[:-1]


class Autoregression(NamedTuple):
    """A linear forecast from the last values: an AR model with a constant.

    ::

        ŷ(t) = a₀ + Σ_k a_k y(t-k),   k = 1 ... order

    Attributes
    ----------
    coefficients : host array, (order + 1,)
    """

    coefficients: HostArray

    @classmethod
    def fitted(cls, values: HostArray, order: int) -> "Autoregression":
        """Fit the coefficients by least squares, on standardised values.

        Parameters
        ----------
        values : host array, (N,)
            Finite, N above 2·order.
        order : int
        """
        order = checks.positive_int("order", order)
        return cls._least_squares(check_series("values", values, more_than=2 * order), order)

    @classmethod
    def by_aic(cls, values: HostArray, most: int | None = None) -> "Autoregression":
        """Fit an autoregression whose order has the lowest Akaike information criterion.

        ::

            AIC = n log(Σ r²/n) + 2 (order + 2)

        of the n values that come after the longest order's first forecast; of equal ones, the
        lowest order.  The chosen order is fitted to all values.

        Parameters
        ----------
        values : host array, (N,)
            Finite, N at least 8.
        most : int, optional
            The largest order; None: 10 log₁₀ N (that of R's ``ar``), but at most N/4.
        """
        values = check_series("values", values, more_than=FEWEST_FOR_AR - 1)
        n = len(values)
        longest = int(10 * math.log10(n)) if most is None else checks.positive_int("most", most)
        longest = max(1, min(longest, n // 4))
        z, _, _ = _standardised(values)
        best, lowest, count = 0, math.inf, n - longest
        # One QR decomposition has the residuals of all orders: what the target has of the columns
        # of Q after those of the order.
        projected = _triangle(z, longest)[:, -1]
        for order in range(longest + 1):
            mean_square = float(np.sum(projected[order + 1 :] ** 2)) / count
            # What rounding leaves of a perfect fit is no reason for a higher order.
            variance = max(mean_square, np.finfo(np.float64).eps ** 2)
            aic = count * math.log(variance) + 2 * (order + 2)
            if aic < lowest - 1e-9 * abs(lowest if math.isfinite(lowest) else 1.0):
                best, lowest = order, aic
        return cls._least_squares(values, best)

    @classmethod
    def _least_squares(cls, values: HostArray, order: int) -> "Autoregression":
        z, mean, std = _standardised(values)
        # On raw values, columns of other units than the constant's 1 would count as dependent.
        triangle = _triangle(z, order)
        # As NumPy's own limit, but for all rows and not for those of the triangle.
        small = np.finfo(np.float64).eps * max(len(z) - order, order + 1)
        a = np.linalg.lstsq(triangle[:, :-1], triangle[:, -1], rcond=small)[0]
        a[0] = std * a[0] + mean * (1.0 - float(np.sum(a[1:])))
        return cls(a)

    @property
    def order(self) -> int:
        """How many values it reads."""
        return len(self.coefficients) - 1

    @property
    def needed(self) -> int:
        """How many values come before the first that can be forecast."""
        return max(1, self.order)

    def next(self, history: HostArray, inputs: HostArray | None = None) -> HostArray:
        """Forecast the values (B,) that follow histories (L, B), the last value the latest."""
        del inputs
        level = np.full(history.shape[1], self.coefficients[0])
        if self.order:
            level = level + self.coefficients[:0:-1] @ history[-self.order :]
        return level

    def one_step(self, values: HostArray) -> HostArray:
        """Forecast every value from index ``order`` on, from the actual values: (N-order,)."""
        order = len(self.coefficients) - 1
        return _lags(check_series("values", values, more_than=order), order) @ self.coefficients


def fit_baselines(training: HostArray, season: int = 0) -> dict[str, OneStep | None]:
    """Fit the baselines of a forecast; see `xprnn.data.rolling.rolled` for what to do with them.

    Parameters
    ----------
    training : host array, (N,)
        N at least 2.
    season : int
        The period; 0: there is none.

    Returns
    -------
    dict
        ``persistence``: the value before.  ``drift``: that and the mean change.  ``seasonal``: the
        value a season before; None without a season.  ``ar``: an autoregression of the order with
        the lowest AIC, up to 10 log₁₀ N or a season and one; None for fewer than 8 values.

    References
    ----------
    R. J. Hyndman and G. Athanasopoulos, "Forecasting: principles and practice", section 5.2.
    """
    training = check_series("training", training, more_than=1)
    first, nothing, n = Differencing(first=True), np.zeros(0), len(training)
    seasonal = None
    if season and season < n:
        seasonal = Linear(Differencing(season=season), 0.0, nothing, nothing)
    linear = None
    if n >= FEWEST_FOR_AR:
        linear = Autoregression.by_aic(training, max(int(10 * math.log10(n)), season + 1))
    change = (float(training[-1]) - float(training[0])) / (n - 1)
    return {
        "persistence": Linear(first, 0.0, nothing, nothing),
        "drift": Linear(first, change, nothing, nothing),
        "seasonal": seasonal,
        "ar": linear,
    }


def rmse(forecast: HostArray, values: HostArray) -> float:
    """Return the root of the mean squared error, in the values' unit."""
    refuse_changed("forecast", forecast)
    refuse_changed("values", values)
    checks.of_shape("forecast", forecast, tuple(values.shape))
    return float(np.sqrt(np.mean((forecast - values) ** 2)))


def scale_of_errors(training: HostArray, season: int = 0) -> float | None:
    """Return what the mean absolute scaled error divides by, or None if it would be 0.

    It is the mean absolute error of the naive forecast one step ahead, or of the seasonal naive one
    a season ahead, on the training part.  The mean absolute scaled error of a forecast is its mean
    absolute error over this: below 1 it is better than the naive forecast was in training.

    References
    ----------
    R. J. Hyndman and A. B. Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting 22 (2006), 679-688.
    """
    step = season if 0 < season < len(training) else 1
    scale = float(np.mean(np.abs(training[step:] - training[:-step])))
    return scale if scale > 0 else None


def _standardised(values: HostArray) -> tuple[HostArray, float, float]:
    mean, std = float(np.mean(values)), float(np.std(values))
    # Of equal values, rounding alone is left.
    if std <= 1e-13 * float(np.max(np.abs(values))):
        return np.zeros(len(values)), mean, 0.0
    return (values - mean) / std, mean, std


def _triangle(values: HostArray, order: int) -> HostArray:
    """Return R of the QR decomposition of the lags and, as the last column, of their target.

    It has the same least-squares solutions.  Rows are added in blocks, so that a long series takes
    no more memory than a short one.
    """
    r = np.zeros((0, order + 2))
    for start in range(0, len(values) - order, ROWS):
        part = values[start : start + ROWS + order]
        rows = np.column_stack([_lags(part, order), part[order:]])
        r = np.linalg.qr(np.concatenate([r, rows]))[1]
    return r


def _lags(values: HostArray, order: int) -> HostArray:
    """Return (N-order, order+1): a column of ones, then y(t-1), y(t-2), ..., y(t-order)."""
    columns = [values[order - k : len(values) - k] for k in range(1, order + 1)]
    return np.column_stack([np.ones(len(values) - order), *columns])
