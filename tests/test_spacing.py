"""The time column of a CSV file: what counts as evenly spaced, and what is refused."""

from datetime import date, datetime, timedelta

import pytest

from xprnn.data import read_csv


@pytest.fixture
def times_of(tmp_path):
    """Return a function that reads a file with a given time column."""

    def times_of(times):
        path = tmp_path / "file.csv"
        lines = [f"{time},{k}\n" for k, time in enumerate(times)]
        path.write_text("t,y\n" + "".join(lines))
        series = read_csv(path, "y", time="t")
        assert series.values.tolist() == list(range(len(times)))
        return series.times

    return times_of


def days(first: date, step: int, count: int) -> list[date]:
    return [first + timedelta(days=step * k) for k in range(count)]


@pytest.mark.parametrize(
    "times",
    [
        ["1"],
        ["5", "9"],
        ["1700", "1701", "1702"],
        ["-1", "-0.5", "0", "0.5"],
        [f"{0.1 * k}" for k in range(30)],
        ["0", "0.333", "0.667", "1"],
        [f"{1_700_000_000 + k}" for k in range(9)],
        ["2000-02-27", "2000-02-28", "2000-02-29", "2000-03-01"],
        [d.strftime("%Y%m%d") for d in days(date(1958, 3, 29), 7, 200)],
        ["20000101", "20000102", "20000103"],
        ["1999-11-01", "1999-12-01", "2000-01-01", "2000-02-01"],
        ["1999-11-30", "1999-12-31", "2000-01-31", "2000-02-29", "2000-03-31"],
        ["1999-10-15T12:00", "2000-01-15T12:00", "2000-04-15T12:00"],
        ["1999-11", "1999-12", "2000-01", "2000-02"],
        ["2000-01-01", "2001-01-01", "2002-01-01"],
        ["2000-01-01T00:00", "2000-01-01T00:10", "2000-01-01T00:20"],
        ["2000-01-01 22:00:00", "2000-01-01 23:00:00", "2000-01-02 00:00:00"],
        # An hour each, across the change to summer time.
        ["2000-03-26T01:00+01:00", "2000-03-26T03:00+02:00", "2000-03-26T04:00+02:00"],
        ["12345678", "12345679", "12345680"],
    ],
    ids=lambda times: f"{times[0]}...",
)
def test_even_times(times_of, times):
    assert times_of(times) == tuple(times)


@pytest.mark.parametrize(
    ("times", "line", "problem"),
    [
        (["1700", "1701", "1703"], 4, "the step from '1701' to '1703' differs from the one before"),
        (["1", "2", "2"], 4, "the step from '2' to '2' differs from the one before"),
        (["1", "2", "3", "2"], 5, "the step from '3' to '2' differs from the one before"),
        (["3", "2", "1"], 3, "the step from '3' to '2' does not go forward"),
        (["3", "2"], 3, "the step from '3' to '2' does not go forward"),
        (["3", "3", "3"], 3, "the step from '3' to '3' does not go forward"),
        (["0", "1", "2.02"], 4, "the step from '1' to '2.02' differs"),
        (
            [f"{1_700_000_000 + k + (k > 4)}" for k in range(9)],
            7,
            "the step from '1700000004' to '1700000006' differs",
        ),
        (
            ["2000-02-27", "2000-02-28", "2000-03-01"],
            4,
            "the step from '2000-02-28' to '2000-03-01' differs",
        ),
        (["20000101", "20000108", "20000116"], 4, "the step from '20000108' to '20000116' differs"),
        (["2000-01", "2000-02", "2000-04"], 4, "the step from '2000-02' to '2000-04' differs"),
        (["2000-01", "2000-02", "2000-03", "2000-05"], 5, "the step from '2000-03' to '2000-05'"),
        (["2000-01-31", "2000-02-29", "2000-03-30"], 4, "the step from '2000-02-29' to"),
        (["2000-01-01T00", "2000-02-01T00", "2000-03-01T01"], 4, "the step from '2000-02-01T00'"),
        (["2000-01", "1999-12", "1999-11"], 3, "the step from '2000-01' to '1999-12' does not go"),
        (["1700", "soon", "1702"], 3, "'soon' is neither a number nor an ISO 8601 date"),
        (["1700", "", "1702"], 3, "'' is neither a number nor an ISO 8601 date"),
        (["1", "2", "nan"], 4, "'nan' is neither a number nor an ISO 8601 date"),
        (["1", "inf"], 3, "'inf' is neither a number nor an ISO 8601 date"),
        (["3/29/1958", "3/30/1958"], 2, "'3/29/1958' is neither a number nor an ISO 8601 date"),
        (["2000-13"], 2, "'2000-13' is neither a number nor an ISO 8601 date"),
        (["1700", "1701", "1702-01"], 4, "'1702-01' is a date, unlike '1700'"),
        (["1702-01", "1702-02", "1703"], 4, "'1703' is a number, unlike '1702-01'"),
    ],
)
def test_uneven_times_are_named(times_of, times, line, problem):
    with pytest.raises(ValueError) as caught:
        times_of(times)
    assert f", line {line}, column 't': {problem}" in str(caught.value)


def test_uneven_times_say_how_to_do_without(times_of):
    with pytest.raises(ValueError, match="evenly spaced rows, as they are assumed to be if no"):
        times_of(["1", "2", "4"])


def test_a_missing_hour_shows_in_a_long_file(times_of):
    hours = [datetime(2000, 1, 1) + timedelta(hours=k) for k in range(3000)]
    del hours[2000]
    with pytest.raises(
        ValueError, match=r"line 2002, .* from '2000-03-24T07:00:00' to '2000-03-24T"
    ):
        times_of([hour.isoformat() for hour in hours])


def test_the_time_column_must_be_there(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("t,y\n1,2\n")
    with pytest.raises(ValueError, match="has no column 'year': its columns are 't', 'y'"):
        read_csv(path, "y", time="year")
