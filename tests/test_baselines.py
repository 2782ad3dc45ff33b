"""Baselines of forecasts, and their published errors on the sunspots."""

import numpy as np
import pytest

from xprnn.data import Autoregression, persistence, read_csv, rmse, sunspots


def test_persistence_forecasts_the_value_before():
    assert persistence(np.array([3.0, 1.0, 4.0, 1.5])).tolist() == [3.0, 1.0, 4.0]


@pytest.mark.parametrize(
    "coefficients", [(0.0, 0.9), (0.3, 1.2, -0.8), (2.0, 0.5, 0.0, -0.4), (-1.0, 0, 0, 0, 0, -0.9)]
)
def test_autoregression_finds_the_process_that_made_a_series(coefficients):
    order = len(coefficients) - 1
    values = list(np.random.default_rng(1).normal(size=order))
    for _ in range(30):
        past = values[: -order - 1 : -1]
        values.append(coefficients[0] + float(np.dot(coefficients[1:], past)))
    values = np.array(values)
    fitted = Autoregression.fitted(values, order)
    np.testing.assert_allclose(fitted.coefficients, coefficients, atol=1e-9)
    np.testing.assert_allclose(fitted.one_step(values), values[order:], atol=1e-9)


def test_autoregression_forecasts_from_the_last_values_the_latest_first():
    model = Autoregression(np.array([100.0, 10.0, 1.0]))
    assert model.one_step(np.array([1.0, 2, 3, 4])).tolist() == [121, 132]


def test_autoregression_is_the_least_squares_fit():
    values = np.random.default_rng(2).normal(size=60).cumsum()
    best = Autoregression.fitted(values, 3)
    error = rmse(best.one_step(values), values[3:])
    for k in range(4):
        for nudge in (-1e-3, 1e-3):
            other = best.coefficients.copy()
            other[k] += nudge
            assert rmse(Autoregression(other).one_step(values), values[3:]) > error


@pytest.mark.parametrize(("order", "published"), [(2, 22.8), (9, 19.4)])
def test_autoregression_on_the_sunspots(order, published):
    values = read_csv(sunspots(), "SUNACTIVITY").values
    cut = len(values) - round(0.2 * len(values))
    assert len(values) - cut == 62
    forecast = Autoregression.fitted(values[:cut], order).one_step(values)[cut - order :]
    assert round(rmse(forecast, values[cut:]), 1) == published


def test_persistence_on_the_sunspots():
    values = read_csv(sunspots(), "SUNACTIVITY").values
    assert round(rmse(persistence(values)[246:], values[247:]), 1) == 33.3


def test_the_fit_sees_only_what_it_is_given():
    values = read_csv(sunspots(), "SUNACTIVITY").values
    before = Autoregression.fitted(values[:247], 9).coefficients
    changed = values.copy()
    changed[247:] = 0
    np.testing.assert_array_equal(Autoregression.fitted(changed[:247], 9).coefficients, before)


def test_rmse_is_the_root_of_the_mean_square():
    assert rmse(np.array([1.0, 2, 3, 4]), np.array([1.0, 5, 3, 0])) == 2.5
    assert rmse(np.array([7.0]), np.array([7.0])) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: persistence(np.array([1.0])), ValueError, "values has 1 entries: expected more"),
        (lambda: persistence(np.array([1, np.inf])), ValueError, r"values\[1\] is inf"),
        (
            lambda: Autoregression.fitted(np.ones(6), 3),
            ValueError,
            "values has 6 entries: expected more than 6",
        ),
        (lambda: Autoregression.fitted(np.ones(6), 0), ValueError, "order is 0: expected an int"),
        (lambda: Autoregression.fitted(np.ones(6), 1.0), TypeError, r"order is 1\.0 \(float\)"),
        (
            lambda: Autoregression(np.ones(4)).one_step(np.ones(3)),
            ValueError,
            "values has 3 entries: expected more than 3",
        ),
        (
            lambda: rmse(np.ones(3), np.ones(2)),
            ValueError,
            r"forecast has shape \(3,\): expected \(2,\)",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
