"""Forecasters read pandas' objects and return them, with their index."""

import numpy as np
import pandas as pd
import pytest

from xprnn import RNN, Forecaster

N, WINDOW = 24, 4
VALUES = np.sin(np.arange(N) / 3) * 10 + np.arange(N)


def make(values=VALUES, columns=1, covariates=None):
    known = 0 if covariates is None else covariates.shape[-1]
    net = RNN(columns + known, 5, columns, returns="last", dtype="float64", rng=0)
    return Forecaster.fitted_scaling(net, WINDOW, values, covariates=covariates)


INDEXES = {
    "months": (
        pd.date_range("2020-01-31", periods=N, freq="ME"),
        pd.date_range("2022-01-31", periods=3, freq="ME"),
    ),
    "months without their frequency": (
        pd.DatetimeIndex(list(pd.date_range("2020-01-01", periods=N, freq="MS"))),
        pd.DatetimeIndex(["2022-01-01", "2022-02-01", "2022-03-01"]),
    ),
    "days over a change of clocks": (
        pd.date_range("2024-03-10", periods=N, freq="D", tz="Europe/Berlin"),
        pd.date_range("2024-04-03", periods=3, freq="D", tz="Europe/Berlin"),
    ),
    "business days": (
        pd.bdate_range("2024-01-01", periods=N, name="day"),
        pd.DatetimeIndex(["2024-02-02", "2024-02-05", "2024-02-06"], name="day"),
    ),
    "quarters": (
        pd.period_range("2015Q1", periods=N, freq="Q", name="quarter"),
        pd.period_range("2021Q1", periods=3, freq="Q", name="quarter"),
    ),
    "durations": (
        pd.timedelta_range("0s", periods=N, freq="5min"),
        pd.TimedeltaIndex(["2h", "2h 5min", "2h 10min"]),
    ),
    "a range": (pd.RangeIndex(10, 10 + 2 * N, 2), pd.RangeIndex(58, 64, 2)),
    "years": (pd.Index(np.arange(1990, 1990 + N), name="year"), pd.Index([2014, 2015, 2016])),
    "numbers": (pd.Index(np.arange(N) * 0.25), pd.Index([6.0, 6.25, 6.5])),
    "times of no frequency": (
        pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(N) ** 2, unit="h")),
        pd.RangeIndex(N, N + 3),
    ),
    "words": (pd.Index([f"t{k:02}" for k in range(N)]), pd.RangeIndex(N, N + 3)),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_series_comes_back_with_its_index(name):
    index, after = INDEXES[name]
    series = pd.Series(VALUES, index=index, name="sales")
    forecaster = make(series)
    assert forecaster.scaling == make().scaling
    found = forecaster.one_step(series)
    assert isinstance(found, pd.Series)
    assert found.name == "sales"
    pd.testing.assert_index_equal(found.index, index[WINDOW:])
    np.testing.assert_array_equal(found, forecaster.one_step(VALUES))
    ahead = forecaster.closed_loop(series, 3)
    assert ahead.name == "sales"
    assert list(ahead.index) == list(after)
    np.testing.assert_array_equal(ahead, forecaster.closed_loop(VALUES, 3))


def test_what_is_ahead_has_the_name_and_the_frequency():
    months = pd.Series(VALUES, pd.date_range("2020-01-31", periods=N, freq="ME", name="month"))
    ahead = make(months).closed_loop(months, 2)
    assert ahead.index.name == "month"
    assert ahead.index.freq == months.index.freq
    quarters = pd.Series(VALUES, INDEXES["quarters"][0])
    index = make(quarters).closed_loop(quarters, 2).index
    assert isinstance(index, pd.PeriodIndex)
    assert index.name == "quarter"


