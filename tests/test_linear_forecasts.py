"""Linear forecasts: differences, seasons, ridge fits, their combination, rolling origins."""

import numpy as np
import pytest
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

from xprnn.data import (
    Autoregression,
    Differencing,
    Linear,
    choose,
    find_season,
    fit_baselines,
    read_series,
    rolled,
    scale_of_errors,
    sunspots,
)
from xprnn.data.intervals import Intervals, enough, growing_widths, half_width, share_inside
from xprnn.data.linear import RIDGES, ridge
from xprnn.data.rolling import errors

SPOTS = read_series(sunspots(), "SUNACTIVITY").values
T = np.arange(120.0)
MONTHS = 10 * np.sin(2 * np.pi * T / 12) + np.random.default_rng(3).normal(size=120)
KINDS = [Differencing(), Differencing(first=True), Differencing(season=4), Differencing(True, 4)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@kinds
def test_differences_and_the_way_back(kind):
    y = np.random.default_rng(0).normal(size=(20, 3)).cumsum(axis=0)
    changes = kind.apply(y)
    assert changes.shape == (20 - kind.lost, 3)
    for t in range(kind.lost, 20):
        if t:
            back = kind.base(y[:t]) + changes[t - kind.lost]
            np.testing.assert_allclose(back, y[t], atol=1e-12)


def test_differences_by_hand():
    y = np.array([1.0, 4, 9, 16, 25, 36])
    assert Differencing(first=True).apply(y).tolist() == [3, 5, 7, 9, 11]
    assert Differencing(season=4).apply(y).tolist() == [24, 32]
    assert Differencing(first=True, season=4).apply(y).tolist() == [8]


@pytest.mark.parametrize("period", [4, 7, 12, 24])
@pytest.mark.parametrize("trend", [0.0, 0.7, -0.7])
def test_the_season_is_found_whatever_the_trend(period, trend):
    t = np.arange(period * 9.0)
    noise = 0.2 * np.random.default_rng(period).normal(size=len(t))
    found = find_season(np.cos(2 * np.pi * t / period) + trend * t + noise)
    assert found.period == period
    assert 0.3 < found.correlation <= 1


@pytest.mark.parametrize(
    "values",
    [np.ones(50), np.arange(50.0), np.random.default_rng(0).normal(size=300), np.arange(5.0)],
    ids=["constant", "line", "noise", "short"],
)
def test_where_there_is_no_season(values):
    assert find_season(values) is None


def test_the_season_of_the_sunspots():
    assert find_season(SPOTS[:247]).period == 11


def test_a_ridge_is_that_of_the_lowest_cross_validation_error():
    rng = np.random.default_rng(1)
    x, n = rng.normal(size=(30, 6)), 30
    y = x @ [1, -1, 0.5, 0, 0, 0] + rng.normal(size=30)
    xc, yc = x - x.mean(0), y - y.mean()
    scores, all_ = [], []
    for k in RIDGES:
        inverse = np.linalg.inv(xc.T @ xc + n * k * np.eye(6))
        a = inverse @ xc.T @ yc
        dof = 1 + np.trace(xc @ inverse @ xc.T)
        scores.append(np.sum((yc - xc @ a) ** 2) / (1 - dof / n) ** 2)
        all_.append(a)
    np.testing.assert_allclose(ridge(x, y), all_[int(np.argmin(scores))], rtol=1e-9)


@kinds
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e12])
def test_a_linear_forecast_finds_the_process_in_any_unit(kind, scale):
    rng = np.random.default_rng(5)
    changes = list(rng.normal(size=2))
    for _ in range(200):
        changes.append(0.5 * changes[-1] - 0.4 * changes[-2] + 0.3 + 1e-3 * rng.normal())
    y = list(rng.normal(size=kind.lost))
    for change in changes:
        y.append(float(kind.base(np.array(y))) + change if y else change)
    y = np.array(y) * scale
    f = Linear.fitted(y, 2, kind)
    np.testing.assert_allclose(f.coefficients, [0.5, -0.4], atol=0.01)
    assert f.constant == pytest.approx(0.3 * scale, rel=0.05)
    assert f.needed == kind.lost + 2
    left = y[f.needed :] - rolled(f, y, f.needed, len(y))[0]
    assert np.std(left) < 2e-3 * scale


def test_a_covariate_is_read_at_the_time_that_is_forecast():
    rng = np.random.default_rng(7)
    z = rng.normal(size=(100, 2))
    y = 3 + z @ [2.0, -1.0] + 1e-6 * rng.normal(size=100)
    f = Linear.fitted(y, 1, Differencing(), z)
    np.testing.assert_allclose(f.inputs, [2, -1], atol=1e-3)
    np.testing.assert_allclose(rolled(f, y, 1, 100, inputs=z)[0], y[1:], atol=1e-2)


def test_rolling_goes_on_from_its_own_forecasts():
    f = Linear(Differencing(), 1.0, np.array([2.0, 0.5]), np.zeros(0))
    y = np.array([1.0, 2, 3, 4])
    got = rolled(f, y, 2, 5, 3)
    assert got.shape == (3, 3)
    for i, t in enumerate((2, 3, 4)):
        past = y[:t].tolist()
        for h in range(3):
            past.append(1 + 2 * past[-1] + 0.5 * past[-2])
            assert got[h, i] == past[-1]


def test_rolling_in_blocks_gives_the_same():
    f = Autoregression.fitted(SPOTS, 9)
    whole, ticks = rolled(f, SPOTS, 50, 309, 4), []
    parts = rolled(f, SPOTS, 50, 309, 4, block=17, tick=ticks.append)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert (sum(ticks), max(ticks)) == (259, 17)


