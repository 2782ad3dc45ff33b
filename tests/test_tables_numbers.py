"""Numbers in columns as people and programs write them; what can be read in two ways is asked."""

import pytest

from xprnn.data import read_series
from xprnn.data.tables.numbers.column import read_numbers
from xprnn.data.tables.numbers.signs import NotNumbersError, Signs


def read(*texts, **options):
    return read_numbers(texts, **options)


@pytest.mark.parametrize(
    ("texts", "values", "notes"),
    [
        (("20,39", "22,07"), (20.39, 22.07), ("decimal comma",)),
        (("1.234,5", "980"), (1234.5, 980), ("decimal comma", "'.' between thousands")),
        (("1.234.567", "980"), (1234567, 980), ("'.' between thousands",)),
        (("1,729.97", "3.2"), (1729.97, 3.2), ("',' between thousands",)),
        (("12,34,567.5", "1,200"), (1234567.5, 1200), ("',' between thousands",)),
        (("1'234.50", "12.00"), (1234.5, 12), ("an apostrophe between thousands",)),
        (("1’234.50", "12.00"), (1234.5, 12), ("an apostrophe between thousands",)),
        (("1 234,5", "3,2"), (1234.5, 3.2), ("decimal comma", "a space between thousands")),
        (("1\u00a0234,5", "3,2"), (1234.5, 3.2), ("decimal comma", "a space between thousands")),
        (("1\u202f250", "980"), (1250, 980), ("a space between thousands",)),
        (("-1.86%", "0.44%"), (-1.86, 0.44), ("in percent",)),
        (("-1,86 %", "0,44 %"), (-1.86, 0.44), ("decimal comma", "in percent")),
        (("(1,234.50)", "12.00"), (-1234.5, 12), ("',' between thousands",)),
        (("$(5.00)", "$7.25"), (-5, 7.25), ("in $",)),
        (("$(5.00", "$7.25"), None, ()),
        (("($5.00)", "$7.25"), (-5, 7.25), ("in $",)),
        (("-$5", "$7"), (-5, 7), ("in $",)),
        (("€ 12", "€-7"), (12, -7), ("in €",)),
        (("12 EUR", "1.234,5 EUR"), (12, 1234.5), None),
        (("CHF 1'200.00", "CHF 12.50"), (1200, 12.5), None),
        (("3.78M", "4.2K", "1.1B"), (3.78e6, 4200, 1.1e9), ("B, K, M multiplied out",)),
        (("1,5 Mio.", "2,25 Mrd."), (1.5e6, 2.25e9), None),
        (("20.5 °C", "21 °C"), (20.5, 21), ("in °C",)),
        (("12km/h", "13km/h"), (12, 13), ("in km/h",)),
        (("293 K", "294.5 K"), (293, 294.5), ("in K",)),
        (("−5.2", "3"), (-5.2, 3), ()),
        (("–5.2", "+3"), (-5.2, 3), ()),
        (("123.45-", "12.00"), (-123.45, 12), ()),
        (('="20.39"', '="1"'), (20.39, 1), ()),
        (("1.5D+03", "1e3"), (1500, 1000), ()),
        (("1,5E-3", "2,25E+02"), (0.0015, 225), ("decimal comma",)),
        ((".5", "5.", "-.25"), (0.5, 5, -0.25), ()),
        (("0.250", "0.980"), (0.25, 0.98), ()),
        (("1.250", "0.980"), (1.25, 0.98), ()),
        (("20.390", "1000.100"), (20.39, 1000.1), ()),
        # All have three decimals, as a program writes them.
        (("20.386", "22.071", "19.999"), (20.386, 22.071, 19.999), ()),
        (("١٢", "٣٫٥"), (12, 3.5), None),
        (("１２", "３"), (12, 3), None),
    ],
)
def test_numbers_as_they_are(texts, values, notes):
    if values is None:
        with pytest.raises(NotNumbersError):
            read(*texts)
        return
    found = read(*texts)
    assert found.values.tolist() == list(values)
    if notes is not None:
        assert found.notes == notes


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (("1.250", "980"), {}),
        (("1.103", "1.373", "918"), {}),
        (("1,250", "980"), {}),
        (("-1,250", "2"), {}),
        (("€ 1.250", "€ 980"), {}),
        (("1.250", "1.300"), {"semicolon_delimited": True}),
        (("1,250", "1,300"), {}),
    ],
)
def test_what_may_be_thousands_or_decimals_is_asked(texts, options):
    with pytest.raises(NotNumbersError, match=r"may be -?1\.\d+ or -?1\d\d\d: expected --decimal "):
        read(*texts, **options)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"given": Signs(decimal=".")}, [1.25, 980]),
        ({"given": Signs(thousands=".")}, [1250, 980]),
        ({"given": Signs(thousands="")}, [1.25, 980]),
        ({"given": Signs(decimal=",")}, [1250, 980]),
        ({"others": [["a", "b"], ["2,5", "3"]]}, [1250, 980]),
        ({"others": [["2.5", "3"]]}, [1.25, 980]),
        ({"likely": {"thousands": "."}}, [1250, 980]),
        ({"likely": {"decimal": "."}}, [1.25, 980]),
    ],
)
def test_what_answers(options, values):
    assert read("1.250", "980", **options).values.tolist() == values


