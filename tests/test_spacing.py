"""The steps between the times of a series: what they are called, and which times come next."""

from datetime import date, datetime, timedelta

import pytest

from xprnn.data import read_series


def days(first: date, step: int, count: int) -> list[date]:
    return [first + timedelta(days=step * k) for k in range(count)]


def hours(first: datetime, count: int, minutes: int = 60) -> list[str]:
    return [str(first + timedelta(minutes=minutes * k)) for k in range(count)]


BUSINESS = [day for day in days(date(2024, 1, 1), 1, 40) if day.weekday() < 5]
TRADING = [day for day in days(date(2023, 1, 2), 1, 60) if day.weekday() < 5 and day.day != 16]
SUNDAY_TO_THURSDAY = [day for day in days(date(2024, 1, 7), 1, 40) if day.weekday() not in (4, 5)]
MONTH_ENDS = ["2000-11-30", "2000-12-31", "2001-01-31", "2001-02-28", "2001-03-31"]
LAST_WEEKDAYS = ["2024-01-31", "2024-02-29", "2024-03-29", "2024-04-30", "2024-05-31", "2024-06-28"]
FIRST_WEEKDAYS = ["2024-05-01", "2024-06-03", "2024-07-01", "2024-08-01", "2024-09-02"]


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a file with a given column of times."""

    def read(times, **options):
        path = tmp_path / "file.csv"
        lines = [f'"{time}",{k % 5}\n' for k, time in enumerate(times)]
        path.write_text("t,y\n" + "".join(lines))
        series = read_series(path, "y", time="t", **options)
        assert sorted(series.values.tolist()) == sorted(k % 5 for k in range(len(times)))
        return series

    return read


@pytest.mark.parametrize(
    ("times", "description", "future"),
    [
        (["5", "9"], "steps of 4", ("13", "17")),
        (["1700", "1701", "1702"], "yearly", ("1703", "1704")),
        (["1700", "1710", "1720"], "steps of 10", ("1730", "1740")),
        (["-1", "-0.5", "0", "0.5"], "steps of 0.5", ("1.0", "1.5")),
        (["0", "0.333", "0.667", "1"], "steps of 0.333", ("1.333", "1.666")),
        (["12345678", "12345679", "12345680"], "steps of 1", ("12345681", "12345682")),
        ([str(1_700_000_000 + 60 * k) for k in range(9)], "every minute", ("1700000540",)),
        ([str(1_700_000_000_000 + 1000 * k) for k in range(9)], "every second", ("1700000009000",)),
        (
            ["2000-02-27", "2000-02-28", "2000-02-29", "2000-03-01"],
            "daily",
            ("2000-03-02", "2000-03-03"),
        ),
        ([d.strftime("%Y%m%d") for d in days(date(1958, 3, 29), 7, 20)], "weekly", ("19580816",)),
        (["1999-11-01", "1999-12-01", "2000-01-01"], "monthly", ("2000-02-01", "2000-03-01")),
        (MONTH_ENDS, "monthly", ("2001-04-30", "2001-05-31")),
        (LAST_WEEKDAYS, "monthly", ("2024-07-31", "2024-08-30", "2024-09-30")),
        (FIRST_WEEKDAYS, "monthly", ("2024-10-01", "2024-11-01", "2024-12-02")),
        (["2001-01-30", "2001-02-28", "2001-03-30"], "monthly", ("2001-04-30", "2001-05-30")),
        (["1999-10-15T12:00", "2000-01-15T12:00", "2000-04-15T12:00"], "quarterly", None),
        (["1999-11", "1999-12", "2000-01", "2000-02"], "monthly", ("2000-03", "2000-04")),
        (["195801", "195802", "195803", "195804"], "monthly", ("195805", "195806")),
        (["2000-01-01", "2001-01-01", "2002-01-01"], "yearly", ("2003-01-01",)),
        (["2000Q2", "2000Q3", "2000Q4", "2001Q1"], "quarterly", ("2001Q2", "2001Q3")),
        (["2000-Q3", "2000-Q4", "2001-Q1"], "quarterly", ("2001-Q2", "2001-Q3")),
        (["Q3 2000", "Q4 2000", "Q1 2001"], "quarterly", ("Q2 2001", "Q3 2001")),
        (["2000M11", "2000M12", "2001M01"], "monthly", ("2001M02",)),
        (["2020-W52", "2020-W53", "2021-W01"], "weekly", ("2021-W02", "2021-W03")),
        (["1998/99", "1999/00", "2000/01"], "yearly", ("2001/02",)),
        (
            ["2000-01-01T00:00", "2000-01-01T00:10", "2000-01-01T00:20"],
            "every 10 minutes",
            ("2000-01-01T00:30",),
        ),
        (hours(datetime(2000, 1, 1, 22), 5), "hourly", ("2000-01-02 03:00:00",)),
        # An hour each, across the change to summer time.
        (
            ["2000-03-26T01:00+01:00", "2000-03-26T03:00+02:00", "2000-03-26T04:00+02:00"],
            "hourly",
            ("2000-03-26T05:00+02:00",),
        ),
        (
            [f"2024-0{month}-01T00:00+01:00" for month in (1, 2, 3)],
            "monthly",
            ("2024-04-01T00:00+01:00", "2024-05-01T00:00+01:00"),
        ),
        ([f"{day}T00:30:00+09:00" for day in BUSINESS], "business days", None),
        (
            ["2020-01-15", "2020-02-14", "2020-03-16", "2020-04-15", "2020-05-18"],
            "monthly on different days",
            ("2020-06-18",),
        ),
        (["2000-01-01T00:00Z", "2000-01-01T06:00Z"], "every 6 hours", ("2000-01-01T12:00Z",)),
        (BUSINESS, "business days", ("2024-02-12", "2024-02-13")),
        (SUNDAY_TO_THURSDAY, "daily without Fridays and Saturdays", ("2024-02-18", "2024-02-19")),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_even_times(read, times, description, future):
    series = read(times)
    assert series.times == tuple(map(str, times))
    assert (series.spacing.description, series.spacing.even) == (description, True)
    assert series.values.tolist() == [k % 5 for k in range(len(times))]
    if future is not None:
        assert series.future(len(future)) == future


@pytest.mark.parametrize(
    ("times", "description", "told", "future"),
    [
        (
            ["2000-02-26", "2000-02-27", "2000-02-28", "2000-03-01", "2000-03-02"],
            "daily",
            "1 time is missing, between lines 4 and 5 (2000-02-28, 2000-03-01)",
            "2000-03-03",
        ),
        (
            ["2000-01", "2000-02", "2000-03", "2000-07", "2000-08"],
            "monthly",
            "3 times are missing, between lines 4 and 5 (2000-03, 2000-07)",
            "2000-09",
        ),
        (["1", "2", "3", "5"], "steps of 1", "1 time is missing, between lines 4 and 5", "6"),
        (
            TRADING,
            "business days",
            "2 weekdays are missing, between lines 11 and 12 (2023-01-13, 2023-01-17)",
            "2023-03-03",
        ),
        (
            [str(datetime(2024, 3, 1) + timedelta(seconds=60 * k + k % 3)) for k in range(20)],
            "about every minute",
            "",
            "2024-03-01 00:20:01",
        ),
        (
            ["2020-01-01", "2020-01-02", "2020-01-07", "2020-02-19", "2020-03-03"],
            "irregular",
            "the times are labels: rows count as steps",
            "+1",
        ),
        (["1", "1.7", "4", "4.2"], "irregular", "the times are labels", "+1"),
        (
            ["2024-03-31 00:00", "2024-03-31 01:00", "2024-03-31 03:00", "2024-03-31 04:00"],
            "hourly",
            "clocks change between lines 3 and 4 (2024-03-31 01:00, 2024-03-31 03:00)",
            "2024-03-31 05:00",
        ),
        (
            ["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"],
            "hourly",
            "clocks change between lines 3 and 4",
            "2024-10-27 04:00",
        ),
        (
            [f"2024-10-27 0{h}:{m}" for h in (1, 2, 2, 3) for m in ("00", "30")],
            "every 30 minutes",
            "clocks change between lines 5 and 6 (2024-10-27 02:30, 2024-10-27 02:00)",
            "2024-10-27 04:00",
        ),
        (
            ["2020-01-01", "2020-01-02", "2020-01-02", "2020-01-03"],
            "daily",
            "the same time in lines 3 and 4 (2020-01-02)",
            "2020-01-04",
        ),
        (["3", "2", "1", "0"], "steps of 1", "newest first, turned round", "4"),
        (
            ["2020-03-01", "2020-02-01", "2020-01-01"],
            "monthly",
            "newest first, turned round",
            "2020-04-01",
        ),
        (
            ["1", "2", "3", "5", "4", "6", "7", "8"],
            "steps of 1",
            "not in order (line 6, 4 after line 5, 5), sorted by t",
            "9",
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_times_that_are_told_of(read, times, description, told, future):
    series = read(times)
    assert series.spacing.description == description
    assert told in "; ".join(series.notes)
    assert series.future(1) == (future,)


def test_a_file_that_is_turned_round_is_the_other(read):
    up = hours(datetime(2024, 3, 29), 80)
    forward, backward = read(up), read(up[::-1])
    assert backward.times == forward.times
    assert backward.future(5) == forward.future(5)
    assert backward.values.tolist() == [k % 5 for k in range(80)][::-1]


def test_a_missing_hour_shows_in_a_long_file(read):
    times = hours(datetime(2000, 1, 1), 3000)
    del times[2000]
    series = read(times)
    assert series.spacing.missing == ((2000, 1),)
    assert "lines 2001 and 2002 (2000-03-24 07:00:00, 2000-03-24 09:00:00)" in series.notes[-1]


@pytest.mark.parametrize(
    ("times", "line", "problem"),
    [
        (["1700", "soon", "1702"], 3, "'soon' is neither a number nor a date"),
        (["1700", "", "1702"], 3, "the time is missing; --time names another column"),
        (["1", "2", "nan"], 4, "'nan' is neither a number nor a date"),
        (["1", "inf"], 3, "'inf' is neither a number nor a date"),
        (["1700", "1701", "1702-01"], 4, "'1702-01' is a date, unlike '1700'"),
        (["1702-01", "1702-02", "1703"], 4, "'1703' is a number, unlike '1702-01'"),
        (["2000-13"], 2, "'2000-13' "),
        (["3/29/1958", "3/30/1958", "3/32/1958"], 4, "'3/32/1958' is no date, unlike '3/29/1958'"),
    ],
)
def test_what_is_no_time_is_named(read, times, line, problem):
    with pytest.raises(ValueError) as caught:
        read(times)
    assert f", line {line}, column 't': {problem}" in str(caught.value)
    assert "--time none takes the rows in order" in str(caught.value)


def test_the_time_column_must_be_there(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("t,y\n1,2\n")
    with pytest.raises(ValueError, match="has no column 'year': its columns are 't', 'y'"):
        read_series(path, "y", time="year")


def test_after_the_last_date_steps_are_counted(read):
    assert read(["9999-12-29", "9999-12-30", "9999-12-31"]).future(2) == ("+1", "+2")