def test_errors_of_every_horizon():
    found = errors(np.array([[1.0, 2, 3], [10, 20, 30]]), np.array([0.0, 5, 5, 7]), 1)
    assert [row.tolist() for row in found] == [[4, 3, 4], [-5, -13]]


@pytest.mark.parametrize("name", ["spots", "months", "walk"])
def test_statsmodels_finds_the_same_order_and_coefficients(name):
    walk = np.random.default_rng(2).normal(size=90).cumsum()
    values = {"spots": SPOTS, "months": MONTHS, "walk": 1e6 + walk}[name]
    mine = Autoregression.by_aic(values, 15)
    lags = ar_select_order(values, 15, ic="aic").ar_lags
    assert mine.order == (0 if lags is None else max(lags))
    judge = AutoReg(values, mine.order).fit().params
    np.testing.assert_allclose(mine.coefficients, judge, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-15, 1e12])
def test_an_autoregression_is_the_same_in_any_unit(unit):
    one, other = Autoregression.by_aic(SPOTS), Autoregression.by_aic(SPOTS * unit)
    np.testing.assert_allclose(other.coefficients[1:], one.coefficients[1:], rtol=1e-9)
    np.testing.assert_allclose(other.one_step(SPOTS * unit), one.one_step(SPOTS) * unit, rtol=1e-9)


def test_a_long_autoregression_is_fitted_in_blocks(monkeypatch):
    whole = Autoregression.by_aic(SPOTS)
    monkeypatch.setattr("xprnn.data.baselines.ROWS", 37)
    np.testing.assert_allclose(Autoregression.by_aic(SPOTS).coefficients, whole.coefficients)


def test_the_baselines_by_hand():
    y = np.array([1.0, 3, 2, 5, 4, 6, 5, 8, 7, 9])
    found = fit_baselines(y, 2)
    last = {name: float(rolled(m, y, 10, 11)[0, 0]) for name, m in found.items()}
    assert last["persistence"] == 9
    assert last["drift"] == pytest.approx(9 + 8 / 9)
    assert last["seasonal"] == 7
    short = fit_baselines(y[:5])
    assert (short["ar"], short["seasonal"]) == (None, None)
    assert scale_of_errors(y, 2) == pytest.approx(np.mean(np.abs(y[2:] - y[:-2])))
    assert scale_of_errors(np.ones(5)) is None


def test_a_walk_is_forecast_in_differences_and_noise_in_levels():
    rng = np.random.default_rng(11)
    assert choose(rng.normal(size=(300, 1)).cumsum(axis=0)).differencing.name == "first"
    assert choose(rng.normal(size=(300, 1))).differencing.name == "none"


def test_a_season_that_drifts_is_forecast_in_seasonal_differences():
    rng = np.random.default_rng(12)
    pattern = rng.normal(size=(12, 1)).cumsum(axis=0)
    y = np.concatenate([pattern + 0.3 * k for k in range(20)]) + 0.01 * rng.normal(size=(240, 1))
    choice = choose(y, 12)
    assert choice.differencing.season == 12
    assert choose(y, 12, differences=("none",)).differencing == Differencing()
    assert choose(y, 12, window=5).window == 5


def test_what_comes_later_changes_no_choice_and_levels_can_be_ruled_out():
    y = np.random.default_rng(13).normal(size=(80, 1))
    one = choose(y[:60], 4)
    y[60:] = 1e6
    assert choose(y[:60], 4) == one
    assert one.differencing.name == "none"
    assert choose(y[:60], 4, changes=True).differencing.name != "none"


def test_the_combination_is_the_weighted_mean_of_its_candidates():
    y = SPOTS[:200, None]
    choice = choose(y, 11)
    (combined,) = choice.fitted(y, None)
    assert sum(combined.weights) == pytest.approx(1)
    weights = np.array(choice.weights[0])
    weights /= weights.sum()
    want = 0.0
    for weight, candidate in zip(weights, choice.candidates, strict=True):
        if weight:
            f = candidate.fitted(y[:, 0], None)
            want = want + weight * rolled(f, SPOTS, 200, 309)[0]
    np.testing.assert_allclose(rolled(combined, SPOTS, 200, 309)[0], want, rtol=1e-9)


def test_too_few_values_for_what_was_asked():
    with pytest.raises(ValueError, match="8 values are too few for differences both and a season"):
        choose(np.arange(8.0)[:, None], 12, differences=("both",))


def test_half_widths_by_hand():
    e = np.array([3.0, -1, 2, -5, 4, -6, 7, 8, -9])
    # ⌈10 · 0.9⌉ = 9, the largest of nine; ⌈10 · 0.5⌉ = 5.
    assert (half_width(e, 0.9), half_width(e, 0.5)) == (9, 5)
    assert (enough(9, 0.9), enough(8, 0.9)) == (True, False)
    assert half_width(e[:3], 0.9) == 3
    assert share_inside(np.array([1.0, -3, 2]), np.array([2.0, 2, np.nan])) == 0.5
    assert share_inside(e, np.full(9, np.nan)) is None


@pytest.mark.parametrize("horizon", [1, 3])
def test_an_interval_is_made_of_errors_that_were_known(horizon):
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=6), rng.normal(size=30)
    got = growing_widths(before, after, horizon, 0.8)
    for i in range(30):
        known = np.concatenate([before, after[: max(0, i - horizon + 1)]])
        assert got[i] == half_width(known, 0.8)
    assert np.isnan(growing_widths(np.zeros(0), after, horizon, 0.8)[:horizon]).all()


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(6)
    inside = [
        np.mean(np.abs(rng.standard_t(3, size=20)) <= half_width(rng.standard_t(3, size=40), 0.9))
        for _ in range(400)
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)
    assert Intervals(0.9, ((1.0, 2.0),)).band(3)[:2].ravel().tolist() == [1, 2]
