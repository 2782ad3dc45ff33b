"""The command line on files that people have: what it tells, what it asks, what it forecasts."""

import csv
import io
import sys
from datetime import date, timedelta

import pytest

from tests.cli_tools import run
from xprnn import RNN

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

SMALL = ("--hidden", 2, "--epochs", 1, "--networks", 1, "--window", 4)
DAYS = [date(2023, 1, 2) + timedelta(days=k) for k in range(60)]
TRADING = [day for day in DAYS if day.weekday() < 5]
GERMAN = "Datum;Umsatz\n" + "".join(
    f"{day:%d.%m.%Y};{'1.' if k % 3 else ''}{100 + 7 * k},50 €\n" for k, day in enumerate(TRADING)
)
QUOTES = '"Date","Price","Vol."\n' + "".join(
    f'"{day:%m/%d/%Y}","1,{k:03}.25","{k}.5M"\n' for k, day in enumerate(TRADING[::-1])
)


@pytest.fixture
def train(tmp_path):
    """Return a function that trains on a text, and the model's path."""

    def train(text, column, *words):
        path = tmp_path / "file.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        out = tmp_path / "out"
        result = run("train", "csv", path, "--column", column, *words, *SMALL, "--out", out)
        return result, out / "model.safetensors"

    return train


def future(folder, steps):
    """Return the times of the future rows of an output, and the header."""
    with (folder / "output.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, [row[0] for row in rows[-steps:]]


def test_a_german_file_is_told_and_applied(train, tmp_path):
    result, model = train(GERMAN, "Umsatz")
    assert result.status == 0
    assert result.out.splitlines()[0] == (
        "read 44 rows: Datum (business days), Umsatz; decimal comma, '.' between thousands, in €"
    )
    # A file with the same signs that alone would be asked about.
    other = tmp_path / "other.csv"
    other.write_text("Datum;Umsatz\n" + "".join(f"{d:%d.%m.%Y};1.{100 + d.day}\n" for d in TRADING))
    words = ("apply", model, other, "--steps", 3, "--out", tmp_path)
    assert run(*words).status == 0
    header, times = future(tmp_path, 3)
    assert header[:2] == ["Datum", "Umsatz"]
    assert times == ["03.03.2023", "06.03.2023", "07.03.2023"]
    assert ",1102" in (tmp_path / "output.csv").read_text()
    assert run(*words, "--decimal", ".").status == 0
    assert ",1.102" in (tmp_path / "output.csv").read_text()


def test_newest_first_is_turned_round(train, tmp_path):
    result, model = train(QUOTES, "Vol.")
    assert result.out.splitlines()[0] == (
        "read 44 rows: Date (business days), Vol.; M multiplied out; newest first, turned round"
    )
    result = run("apply", model, tmp_path / "file.csv", "--steps", 2, "--out", tmp_path)
    assert future(tmp_path, 2) == (
        ["Date", "Vol.", "one_step", "closed_loop", "lower", "upper"],
        [
            "03/03/2023",
            "03/06/2023",
        ],
    )
    assert result.out.splitlines()[0].endswith("newest first, turned round")


@pytest.mark.parametrize(
    ("text", "column", "words", "message"),
    [
        (
            "Monat;y\n" + "".join(f"{2000 + k};1.{100 + k}\n" for k in range(30)) + "2030;980\n",
            "y",
            "",
            "line 2, column 'y': '1.100' may be 1.1 or 1100: expected --decimal . or --thousands .",
        ),
        (
            "date,y\n" + "".join(f"{k % 12 + 1:02}/01/{2020 + k // 12},{k}\n" for k in range(12)),
            "y",
            "",
            "line 2, column 'date': '01/01/2020' may be day-month-year or month-day-year: expected "
            "--dayfirst or --no-dayfirst",
        ),
        (
            "t,y\n1,2\n2,null\n3,4\n4,\n5,4\n",
            "y",
            "",
            "line 3, column 'y': the value is missing; 2 ",
        ),
        (
            "1,2\n3,4\n",
            "y",
            "",
            "has no header (line 1 is data), and so no column 'y': expected --c",
        ),
        (
            "s,t,y\n" + "".join(f"{s},{t},{t}\n" for s in "AB" for t in range(2000, 2030)),
            "y",
            "",
            "column 's' tells them apart (A, B): expected --where s=A or another",
        ),
        ("t,y\n1,2\n", "y", "--where s", "argument --where: 's' is not of the form NAME=ENTRY"),
        ("t,y\n1,2\n", "y", "--missing drop", "argument --missing: invalid choice: 'drop'"),
        ("t,y\n1,2\n", "y", "--decimal ,,", "argument --decimal: ',,' is not one character"),
        ("t,y\n1,2\n", "y", "--decimal . --thousands .", "decimal and thousands are both '.'"),
        ("t,y\n1,x<y\n", "y", "", "'x<y' is not a number; --na 'x<y' takes it for a missing value"),
    ],
)
def test_what_is_asked_names_the_option(train, text, column, words, message):
    result, model = train(text, column, *words.split())
    assert result.status in (1, 2)
    assert message in result.error
    assert "Traceback" not in result.err
    assert not model.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--missing fill --na x", "2 missing values filled with the value before (lines 13, 14)"),
        ("--missing interpolate --na x", "2 missing values interpolated"),
        ("--missing cut --na x", "cut to lines 15 to 61, the longest part without gaps"),
        ("--where k=1 --missing fill --na x", "30 of 60 rows have k=1"),
        ("--time none --missing fill --na x", "read 60 rows: y; 2 missing values"),
        ("--time 1 --missing fill --na x", "read 60 rows: t (steps of 1), y"),
    ],
)
def test_the_options_reach_the_file(train, words, told):
    text = "t,y,k\n" + "".join(
        f"{t},{'x' if t == 11 else '' if t == 12 else t % 7},{t % 2}\n" for t in range(60)
    )
    result, model = train(text, "y", *words.split())
    assert result.status == 0
    assert told in result.out.splitlines()[0]
    kept = RNN.load(model).metadata["reading"]
    assert kept["na"] == ["x"]
    assert "where" not in kept
    assert kept.get("time") == {"--time": words.split()[1]}.get(words.split()[0])


def test_a_column_by_its_number_and_standard_input(train, tmp_path, monkeypatch):
    text = "".join(f"{k % 5}.25,{k % 7}.5\n" for k in range(40))
    result, model = train(text, "2")
    assert result.out.splitlines()[0].startswith("read 40 rows: column 2; no header; no column of ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-16"))))
    assert run("apply", model, "-", "--steps", 2, "--out", tmp_path).status == 0
    assert future(tmp_path, 2) == (
        ["step", "2", "one_step", "closed_loop", "lower", "upper"],
        ["+1", "+2"],
    )


@pytest.mark.parametrize(
    "reading",
    [
        [],
        {"x": 1},
        {"time": 5},
        {"na": "x"},
        {"dayfirst": "yes"},
        {"missing": "drop"},
        {"likely": []},
    ],
)
def test_a_model_whose_memory_is_wrong(train, tmp_path, reading):
    _, model = train(GERMAN, "Umsatz")
    net = RNN.load(model)
    net.metadata = {**net.metadata, "reading": reading}
    net.save(model)
    result = run("apply", model, tmp_path / "file.csv", "--out", tmp_path / "apply")
    assert result.status == 1
    assert str(model) in result.error
    assert not (tmp_path / "apply").exists()
