"""Reading a column of a CSV file; scaling; windows."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xprnn.data import Scaling, read_csv, sunspots, windows
from xprnn.data.series import check_series

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file, from text or from bytes."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "file.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("t,y\n1,0.5\n2,-3\n3,1e3\n", {}),
        ("t,y\n1,0.5\n2,-3\n3,1e3", {}),
        ('"t","y"\n1,0.5\n"2","-3"\n3,1e3\n', {}),
        ("t,y\r\n1,0.5\r\n2,-3\r\n3,1e3\r\n", {}),
        ("t,y\r1,0.5\r2,-3\r3,1e3\r", {}),
        ("\ufefft,y\n1,0.5\n2,-3\n3,1e3\n", {}),
        ("\ufeffy,t\n0.5,1\n-3,2\n1e3,3\n", {}),
        ("t,y\n1,0.5\n2,-3\n3,1e3\n\n \n\t\n\n", {}),
        (' t , y \n1, 0.5 \n2 ,-3\n3,  "1e3"\n', {}),
        ('"t", "y"\n1, 0.5\n2, -3\n3, 1e3\n', {}),
        ("t;y\n1;0.5\n2;-3\n3;1e3\n", {"delimiter": ";"}),
        ("t\ty\n1\t0.5\n2\t-3\n3\t1e3\n", {"delimiter": "\t"}),
        ("t   y\n1   0.5\n2    -3\n3   1e3\n", {"delimiter": " "}),
        ("t,y\n1,0.5\n2,-3\n3,1e3\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("café,y\n1,0.5\n2,-3\n3,1e3\n".encode("latin-1"), {"encoding": "latin-1"}),
        ('note,y\n"two\nlines, and a comma",0.5\n,-3\n"""",1e3\n', {}),
        ("y\n0.5\n-3\n1e3\n", {}),
        ("y\n0.5\n-3\n1e3\n\n  \n\n", {}),
        ("t,y,t,t\n1,0.5,,\n2,-3,,x\n3,1e3,nan,\n", {}),
    ],
)
def test_a_file_that_is_right(write, content, options):
    series = read_csv(write(content), "y", **options)
    assert series.name == "y"
    assert series.values.dtype == np.float64
    assert series.values.tolist() == [0.5, -3.0, 1000.0]
    assert series.times in (None, ("1", "2", "3"))


def test_the_path_may_be_text(write):
    assert read_csv(str(write("y\n7\n")), "y").values.tolist() == [7]