@pytest.mark.parametrize(
    ("texts", "index", "message"),
    [
        (("1", "abc"), 1, "'abc' is not a number; --na abc takes it for a missing value"),
        (("1", "<1"), 1, "'<1' is not a number; --na '<1' takes it for a missing value"),
        (("1", "1_000"), 1, "'1_000' is not a number"),
        (("1", "0x10"), 1, "'0x10' is not a number"),
        (("1", "inf"), 1, "'inf' is not a finite number"),
        (("1", "1e999"), 1, "'1e999' is not a finite number"),
        (("1", "1 2 3"), 1, "'1 2 3' is not a number with '.' before decimals"),
        (("1.2", "1,3"), 1, "'1.2' has a decimal point and '1,3' a decimal comma"),
        (("1.2", "1.234.567"), 1, "'.' stands before decimals in '1.2', and between thousands in"),
        (("5 kWh", "6 MWh", "7 kWh"), 1, "'6 MWh' has the unit 'MWh', and others have the unit"),
        (("5", "6 *", "7"), 1, "'6 *' has the unit '*', and others have no unit"),
        (("(5", "6"), 0, "'(5' is not a number"),
        (("--5", "6"), 0, "'--5' is not a number"),
    ],
)
def test_what_is_no_number_is_named(texts, index, message):
    with pytest.raises(NotNumbersError) as caught:
        read(*texts)
    assert str(caught.value).startswith(message)
    assert caught.value.index == index


@pytest.mark.parametrize(
    "entry",
    [
        *("", "NA", "NaN", "nan", "null", "NULL", "None", "-", "--", "?", ".", "..", ":", "#N/A"),
        *("#NV", "#DIV/0!", "n/a", "N.A.", "\\N", "–", "…", "<NA>"),
    ],
)
def test_missing_entries(tmp_path, entry):
    path = tmp_path / "a.csv"
    path.write_text(f"t,y\n1,1\n2,3\n3,{entry}\n4,5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 4, column 'y': the value is missing: expected --mi"):
        read_series(path, "y")
    assert read_series(path, "y", missing="fill").values.tolist() == [1, 3, 3, 5]
    assert read_series(path, "y", missing="interpolate").values.tolist() == [1, 3, 4, 5]
    assert read_series(path, "y", missing="cut").values.tolist() == [1, 3]


GAPS = "t,y\n1,\n2,NA\n3,7\n4,8\n5,\n6,-\n7,9\n8,10\n9,11\n10,?\n11,2\n12,\n13,\n"


@pytest.mark.parametrize(
    ("missing", "values", "times", "note"),
    [
        ("fill", [7, 8, 8, 8, 9, 10, 11, 11, 2], ("3", "11"), "3 missing values filled with the"),
        ("interpolate", [7, 8, *(8 + 1 / 3, 8 + 2 / 3), 9, 10, 11, 6.5, 2], ("3", "11"), "interp"),
        ("cut", [9, 10, 11], ("7", "9"), "cut to lines 8 to 10, the longest part without gaps"),
    ],
)
def test_gaps(tmp_path, missing, values, times, note):
    path = tmp_path / "a.csv"
    path.write_text(GAPS)
    series = read_series(path, "y", missing=missing)
    assert series.values == pytest.approx(values)
    assert (series.times[0], series.times[-1]) == times
    told = "; ".join(series.notes)
    assert "the leading 2 rows without a value in y cut (lines 2 to 3)" in told
    assert "the last 2 rows without a value in y cut (lines 13 to 14)" in told
    assert note in told


def test_gaps_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(GAPS)
    with pytest.raises(
        ValueError,
        match="line 6, column 'y': the value is missing; 3 of 9 are, in "
        "lines 6, 7, 11: expected --missing fill",
    ):
        read_series(path, "y")


@pytest.mark.parametrize("na", [["-999.99"], ["-999.990"], ["x", "-999.99"]])
def test_codes_for_missing_values(tmp_path, na):
    path = tmp_path / "a.csv"
    path.write_text(
        "t,y\n1,3\n2,4\n3,-999.99\n4,5\n5,x\n6,7\n".replace("x", "6" if len(na) == 1 else "x")
    )
    series = read_series(path, "y", na=na, missing="fill")
    assert series.values.tolist() == [3, 4, 4, 5, 5 if len(na) == 2 else 6, 7]
    if len(na) == 1:
        assert "1 value is -999.99: if that stands for a missing one, --na -999.99" in (
            read_series(path, "y").notes
        )


def test_a_column_without_values(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,y\n1,\n2,NA\n3,-\n")
    with pytest.raises(ValueError, match="column 'y': there is no value, all entries are missing"):
        read_series(path, "y")


def test_flags_after_some_numbers_are_left_out_and_told():
    read = read_numbers(["84.7", "85", "86.1 p", "84 e", "85.5 bp", "85", "85", "84"])
    assert list(read.values) == [84.7, 85, 86.1, 84, 85.5, 85, 85, 84]
    assert read.notes == ("flags after numbers left out: bp, e, p",)


@pytest.mark.parametrize(
    "texts",
    [
        # A letter that may scale: billions beside millions.
        ("900000", "950000", "990000", "1.2 b"),
        # Most have it: a unit.
        ("5 s", "6 s", "7 s", "8"),
        ("5", "6", "7", "8 x"),
    ],
)
def test_what_may_be_a_unit_is_no_flag(texts):
    with pytest.raises(NotNumbersError, match=r"unit.*; --na .* takes it for a missing value"):
        read_numbers(texts)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (("20", "25", "-99", "22", "-99"), "2 values are -99: if that stands for a missing one"),
        (("20", "25", "-9", "22"), None),
        (("20", "-95", "-99", "22"), None),
        (("20", "250", "-99", "22"), None),
    ],
)
def test_a_negative_code_among_values_that_are_not_negative_is_told(texts, told):
    notes = read_numbers(texts).notes
    assert len(notes) == (told is not None)
    assert all(note.startswith(told) for note in notes)
