"""Dates in the forms of exports, and the sources that tables come from."""

import bz2
import gzip
import io
import lzma
import sys
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from tests.optional import optional
from tests.process import run_python
from xprnn.data import Reading, read_columns, read_series

pd = optional("pandas")

N = 40
DAYS = [date(2024, 1, 1) + timedelta(days=k) for k in range(N)]
HOURS = [datetime(2024, 3, 1, 22) + timedelta(hours=k) for k in range(N)]
MONTHS = [date(2018 + k // 12, k % 12 + 1, 1) for k in range(N)]
GERMAN = ["Jan", "Feb", "Mrz", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
FRENCH = [
    *("janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov."),
    "déc.",
]
SPANISH = [
    *("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre"),
    *("octubre", "noviembre", "diciembre"),
]
ITALIAN = ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"]
PORTUGUESE = ["jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"]
DUTCH = ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"]


ROWS = [[day, k] for k, day in enumerate(DAYS)]


def of(days, pattern):
    return [day.strftime(pattern) for day in days]


def named(names, pattern):
    return [pattern.format(names[day.month - 1], day.year) for day in MONTHS]


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a column of times."""

    def read(times, **options):
        path = tmp_path / "file.csv"
        lines = [f"{time};{k}\n" for k, time in enumerate(times)]
        path.write_text("when;y\n" + "".join(lines), encoding="utf-8")
        return read_series(path, "y", **options)

    return read


@pytest.mark.parametrize(
    ("times", "description", "future"),
    [
        (of(DAYS, "%m/%d/%Y"), "daily", "02/10/2024"),
        (of(DAYS, "%d/%m/%Y"), "daily", "10/02/2024"),
        (of(DAYS, "%d.%m.%Y"), "daily", "10.02.2024"),
        ([f"{d.day}.{d.month}.{d.year}" for d in DAYS], "daily", "10.2.2024"),
        ([f"{d.month}/{d.day}/{d.year}" for d in DAYS], "daily", "2/10/2024"),
        (of(DAYS, "%d-%m-%y"), "daily", "10-02-24"),
        (of(DAYS, "%m/%d/%y"), "daily", "02/10/24"),
        (of(DAYS, "%Y/%m/%d"), "daily", "2024/02/10"),
        (of(DAYS, "%Y.%m.%d"), "daily", "2024.02.10"),
        (of(DAYS, "%Y%m%d"), "daily", "20240210"),
        (of(DAYS, "%d-%b-%Y"), "daily", "10-Feb-2024"),
        (of(DAYS, "%d-%b-%y"), "daily", "10-Feb-24"),
        ([text.upper() for text in of(DAYS, "%d-%b-%Y")], "daily", "10-FEB-2024"),
        (of(DAYS, "%b %d, %Y"), "daily", "Feb 10, 2024"),
        (of(DAYS, "%A, %d %b %Y"), "daily", "10 Feb 2024"),
        (of(DAYS, "%Y-%m-%d 00:00:00"), "daily", "2024-02-10 00:00:00"),
        (of(HOURS, "%Y-%m-%dT%H:%M:%SZ"), "hourly", "2024-03-03T14:00:00Z"),
        (of(HOURS, "%Y-%m-%d %H:%M:%S UTC"), "hourly", "2024-03-03 14:00:00 UTC"),
        (of(HOURS, "%Y-%m-%d %H:%M:%S.250"), "hourly", "2024-03-03 14:00:00.250"),
        (of(HOURS, "%d.%m.%Y %H:%M"), "hourly", "03.03.2024 14:00"),
        (of(HOURS, "%m/%d/%Y %I:%M:%S %p"), "hourly", "03/03/2024 02:00:00 PM"),
        (of(HOURS, "%Y%m%d%H"), "hourly", "2024030314"),
        (of(HOURS, "%Y%m%d%H%M%S"), "hourly", "20240303140000"),
        ([str(int(hour.timestamp())) for hour in HOURS], "hourly", None),
        (of(MONTHS, "%Y-%m"), "monthly", "2021-05"),
        (of(MONTHS, "%Y%m"), "monthly", "202105"),
        (of(MONTHS, "%m/%Y"), "monthly", "05/2021"),
        (of(MONTHS, "%b-%y"), "monthly", "May-21"),
        (of(MONTHS, "%Y %b"), "monthly", "2021 May"),
        (of(MONTHS, "%B %Y"), "monthly", "May 2021"),
        (of(MONTHS, "%B %d, %Y"), "monthly", "May 01, 2021"),
        (named(GERMAN, "{0} {1}"), "monthly", "Mai 2021"),
        (named(FRENCH, "{0} {1}"), "monthly", "mai 2021"),
        (named(SPANISH, "{0} {1}"), "monthly", "mayo 2021"),
        (named(ITALIAN, "{0}-{1}"), "monthly", "mag-2021"),
        (named(PORTUGUESE, "{1} {0}"), "monthly", "2021 mai"),
        (named(DUTCH, "1 {0} {1}"), "monthly", "1 mei 2021"),
        (of(HOURS, "%d %b %Y %H:%M EST"), "hourly", "03 Mar 2024 14:00 EST"),
        ([f"{d.year}年{d.month}月" for d in MONTHS], "monthly", "2021年5月"),
        ([f"{d.year}年{d.month:02}月{d.day:02}日" for d in DAYS], "daily", "2024年02月10日"),
        ([f"{d.year}년 {d.month}월 {d.day}일" for d in DAYS], "daily", "2024년 2월 10일"),
        ([f"{d.year}M{d.month}" for d in MONTHS], "monthly", "2021M5"),
        ([f"{1990 + k // 4}Q{k % 4 + 1}" for k in range(N)], "quarterly", "2000Q1"),
        ([f"{1990 + k // 4} Q{k % 4 + 1}" for k in range(N)], "quarterly", "2000 Q1"),
        ([f"{1990 + k // 2}-S{k % 2 + 1}" for k in range(N)], "every 6 months", "2010-S1"),
        ([f"{1990 + (k + (k + 1) / 100 - k):.2f}" for k in range(4)], None, None),
        ([f"{2018 + (k + 0.5) / 12:.3f}" for k in range(N)], "steps of 0.083", "2021.375"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_dates_of_many_forms(read, times, description, future):
    series = read(times)
    if description is None:
        return
    assert series.times == tuple(times)
    assert (series.spacing.description, series.spacing.even) == (description, True)
    assert series.values.tolist() == list(range(N))
    turned = read(times[::-1])
    assert turned.times == series.times
    assert "newest first, turned round" in turned.notes
    if future is not None:
        assert series.future(1) == turned.future(1) == (future,)


@pytest.mark.parametrize(
    "times",
    [
        [f"{k:02}/01/2020" for k in range(1, 13)],
        [f"01/{k:02}/2020" for k in range(1, 13)],
        ["01-02-20", "02-02-20", "03-02-20"],
        ["1/2/2020"],
    ],
    ids=str,
)
def test_days_and_months_that_can_be_exchanged_are_asked_for(read, times):
    with pytest.raises(ValueError, match=r"may be day-month-year or month-day-year.*--dayfirst or"):
        read(times)
    first, second = read(times, dayfirst=True), read(times, dayfirst=False)
    assert first.spacing.description != second.spacing.description or len(times) == 1
    assert read(times, time="none").times is None


def test_the_order_of_day_and_month_is_found(read):
    # As days of January they would jump from the 12th to the next year.
    months = [f"01/{d.month:02}/{d.year}" for d in MONTHS]
    assert read(months).spacing.description == "monthly"
    # As months they would go back and forth.
    # Evenly spaced, apart from the hour that the clocks skip.
    clock = [datetime(2024, 3, 9) + timedelta(minutes=15 * k + 60 * (k >= 104)) for k in range(150)]
    assert read(of(clock, "%m/%d/%Y %H:%M")).spacing.even
    assert read([f"{d.month:02}/{d.day:02}/2020" for d in DAYS[:20]]).spacing.description == "daily"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Date,Time,y", "{0:%Y-%m-%d},{0:%H:%M},{1}"),
        ("Date,Time,y", "{0:%d.%m.%Y},{0:%H:%M:%S},{1}"),
        ("<DATE>,<TIME>,y", "{0:%Y%m%d},{0:%H%M%S},{1}"),
        ("Year,Month,Day,Hour,y", "{0.year},{0.month},{0.day},{0.hour},{1}"),
        ("y,Jahr,Monat,Tag,Stunde", "{1},{0.year},{0.month},{0.day},{0.hour}"),
    ],
)
def test_times_in_several_columns(tmp_path, header, row):
    path = tmp_path / "a.csv"
    path.write_text(header + "\n" + "".join(row.format(h, k) + "\n" for k, h in enumerate(HOURS)))
    series = read_series(path, "y")
    assert (series.spacing.description, series.spacing.even) == ("hourly", True)
    assert series.values.tolist() == list(range(N))


@pytest.mark.parametrize(
    ("header", "row", "time"),
    [
        ("id,exported,day,y", "{1},01/02/2024,{0},{1}", "day"),
        ("y,start,end", "{1},{0},{0}", "start"),
        ("n,volume,y", "{1},{2},{1}", None),
        ("population,y", "{2},{1}", None),
    ],
)
def test_which_column_holds_the_times(tmp_path, header, row, time):
    path = tmp_path / "a.csv"
    rows = [row.format(day, k, 5000 + 7 * k * k) for k, day in enumerate(DAYS)]
    path.write_text("\n".join([header, *rows]) + "\n")
    assert read_columns(path, ["y"]).time == time


TEXT = "Date,y\n" + "".join(f"{day},{k}\n" for k, day in enumerate(DAYS))


def frame():
    return pd.DataFrame({"Date": pd.to_datetime(DAYS), "y": np.arange(N) + 0.1, "name": "a"})


def excel():
    stream = io.BytesIO()
    with pd.ExcelWriter(stream) as book:
        pd.DataFrame({"nothing": []}).to_excel(book, sheet_name="notes")
        frame().to_excel(book, sheet_name="data", index=False, startrow=2)
    return stream.getvalue()


def parquet():
    stream = io.BytesIO()
    frame().to_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz", "parquet", "excel"])
def test_files_are_recognised_by_their_first_bytes(tmp_path, kind):
    path, options = tmp_path / "file.csv", {}
    made = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    if kind in made:
        path.write_bytes(made[kind](TEXT.encode()))
    else:
        path.write_bytes(parquet() if kind == "parquet" else excel())
        options = {"sheet": "data"} if kind == "excel" else {}
    series = read_series(path, "y", **options)
    assert series.values == pytest.approx(np.arange(N) + 0.1 * (kind not in made))
    assert (series.times[0], series.future(1)) == ("2024-01-01", ("2024-02-10",))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"file\.csv' is not a whole [\w ]+ file"):
        read_series(path, "y", **options)


def test_sheets(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(excel())
    assert "sheet data (others: notes; --sheet takes one)" in (
        read_series(path, "y", sheet="2").notes
    )
    with pytest.raises(ValueError, match="has no sheet 'x': its sheets are 'notes', 'data'"):
        read_series(path, "y", sheet="x")


def sheet(rows):
    stream = io.BytesIO()
    pd.DataFrame(rows).to_excel(stream, index=False, header=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("rows", "future", "told"),
    [
        ([["Report", ""], ["", ""], ["Date", "y"], *ROWS], "2024-02-10", "row 1 before"),
        ([["", "Date", "y"], *(["", *row] for row in ROWS)], "2024-02-10", ""),
        (
            [["Date", "y"], *([hour, k] for k, hour in enumerate(HOURS[::-1]))],
            "2024-03-03T14:00:00",
            "newest first",
        ),
        (
            [["Date", "y"], *([d, None if k in (7, 8) else k] for d, k in ROWS)],
            "2024-02-10",
            "2 missing values interpolated (rows 9, 10)",
        ),
        (
            [["Date", "y"], ["", "kg"], *ROWS, ["Total", 780], ["Source: x", ""]],
            "2024-02-10",
            "rows 43 to 44 after the table left out",
        ),
        (
            [["Tag", "y"], *([f"{d:%d.%m.%Y}", f"{k},5 €"] for d, k in ROWS)],
            "10.02.2024",
            "decimal comma, in €",
        ),
    ],
    ids=["title", "empty column", "midnight", "gaps", "footer", "text"],
)
def test_sheets_have_layouts_too(tmp_path, rows, future, told):
    path = tmp_path / "a.xlsx"
    path.write_bytes(sheet(rows))
    series = read_series(path, "y", missing="interpolate")
    assert (len(series.values), series.future(1)) == (N, (future,))
    assert told in "; ".join(series.notes)


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(TEXT.encode()))))
    assert read_series("-", "y").values.tolist() == list(range(N))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Date,y\n1,x\n")))
    with pytest.raises(ValueError, match=r"^standard input, line 2, column 'y': 'x' is no"):
        read_series("-", "y")


@pytest.mark.parametrize(
    "make",
    [
        frame,
        lambda: frame().set_index("Date"),
        lambda: frame().set_index("Date")["y"],
        lambda: frame().set_index("Date").tz_localize("Europe/Berlin"),
        lambda: frame().set_index("Date").to_period("D"),
        lambda: frame().iloc[::-1],
        lambda: frame().assign(Date=[str(day) for day in DAYS]),
        lambda: frame().astype({"y": "Float64"}).convert_dtypes(),
    ],
    ids=["column", "index", "series", "zone", "periods", "newest first", "text", "nullable"],
)
def test_pandas(make):
    source = make()
    series = read_series(source, "y")
    assert series.values == pytest.approx(np.arange(N) + 0.1, abs=0)
    assert series.times[0].startswith("2024-01-01")
    assert series.future(1)[0].startswith("2024-02-10")
    assert series.spacing.description == "daily"


def test_missing_values_of_pandas():
    table = frame()
    table.loc[5, "y"] = None
    with pytest.raises(ValueError, match="the DataFrame, row 5, column 'y': the value is missing"):
        read_series(table, "y")
    assert read_series(table, "y", missing="interpolate").values[5] == pytest.approx(5.1)
    with pytest.raises(ValueError, match="the DataFrame has no column 'x': its columns are "):
        read_series(table, "x")


def test_several_columns_and_what_is_known_of_the_future(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,a,b,holiday\n1,5,,0\n2,6,1,0\n3,7,2,1\n4,8,3,0\n5,,,1\n6,,,0\n")
    table = read_columns(path, ["a", "b"], Reading(), known=["holiday"])
    assert table.names == ("a", "b", "holiday")
    assert table.values.tolist() == [[6, 1, 0], [7, 2, 1], [8, 3, 0]]
    assert table.ahead[:, 2].tolist() == [1, 0]
    assert np.all(np.isnan(table.ahead[:, :2]))
    assert (table.times, table.future(2)) == (("2", "3", "4"), ("5", "6"))
    assert table.series(1).values.tolist() == [1, 2, 3]
    assert table.found.startswith("read 3 rows: t (steps of 1), a, b, holiday; ")


@pytest.mark.slow
def test_without_pandas(tmp_path):
    for name, text in (("iso", TEXT), ("us", TEXT.replace("2024-01-01", "1/1/2024"))):
        (tmp_path / name).write_text(text)
    (tmp_path / "us").write_text(
        "Date,y\n" + "".join(f"{day:%m/%d/%Y},{k}\n" for k, day in enumerate(DAYS))
    )
    (tmp_path / "german").write_text(
        "Datum;Umsatz\n" + "".join(f"{day:%d.%m.%Y};{k},5\n" for k, day in enumerate(DAYS))
    )
    (tmp_path / "excel").write_bytes(excel())
    (tmp_path / "parquet").write_bytes(parquet())
    code = f"""
import sys
sys.modules["pandas"] = None
import importlib.util
importlib.util.find_spec = lambda name, real=importlib.util.find_spec: (
    None if name == "pandas" else real(name)
)
import xprnn.data.tables.times.column as column
column.find_spec = importlib.util.find_spec
from xprnn.data import read_series
print(read_series({str(tmp_path / "iso")!r}, "y").future(1))
print(read_series({str(tmp_path / "us")!r}, "y").notes)
print(read_series({str(tmp_path / "german")!r}).notes)
for name, options in (("us", dict(time="Date")), ("excel", {{}}), ("parquet", {{}})):
    try:
        read_series({str(tmp_path)!r} + "/" + name, "y", **options)
    except ImportError as error:
        print(error)
"""
    iso, told, german, *errors = run_python(code).splitlines()
    assert iso == "('2024-02-10',)"
    assert "Date is not used, and the rows are taken in order: " in told
    # Dates that can't be read are no numbers to choose from.
    assert "Umsatz is the only column of numbers" in german
    assert "Datum is not used" in german
    assert len(errors) == 3
    assert all('pip install "xprnn[data]"' in error for error in errors)
    assert "dates such as '01/01/2024' need pandas" in errors[0]
