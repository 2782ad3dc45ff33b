"""Which column is read where none is named, and what is told where one is not found."""

import numpy as np
import pytest

from xprnn.data import read_columns, read_series

DAYS = [f"2020-01-{k:02}" for k in range(1, 13)]
VALUES = [1.5, 2.5, -3, 4, 0, 6.25, 7, 8, 9, 8.5, 7, 1]


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    return path


def table(header, form):
    rows = enumerate(zip(DAYS, VALUES, strict=True))
    return f"{header}\n" + "".join(form.format(k=k, d=d, v=v) + "\n" for k, (d, v) in rows)


@pytest.mark.parametrize(
    ("header", "form", "told"),
    [
        ("d,v", "{d},{v}", False),
        (",d,v", "{k},{d},{v}", True),
        ("Unnamed: 0,d,v", "{k},{d},{v}", True),
        ("d,weather,v", "{d},sunny,{v}", True),
        ("v,d", "{v},{d}", False),
    ],
    ids=["alone", "numbered", "pandas", "words", "first"],
)
def test_the_only_column_of_numbers_needs_no_name(tmp_path, header, form, told):
    series = read_series(write(tmp_path, table(header, form)))
    assert (series.name, list(series.values), list(series.times)) == ("v", VALUES, DAYS)
    assert ("v is the only column of numbers" in series.notes) is told


def test_a_covariate_is_not_the_column(tmp_path):
    path = write(tmp_path, table("d,price,v", "{d},{k},{v}"))
    columns = read_columns(path, [], known=["price"])
    assert columns.names == ("v", "price")
    np.testing.assert_array_equal(columns.values[:, 1], range(12))


@pytest.mark.parametrize(
    ("header", "form", "message"),
    [
        (
            "d,Open,Close,note",
            "{d},{v},{v},x",
            r"several columns of numbers: expected --column with one of 'Open', 'Close'$",
        ),
        # A column of counts that is not called a number of rows may be meant.
        ("d,k,v", "{d},{k},{v}", r"with one of 'k', 'v'$"),
        (
            "d,a,b",
            "{d},x,y",
            r"has no column of numbers beside the times: its columns are 'd', ",
        ),
    ],
    ids=["several", "counts", "none"],
)
def test_where_there_is_a_choice_the_columns_are_named(tmp_path, header, form, message):
    with pytest.raises(ValueError, match=message):
        read_series(write(tmp_path, table(header, form)))


def test_times_across_the_columns_need_no_name_for_one_row(tmp_path):
    years = range(1990, 2000)
    names = ",".join(f"{year} [YR{year}]" for year in years)
    rows = "".join(
        f"{name},{code}," + ",".join(str(10 * k + j) for k in range(10)) + "\n"
        for j, (name, code) in enumerate([("Aruba", "ABW"), ("Austria", "AUT")])
    )
    path = write(tmp_path, f"Country Name,Country Code,{names}\n{rows}")
    for series in (
        read_series(path, "Austria"),
        read_series(path, where={"Country Code": "AUT"}),
    ):
        assert series.name == "Austria"
        assert list(series.times) == [str(year) for year in years]
        np.testing.assert_array_equal(series.values, 10 * np.arange(10) + 1)
        assert series.future(1) == ("2000",)
    with pytest.raises(ValueError, match=r"each line is a series: .* one of 'Aruba', 'Austria'$"):
        read_series(path)


def test_a_column_of_a_parquet_file_or_a_frame_needs_no_name(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"when": pd.to_datetime(DAYS), "v": VALUES})
    assert list(read_series(frame).values) == VALUES
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "a.parquet")
    assert list(read_series(tmp_path / "a.parquet").values) == VALUES


def test_another_sheet_may_have_the_column(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"note": ["read me"]}).to_excel(book, sheet_name="Info", index=False)
        pd.DataFrame({"v": VALUES}).to_excel(book, sheet_name="Data", index=False)
    for column in ("v", None):
        with pytest.raises(ValueError, match=r"sheet Info \(others: Data; --sheet takes one\)$"):
            read_series(tmp_path / "a.xlsx", column)
    assert list(read_series(tmp_path / "a.xlsx", sheet="Data").values) == VALUES


def test_another_encoding_may_have_the_column(tmp_path):
    path = write(tmp_path, table("日付,値", "{d},{v}"), "shift_jis")
    with pytest.raises(ValueError, match=r"has no column '値'.*--encoding names another\)$"):
        read_series(path, "値")
    assert list(read_series(path, "値", encoding="shift_jis").values) == VALUES