@settings(derandomize=True, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text("ab,;\"'\n \r", max_size=5), st.floats(allow_nan=False, width=64)),
        min_size=1,
        max_size=8,
    ).filter(lambda rows: all(math.isfinite(value) for _, value in rows)),
    quoting=st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)),
    delimiter=st.sampled_from(",;\t|"),
)
def test_what_the_csv_module_writes_is_read_back_exactly(
    tmp_path_factory, rows, quoting, delimiter
):
    path = tmp_path_factory.mktemp("csv") / "file.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=quoting, delimiter=delimiter)
        writer.writerow(("text", "y"))
        writer.writerows(rows)
    values = read_csv(path, "y", delimiter=delimiter).values
    assert values.tobytes() == np.array([value for _, value in rows]).tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "t,y\n1,2\n2,\n3,4\n",
            "line 3, column 'y': the value is missing: expected --missing fill",
        ),
        ("t,y\n1,2\n2,  \n3,4\n", "line 3, column 'y': the value is missing"),
        ("t,y\n1,2\n,\n3,4\n", "line 3, column 'y': the value is missing"),
        ("t,y\n1,2\n , \n\n3,4\n", "line 3, column 'y': the value is missing"),
        ("t,y\n1,2\n2,NA\n3,4\n", "line 3, column 'y': the value is missing"),
        ("t,y\r\n1,2\r\n2,NA\r\n3,4\r\n", "line 3, column 'y': the value is missing"),
        ("t,y\n1,1_000\n", "line 2, column 'y': '1_000' is not a number"),
        ('t,y\n1,"3;5"\n', "line 2, column 'y': '3;5' is not a number"),
        ("t,y\n1,-inf\n", "line 2, column 'y': '-inf' is not a finite number"),
        ("t,y\n1,1e999\n", "line 2, column 'y': '1e999' is not a finite number"),
        ("t,y\n1,2\n2,3,4\n", "line 3: 3 fields, where the header has 2"),
        ("t,y\n1,2\n2\n", "line 3: 1 fields, where the header has 2"),
        ("y\n1\n\n3\n", "line 3, column 'y': the value is missing"),
        ('t,y\n"a\nb",1\n"c\nd",\n"e\nf",2\n', "line 5, column 'y': the value is missing"),
        ('t,y\n"one\n\n\ntwo",1\n2,x\n', "line 6, column 'y': 'x' is not a number"),
        ('t,y\n1,2\n"2"3,4\n', "line 3: ',' expected after '\"'"),
        ('t,y\n1,2\n"2,4\n5,6\n', "line 4: unexpected end of data"),
    ],
)
def test_a_line_that_is_wrong_is_named(write, content, message):
    path = write(content)
    with pytest.raises(ValueError) as caught:
        read_csv(path, "y")
    assert str(caught.value).startswith(f"{str(path)!r}, {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t,x\n1,2\n", " has no column 'y': its columns are 't', 'x'"),
        ("t,Y\n1,2\n", " has no column 'y': its columns are 't', 'Y'"),
        ("t~y\n1~2\n", " has no column 'y': its columns are 't~y'"),
        (
            "y,x,y\n1,2,3\n",
            " has 2 columns 'y': its columns are 'y', 'x', 'y'; --column takes the number of one, "
            "too, such as 1",
        ),
        ("", ": the file is empty; expected a line that names the columns"),
        ("\n \n\n", ": the file is empty; expected a line that names the columns"),
        ("t,y\n", " has a header, but no data"),
        ("t,y\n\n\n", " has a header, but no data"),
    ],
)
def test_a_header_that_is_wrong(write, content, message):
    path = write(content)
    with pytest.raises(ValueError) as caught:
        read_csv(path, "y")
    assert str(caught.value) == f"{str(path)!r}{message}"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("lines", [0, 3, 5000])
def test_bytes_of_another_encoding_are_named_where_they_are(write, mark, lines):
    """Where some characters are UTF-8, the others are damaged."""
    good = (mark + "t,y\n" + "1,2\n" * lines).encode()
    path = write(good + "café,3\n".encode("latin-1") + "naïve,4\n".encode())
    where = rf"line {lines + 2}, byte {len(good) + 3} of the file: not utf-8; .*'café,3' with"
    with pytest.raises(ValueError, match=where):
        read_csv(path, "y")


def test_what_is_not_utf8_but_looks_like_windows_1252_is_read_and_told(write):
    series = read_csv(write("Größe;Preis €\n1;2\n3;4\n5;6\n".encode("cp1252")), "Preis €")
    assert series.values.tolist() == [2, 4, 6]
    assert "not UTF-8, read as Windows-1252 (--encoding names another)" in series.notes


def test_an_encoding_that_is_none(write):
    with pytest.raises(ValueError, match=r"the encoding is 'klingon', which .* encoding='utf-8'"):
        read_csv(write("y\n1\n"), "y", encoding="klingon")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        read_csv(tmp_path / "nothing.csv", "y")


def test_the_sunspots():
    series = read_csv(sunspots(), "SUNACTIVITY", time="YEAR")
    assert series.times == tuple(str(year) for year in range(1700, 2009))
    assert series.values.shape == (309,)
    assert (series.values[0], series.values[-1]) == (5.0, 2.9)
    highest = int(series.values.argmax())
    assert (series.times[highest], series.values[highest]) == ("1957", 190.2)
    assert math.isclose(series.values.sum(), 15373.4)


