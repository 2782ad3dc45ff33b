"""Data frames as values of a forecaster, and its forecasts as data frames, with their index.

pandas is imported where a frame was passed, so it is there.
"""

import warnings
from collections.abc import Callable
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.sheets import is_frame


def host_values(name: str, given: Any, *, one: bool = False) -> HostArray:
    """Return the values of a Series, (N,), or of a DataFrame, (N, C); an array as it is.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    given : DataFrame, Series or array
    one : bool
        Whether a DataFrame of one column is taken for a series, (N,).

    Raises
    ------
    TypeError
        If a column has no real numbers.
    ValueError
        If a value is missing, or column names stand twice or have levels; the index too if it has
        levels, is not in increasing order, or has missing times or one twice.
    """
    if not is_frame(given):
        array: HostArray = given
        return array
    _check_index(name, given.index)
    frame = given.to_frame() if given.ndim == 1 else given
    if frame.columns.nlevels > 1:
        raise ValueError(
            f"{name} has columns of {frame.columns.nlevels} levels: expected one name a column"
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique()
        raise ValueError(
            f"{name} has columns of the same name: {listed(map(quoted, map(str, twice)), 5)}"
        )
    read = []
    for column in frame.columns:
        dtype = frame[column].dtype
        # pandas' own dtypes for numbers, and those of arrow, have a kind, too.
        if getattr(dtype, "kind", "O") not in "iuf":
            raise TypeError(
                f"{name}, column {quoted(str(column))}, has dtype {dtype}: expected real numbers"
            )
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        missing = np.flatnonzero(np.isnan(values))
        if len(missing):
            raise ValueError(
                f"{name}, column {quoted(str(column))}, has no value at {given.index[missing[0]]} "
                f"({len(missing)} are missing): fill them in, or read the frame by "
                "xprnn.data.read_series(frame, column, missing=...)"
            )
        read.append(values)
    found: HostArray = np.stack(read, axis=1) if read else np.empty((len(frame), 0))
    return found[:, 0] if given.ndim == 1 or (one and len(read) == 1) else found


def _check_index(name: str, index: Any) -> None:
    if index.nlevels > 1:
        raise ValueError(f"{name} has an index of {index.nlevels} levels: expected one")
    if index.hasnans:
        raise ValueError(f"{name} has an index with missing times")
    if not index.is_monotonic_increasing:
        raise ValueError(
            f"{name} has an index that does not increase: expected the order of time, as of "
            f"{name}.sort_index()"
        )
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(
            f"{name} has {quoted(str(twice))} more than once in its index: expected every time once"
        )


def check_aligned(values: Any, covariates: Any) -> None:
    """Check that covariates with an index begin with the times of the values.

    Raises
    ------
    ValueError
        If both have an index, and the rows of the values are not of the same times.
    """
    if not (is_frame(values) and is_frame(covariates)):
        return
    own, known = values.index, covariates.index[: len(values)]
    if len(own) != len(known) or own.equals(known):
        return  # How many rows are expected depends on who asks, and is checked there.
    if own.dtype == known.dtype:
        (row, *_) = (k for k, pair in enumerate(zip(own, known, strict=True)) if pair[0] != pair[1])
        where = f"row {row} is of {quoted(str(known[row]))}, that of values {quoted(str(own[row]))}"
    else:
        where = f"its dtype is {known.dtype}, that of values {own.dtype}"
    raise ValueError(
        f"covariates has another index than values: {where}; expected the same times, then those "
        "to forecast"
    )


def framed(values: HostArray, like: Any, follow: Callable[[Any], Any]) -> Any:
    """Return forecasts as a Series or DataFrame like the values that they were made from.

    ``follow`` makes the index of that one; the names and the kind are the same. If ``like`` is an
    array, the forecasts are returned as they are.
    """
    if not is_frame(like):
        return values
    index = follow(like.index)
    if like.ndim == 1:
        return type(like)(values.reshape(len(index)), index=index, name=like.name)
    return type(like)(values.reshape(len(index), -1), index=index, columns=like.columns)


def ahead(index: Any, steps: int, covariates: Any = None) -> Any:
    """Return the index of the steps after an index: that of the covariates, if they have one.

    Times go on in the index's frequency, or else in the one that all its times have; numbers of
    one distance go on in it. Steps after any other index have their position: N, N + 1, ...
    """
    import pandas as pd

    if covariates is not None and is_frame(covariates):
        return covariates.index[len(index) :]
    name, last = index.name, index[-1]
    if isinstance(index, pd.PeriodIndex):
        return pd.period_range(last + 1, periods=steps, freq=index.freq, name=name)
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        frequency = index.freq if index.freq is not None else _frequency(index)
        if frequency is not None:
            make = pd.date_range if isinstance(index, pd.DatetimeIndex) else pd.timedelta_range
            return make(last, periods=steps + 1, freq=frequency, name=name)[1:]
    elif isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(
            last + index.step, last + (steps + 1) * index.step, index.step, name=name
        )
    elif pd.api.types.is_numeric_dtype(index.dtype) and len(index) > 1:
        numbers = index.to_numpy()
        gaps = np.diff(numbers)
        if np.all(np.abs(gaps - gaps[0]) <= 1e-9 * np.abs(gaps[0])):
            return pd.Index(last + gaps[0] * np.arange(1, steps + 1), name=name)
    return pd.RangeIndex(len(index), len(index) + steps)


def _frequency(index: Any) -> Any:
    """Return the frequency of all times, or None."""
    import pandas as pd

    if len(index) < 3:
        return None
    with warnings.catch_warnings():  # of what a later pandas will return
        warnings.simplefilter("ignore")
        return pd.infer_freq(index)
