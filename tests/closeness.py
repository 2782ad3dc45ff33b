"""Every tolerance of the tests, with its reason."""

import numpy as np
import pytest

from xprnn.testing.parity import tolerances
from xprnn.training.history import Record

AUTOGRAD = 1e-10
"""Against torch in float64: the same formula, summed in another order."""

AUTOGRAD_FLOOR = 1e-12
"""The same, absolute.  Where the exact gradient is zero, both have rounding errors alone, which the
normalisation of a nearly constant vector makes 300 times larger."""

DIFFERENCES = 1e-8
"""Against central differences of step h = 1e-5, relative: their error is of order h²."""

DIFFERENCES_FLOOR = 5e-10
"""The same, absolute: the objective, of order 10, is rounded by 1e-15, which is divided by h."""

FLOAT64 = tolerances.FLOAT64
"""Between backends in float64."""

between_backends = tolerances.tolerance
"""Between two backends in a dtype: a function of the dtype and the number of steps."""


def assert_close(
    got: object, want: object, tolerance: float, name: str = "array", floor: float = 0.0
) -> None:
    """Compare host arrays: shapes first, then the largest error relative to the largest entry."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name} has shape {got.shape}, not {want.shape}"
    assert np.all(np.isfinite(got)), f"{name} is not finite"
    error = np.max(np.abs(got - want), initial=0.0)
    allowed = tolerance * np.max(np.abs(want), initial=0.0) + floor
    assert error <= allowed, f"{name} is off by {error:.3g}, more than {allowed:.3g}"


def assert_all_close(
    got: dict[str, object], want: dict[str, object], tolerance: float, floor: float = 0.0
) -> None:
    """Compare host arrays by name: the same names, each array close."""
    assert set(got) == set(want)
    for name, array in want.items():
        assert_close(got[name], array, tolerance, name, floor)


def assert_same_history(got: list[Record], want: list[Record], tolerance: float) -> None:
    """Compare the records of two runs, of which each has a loss where the other has one."""
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert [value is None for value in mine] == [value is None for value in theirs]
        numbers = [value for value in mine if value is not None]
        assert numbers == pytest.approx([v for v in theirs if v is not None], rel=tolerance)