def test_scaling_gives_mean_zero_and_deviation_one_and_is_undone():
    values = np.array([1.0, 3.0, 5.0, 11.0])
    scaling = Scaling.fitted(values)
    assert scaling == (5.0, np.sqrt(14.0))
    np.testing.assert_allclose(scaling.apply(values), np.array([-4, -2, 0, 6]) / np.sqrt(14))
    np.testing.assert_allclose(scaling.invert(scaling.apply(values)), values, rtol=1e-15)


@pytest.mark.parametrize("unit", [1e-100, 1e-14, 1.0, 1e100])
def test_scaling_works_in_any_unit(unit):
    scaled = Scaling.fitted(unit * np.arange(9.0)).apply(unit * np.arange(9.0))
    np.testing.assert_allclose(scaled, (np.arange(9) - 4) / np.sqrt(60 / 9), atol=1e-14)


@pytest.mark.parametrize("value", [0.0, 0.1, -5.0, 1e-14, 1e5])
def test_scaling_refuses_what_does_not_change(value):
    with pytest.raises(ValueError, match=f"all 7 values of the training part are {value:g}"):
        Scaling.fitted(np.full(7, value))


@pytest.mark.parametrize("unit", [1e200, 1e307])
def test_scaling_refuses_what_is_too_large(unit):
    message = f"the values of the training part reach {9 * unit:g}, too large to be scaled"
    with pytest.raises(ValueError, match=re.escape(message)):
        Scaling.fitted(unit * np.arange(1.0, 10))


def test_scaling_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match=r"values\[1\] is nan: expected finite"):
        Scaling.fitted(np.array([1.0, NAN]))


def test_windows_are_every_run_and_what_follows_it():
    x, target = windows(np.arange(10.0, 17.0), 3)
    assert x[:, :, 0].T.tolist() == [
        [10, 11, 12],
        [11, 12, 13],
        [12, 13, 14],
        [13, 14, 15],
    ]
    assert target.tolist() == [[13], [14], [15], [16]]
    assert x.shape == (3, 4, 1)


def test_windows_are_the_caller_s_own():
    values = np.arange(5.0)
    x, target = windows(values, 2)
    x[...] = target[...] = 9
    assert values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "length", "error", "message"),
    [
        (np.arange(3.0), 3, ValueError, "values has 3 entries: expected more than 3"),
        (np.arange(3.0), 0, ValueError, "length is 0: expected an int of at least 1"),
        (np.arange(3.0), 1.5, TypeError, r"length is 1\.5 \(float\): expected an int"),
        (np.ones((3, 1)), 1, ValueError, r"values has shape \(3, 1\): expected \(N,\)"),
        (np.array([1.0, 2, NAN, INF]), 1, ValueError, r"values\[2\] is nan: expected finite"),
        (np.array([1.0, -INF, NAN]), 1, ValueError, r"values\[1\] is -inf: expected finite"),
        (np.array(["1", "2"]), 1, TypeError, "values has dtype <U1: expected real numbers"),
        (np.array([1j, 2]), 1, TypeError, "values has dtype complex128: expected real numbers"),
        (np.array([True, False]), 1, TypeError, "values has dtype bool: expected real numbers"),
        (np.array([1, None]), 1, TypeError, "values has dtype object: expected real numbers"),
    ],
)
def test_windows_refuse(values, length, error, message):
    with pytest.raises(error, match=message):
        windows(values, length)


@pytest.mark.parametrize("given_", [[1, 2, 3], np.array([1, 2, 3], "int8"), np.float16([1, 2, 3])])
def test_a_series_is_float64_whatever_it_came_as(given_):
    values = check_series("values", given_, more_than=2)
    assert (values.dtype, values.tolist()) == (np.float64, [1, 2, 3])
