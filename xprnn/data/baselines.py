"""Baselines: simple forecasts that a network has to beat."""

from typing import NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np, refuse_changed
from xprnn.data.series import check_series


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
        """Fit the coefficients by least squares.

        Parameters
        ----------
        values : host array, (N,)
            Finite, N above 2·order.
        order : int
        """
        order = checks.positive_int("order", order)
        values = check_series("values", values, more_than=2 * order)
        return cls(np.linalg.lstsq(_lags(values, order), values[order:], rcond=None)[0])

    def one_step(self, values: HostArray) -> HostArray:
        """Forecast every value from index ``order`` on, from the actual values: (N-order,)."""
        order = len(self.coefficients) - 1
        return _lags(check_series("values", values, more_than=order), order) @ self.coefficients


def rmse(forecast: HostArray, values: HostArray) -> float:
    """Return the root of the mean squared error, in the values' unit."""
    refuse_changed("forecast", forecast)
    refuse_changed("values", values)
    checks.of_shape("forecast", forecast, tuple(values.shape))
    return float(np.sqrt(np.mean((forecast - values) ** 2)))


def _lags(values: HostArray, order: int) -> HostArray:
    """Return (N-order, order+1): a column of ones, then y(t-1), y(t-2), ..., y(t-order)."""
    columns = [values[order - k : len(values) - k] for k in range(1, order + 1)]
    return np.column_stack([np.ones(len(values) - order), *columns])