def test_a_data_frame_of_several_columns_and_covariates():
    index = pd.date_range("2024-01-01", periods=N + 2, freq="D")
    holiday = pd.DataFrame({"holiday": np.arange(N + 2) % 7 == 0}, index).astype("int8")
    frame = pd.DataFrame({"a": VALUES, "b": np.float32(2) * VALUES[::-1]}, index[:N])
    forecaster = make(frame, 2, holiday[:N])
    assert len(forecaster.scaling) == 2
    batch = next(iter(forecaster.training_batches(frame, 8, None, covariates=holiday[:N])))
    assert batch.x.shape == (WINDOW, 8, 3)
    found = forecaster.one_step(frame, holiday[:N])
    assert list(found.columns) == ["a", "b"]
    ahead = forecaster.closed_loop(frame, 2, holiday)
    pd.testing.assert_index_equal(ahead.index, index[N:])
    arrays = forecaster.closed_loop(frame.to_numpy(), 2, holiday.to_numpy())
    np.testing.assert_array_equal(ahead, arrays)
    # One covariate may be a Series.
    np.testing.assert_array_equal(forecaster.closed_loop(frame, 2, holiday["holiday"]), arrays)


def test_a_data_frame_of_one_column():
    frame = pd.DataFrame({"a": VALUES})
    forecaster = make(frame)
    assert forecaster.closed_loop(frame, 2).shape == (2, 1)
    # A forecaster of a series takes it, too.
    assert list(make().closed_loop(frame, 2).columns) == ["a"]
    # pandas' and arrow's own numbers.
    for dtype in ("Float64", "float[pyarrow]", "Int32"):
        of_dtype = frame.round().astype(dtype)
        np.testing.assert_array_equal(
            forecaster.one_step(of_dtype), forecaster.one_step(of_dtype.astype("float64"))
        )


def spoiled(series):
    series = series.copy()
    series.iloc[7] = np.nan
    return series


SERIES = pd.Series(VALUES, pd.date_range("2024-01-01", periods=N, freq="D"))
FRAME = SERIES.to_frame("a")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (spoiled(SERIES), ValueError, "no value at 2024-01-08 .*1 are missing.*read_series"),
        (SERIES[::-1], ValueError, "index that does not increase.*sort_index"),
        (SERIES.astype(str), TypeError, "has dtype str|has dtype object"),
        (FRAME.astype("category"), TypeError, "column 'a', has dtype category"),
        (SERIES > 3, TypeError, "has dtype bool"),
        (pd.concat([FRAME, FRAME], axis=1), ValueError, "columns of the same name: 'a'"),
        (pd.concat({"x": FRAME}, axis=1), ValueError, "columns of 2 levels"),
        (pd.concat({"x": SERIES}), ValueError, "an index of 2 levels"),
        (SERIES.set_axis([pd.NaT, *SERIES.index[1:]]), ValueError, "missing times"),
        (FRAME.assign(b=1.0), ValueError, r"shape \(24, 2\)"),
        (
            SERIES.set_axis([*SERIES.index[:-1], SERIES.index[-2]]),
            ValueError,
            "'2024-01-23 00:00:00' more than once in its index",
        ),
        (SERIES[:3], ValueError, "values has 3 entries"),
    ],
)
def test_what_is_refused(bad, error, message):
    with pytest.raises(error, match=message):
        make().closed_loop(bad, 2)


def test_covariates_have_the_times_of_the_values_and_of_those_to_come():
    days = SERIES.index.append(pd.DatetimeIndex(["2024-02-01", "2024-02-09"]))
    holiday = pd.DataFrame({"holiday": np.arange(N + 2) % 7.0}, days)
    forecaster = make(SERIES, covariates=holiday[:N])
    ahead = forecaster.closed_loop(SERIES, 2, holiday)
    pd.testing.assert_index_equal(ahead.index, days[N:])
    later = holiday.set_axis(days + pd.Timedelta("1D"))
    message = "row 0 is of '2024-01-02 00:00:00', that of values '2024-01-01 00:00:00'"
    for refused in (
        lambda: make(SERIES, covariates=later[:N]),
        lambda: forecaster.one_step(SERIES, later[:N]),
        lambda: forecaster.training_batches(SERIES, 8, None, covariates=later[:N]),
        lambda: forecaster.closed_loop(SERIES, 2, later),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    with pytest.raises(ValueError, match="its dtype is int64, that of values datetime64"):
        forecaster.closed_loop(SERIES, 2, holiday.reset_index(drop=True))
