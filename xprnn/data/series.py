"""Series: scaling one, cutting it into windows, and the one that comes with xprnn."""

import math
from pathlib import Path
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np, plain_array, refuse_changed


def sunspots() -> Path:
    """Return the path of a CSV file with the yearly mean sunspot numbers of 1700 to 2008.

    Columns ``YEAR`` and ``SUNACTIVITY``, 309 rows; public domain.

    References
    ----------
    National Geophysical Data Center (NOAA), as distributed with the statsmodels package
    (``statsmodels.datasets.sunspots``).
    """
    return Path(__file__).with_name("sunspots.csv")


class Scaling(NamedTuple):
    """A shift and a scale: scaled = (value - mean) / std."""

    mean: float
    std: float

    @classmethod
    def fitted(cls, values: HostArray, *, what: str = "values", equal: bool = False) -> "Scaling":
        """Return the scaling that gives these values zero mean and unit standard deviation.

        Fit it on the training part only: data that is held out must not leak into the model.

        Parameters
        ----------
        values : host array, (N,)
        what : str
            The name of the values in messages.
        equal : bool
            Whether the values may all be equal; then their scale is 1.

        Raises
        ------
        ValueError
            If the values are all equal and may not be, or so large that their deviation overflows.
        """
        values = check_series("values", values, more_than=0)
        largest = float(np.max(np.abs(values)))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(np.mean(values)), float(np.std(values))
        if not math.isfinite(std):
            raise ValueError(
                f"the {what} of the training part reach {largest:g}, too large to be scaled: "
                "expected below 1e150 or so; another unit?"
            )
        if std <= 1e-12 * largest and equal:
            return cls(mean, 1.0)
        if std <= 1e-12 * largest:
            raise ValueError(f"all {len(values)} {what} of the training part are {mean:g}")
        return cls(mean, std)

    def apply(self, values: HostArray) -> HostArray:
        """Scale."""
        refuse_changed("values", values)
        return (values - self.mean) / self.std

    def invert(self, scaled: HostArray) -> HostArray:
        """Scale back."""
        refuse_changed("scaled", scaled)
        return scaled * self.std + self.mean


def windows(values: HostArray, length: int) -> tuple[HostArray, HostArray]:
    """Return every window of ``length`` values, and the value that follows each.

    Parameters
    ----------
    values : host array, (N,)
        Finite.
    length : int
        T, below N.

    Returns
    -------
    x : host array, (T, N-T, 1)
        A batch of N-T sequences.
    target : host array, (N-T, 1)

    Raises
    ------
    TypeError, ValueError
        If the values are not finite, or not more than ``length``.

    Examples
    --------
    >>> import numpy as np
    >>> x, target = windows(np.array([1.0, 2, 3, 4]), 2)
    >>> x[:, :, 0].T.tolist(), target[:, 0].tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [3.0, 4.0])
    """
    length = checks.positive_int("length", length)
    values = check_series("values", values, more_than=length)
    found = np.lib.stride_tricks.sliding_window_view(values[:-1], length)
    return np.ascontiguousarray(found.T)[:, :, None], values[length:, None]


def check_series(name: str, values: HostArray, *, more_than: int) -> HostArray:
    """Return values as float64, after checking that they are finite and enough."""
    values = plain_array(name, values)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {values.dtype}: expected real numbers")
    checks.of_shape(name, values, ("N",))
    if len(values) <= more_than:
        raise ValueError(f"{name} has {len(values)} entries: expected more than {more_than}")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}: expected finite")
    return values.astype(np.float64)
