"""Layouts of files that people have: names, units, comments, preambles, footers, delimiters."""

import zipfile

import pytest

from xprnn.data import read_series

ROWS = [("2020-01-01", "1.5"), ("2020-01-02", "2.5"), ("2020-01-03", "-3"), ("2020-01-04", "4")]
VALUES = [1.5, 2.5, -3, 4]


def table(delimiter=",", rows=ROWS, end="\n"):
    return "".join(delimiter.join(row) + end for row in rows)


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


NUMBERED = "".join(f'"{k}",{time},{value}\n' for k, (time, value) in enumerate(ROWS, 1))
MARKDOWN = "".join(f"| {time} | {value} |\n" for time, value in ROWS)
BODY, SEMI = table(), table(";")


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        (f"Date,y\n{BODY}", "y", ""),
        (f"sep=;\nDate;y\n{SEMI}", "y", ""),
        (f'"sep=;"\r\nDate;y\r\n{SEMI}', "y", ""),
        (f"Date\ty\n{table(chr(9))}", "y", ""),
        (f"Date|y\n{table('|')}", "y", ""),
        (f"Date  y\n{table('    ')}", "y", ""),
        (f"Date y\n{table(' ')}".replace(".", ","), "y", "decimal comma"),
        (f"Date;y\n{SEMI}".replace(".", ","), "y", "decimal comma"),
        (f"Date y\n{table(' ')}", "y", ""),
        (f"\n\nDate,y\n{BODY}", "y", ""),
        (f"# from a logger, site 3\n#\nDate,y\n{BODY}", "y", ""),
        (f"% header of Matlab\nDate,y\n{BODY}", "y", ""),
        (f"# Date,y\n{BODY}", "y", ""),
        (
            f"Date,y\n{table(rows=ROWS[:2])}# a remark\n{table(rows=ROWS[2:])}",
            "y",
            "line 4 left out",
        ),
        (f'Date,"y \n(m)"\n{BODY}', "y (m)", ""),
        (f'Date,"y \n(m)"\n{BODY}', "y \n(m)", ""),
        (f"Date,y\n{table(rows=ROWS[:2])}\n{table(rows=ROWS[2:])}", "y", "blank line 4 left out"),
        (f"Category: All\n\nDate,y\n{BODY}", "y", "line 1 before the table left out"),
        (f"Station 5\nHeight: 30 m\nDate;y\n{SEMI}", "y", "lines 1 to 2 before the table left out"),
        (f"Station,5 b\nUnit,m\nDate,y\n{BODY}", "y", "3 lines of names"),
        (f"Date;y\n(a);(degC)\n{SEMI}", "y", "2 lines of names"),
        (f"Date;y\n;°C\n{SEMI}", "y", "2 lines of names"),
        (f"Date,y\nyyyy-mm-dd,m/s\n-,mean\n{BODY}", "y", "3 lines of names"),
        (f"Price,Close\nTicker,AAPL\nDate,\n{BODY}", "Close", "3 lines of names"),
        (f"Price,Close\nTicker,AAPL\nDate,\n{BODY}", "AAPL", "3 lines of names"),
        (f"Date;y\n{SEMI}Source: office;\n", "y", "line 6 after the table left out (Source: off"),
        (f"Date,y\n{BODY}\nTotal,5\n", "y", "line 7 after the table left out (Total 5)"),
        (f"Date,y\n{BODY}\nNote: a, b, and c\n____\n(C) 2020\n", "y", "lines 7 to 9 after the tab"),
        (
            f"Date;y\n{table(';', end=';' + chr(10))}",
            "y",
            "delimiters at the ends of lines left out",
        ),
        (f"Date,y,\n{table(end=',' + chr(10))}", "y", "delimiters at the ends"),
        (f"Date,y,,\n{table(end=',,' + chr(10))}", "y", "delimiters at the ends"),
        (f"Date,y\n{BODY},\n,\n", "y", ""),
        (BODY, "2", "no header"),
        (BODY, 2, "no header"),
        (f"Date,y\n{BODY}", "2", ""),
        (
            '"","Date","y"\n' + "".join(f'"{k}",{d},{v}\n' for k, (d, v) in enumerate(ROWS, 1)),
            "y",
            "",
        ),
        (
            "Date y\n" + "".join(f"{k} {d} {v}\n" for k, (d, v) in enumerate(ROWS, 1)),
            "y",
            "names of",
        ),
        (f"Date,y\r{BODY}".replace("\n", "\r"), "y", ""),
        (
            "| Date | y |\n|---|---|\n" + "".join(f"| {d} | {v} |\n" for d, v in ROWS),
            "y",
            "2 lines",
        ),
        (f"\ufeffDate,y\n{BODY}", "y", ""),
        (f"Date,y\n{BODY}".replace("-3", '"-3"'), "y", ""),
    ],
)
def test_layouts(tmp_path, text, column, told):
    series = read_series(write(tmp_path, text), column)
    assert series.values.tolist() == VALUES
    assert series.times == tuple(time for time, _ in ROWS)
    assert told in "; ".join(series.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings(tmp_path, encoding):
    text = f"Tag;Größe „m“\n{SEMI}".replace(".", ",")
    assert read_series(write(tmp_path, text, encoding), "Größe „m“").values.tolist() == VALUES


def test_windows_1252_is_told(tmp_path):
    series = read_series(write(tmp_path, f"Tag;“Größe” €\n{SEMI}", "cp1252"), "“Größe” €")
    assert series.values.tolist() == VALUES
    assert series.notes[0] == "not UTF-8, read as Windows-1252 (--encoding names another)"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (BODY, "y", "has no header (line 1 is data), and so no column 'y': expected --column with"),
        (BODY, "3", "expected --column with a number from 1 to 2"),
        (
            "year,y\n2000,20,39\n2001,22,07\n",
            "y",
            "line 2: 3 fields, where the header has 2; ",
        ),
        (f"Date,y\n{BODY}2020-01-05\n", "y", "line 6: 1 fields, where the header has 2"),
        (f"Date,y\n{BODY}2020-01-05,3,4\n", "y", "line 6: 3 fields, where the header has 2"),
        (f"Date,y\n2020-01-01,1,2\n{BODY}", "y", "line 2: 3 fields, where the header has 2"),
        (f"Date,y\n{BODY}2020-01-05,abc\n", "y", "line 6, column 'y': 'abc' is not a number"),
        ("Date,y\n2020-01-01,1\x00\n", "y", "line 2: a zero byte, which no text has"),
        (f"a,b,a\n{table(rows=[('1', '2', '3'), ('4', '5', '6')])}", "a", "has 2 columns 'a'"),
    ],
)
def test_what_is_refused(tmp_path, text, column, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        read_series(path, column)
    assert str(caught.value).startswith(repr(str(path)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html><body>404", "is a web page or XML: expected a table"),
        (b'[{"Date": "2020-01-01", "y": 1}]', "is JSON: expected a table"),
        (b'\xef\xbb\xbf{"y": [1, 2]}', "is JSON: expected a table"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"\x89PNG\r\n", "is a picture"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_series(write(tmp_path, content), "y")


def test_zip_archives(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/a.csv", f"Date,y\n{BODY}")
    series = read_series(path, "y")
    assert series.values.tolist() == VALUES
    assert series.notes == ("folder/a.csv in a zip archive",)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.csv", "")
    with pytest.raises(ValueError, match=r"archive of 2 files .*: expected one, unpack it first"):
        read_series(path, "y")


def test_one_column_with_decimal_commas(tmp_path):
    series = read_series(write(tmp_path, "y\n20,39\n22,07\n-3,5\n4\n"))
    assert series.values.tolist() == [20.39, 22.07, -3.5, 4]
    assert series.notes == ("decimal comma",)


def test_numbers_alone(tmp_path):
    series = read_series(write(tmp_path, "1.5\n2.5\n-3\n4\n"))
    assert (series.name, series.values.tolist()) == ("1", VALUES)
    assert series.notes == ("no header",)


PANEL = [("1", "A"), ("2", "B"), ("3", "A")]


def panel(by_time, newest_first=False):
    """Return rows of three stores, below each other or for each day."""
    made = [
        (store, kind, f"2020-01-{day:02}", f"{10 * int(store) + day}")
        for store, kind in PANEL
        for day in range(1, 9)
    ]
    if by_time:
        made.sort(key=lambda row: row[2])
    if newest_first:
        made.reverse()
    return "STORE,KIND,Date,y\n" + table(rows=made)


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("newest_first", [False, True])
def test_several_series_in_a_file(tmp_path, by_time, newest_first):
    path = write(tmp_path, panel(by_time, newest_first))
    with pytest.raises(ValueError) as caught:
        read_series(path, "y")
    message = str(caught.value)
    assert "it holds several series; column 'STORE' tells them apart (" in message
    assert "expected --where STORE=" in message
    assert "the same time, 2020-01-01" in message or "the times start again in line " in message
    for store in ("1", "2", "3"):
        series = read_series(path, "y", where={"STORE": store})
        assert series.values.tolist() == [10 * int(store) + day for day in range(1, 9)]
        assert f"8 of 24 rows have STORE={store}" in series.notes
    assert read_series(path, "y", where={"STORE": "1.0"}).values[0] == 11
    assert read_series(path, "y", where={"KIND": "B"}).values[0] == 21
    with pytest.raises(ValueError, match="no line has '9' in column 'STORE': expected one of '"):
        read_series(path, "y", where={"STORE": "9"})
    with pytest.raises(ValueError, match="has no column 'SHOP': its columns are 'STORE', "):
        read_series(path, "y", where={"SHOP": "9"})


def test_times_across_the_columns(tmp_path):
    years = ",".join(f'"{1990 + k}"' for k in range(12))
    rows = "".join(
        f'"{name}","{code}",' + ",".join(str(start + k) for k in range(12)) + ",\n"
        for name, code, start in (("Chad", "TCD", 5), ("Peru", "PER", 50))
    )
    text = f'"Data Source","World",\n\n"Country Name","Country Code",{years},\n{rows}'
    path = write(tmp_path, text)
    series = read_series(path, "Peru")
    assert series.values.tolist() == list(range(50, 62))
    assert (series.times[0], series.future(1)) == ("1990", ("2002",))
    with pytest.raises(ValueError, match=r"\(1990 to 2001\), and no lines are called 'x': "):
        read_series(path, "x")
