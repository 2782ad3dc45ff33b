"""CSV and text files from strangers: read, or refused in words."""

import contextlib
import gzip
import io
import random
import time
from functools import cache

import numpy as np
import pytest

from tests.cli_tools import keep_figures, run
from tests.optional import optional
from xprnn import RNN, Forecaster, History
from xprnn.data import read_csv, read_series
from xprnn.data.series import Scaling
from xprnn.data.text import Vocabulary, join_words, read_text, sentences, words

CSV = "when,v,other\n" + "".join(f"2001-01-{k:02},{k % 7}.5,x{k}\n" for k in range(1, 29))
pd = optional("pandas")

NUMBERED = "when;v\r\n" + "".join(f"{k / 4};{k * k - 3e2}\r\n" for k in range(40))
US = "sep=;\nwhen;v;other\n" + "".join(
    f"{1 + k % 12}/{k % 28 + 1}/2001 {k % 12 + 1}:30 PM;$1,{k:03}.50;x{k}\n" for k in range(60)
)
WORDS = "# by a logger\n\nv,when,other\n(°C),,\n" + "".join(
    f"{'NA' if k == 7 else f'{k * k} °C'},{k + 1}. März {1900 + k // 28},x{k % 4}\n"
    for k in range(28)
)
PREFIXES = [b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0", b"BZh9", b"\xfd7zXZ\x00", b"\x1f\x8b\x08"]
TEXTS = [
    "The class is small. It isn't 3.5 metres wide! 'Yes?' (No.)\n\nA new one, then.\n" * 3,
    "Ωμέγα-3 costs 4.50 €. Naïve e\u0301 and 😀👨‍👩‍👧! 你好。世界？" * 3,
]
FIELDS = [
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-1e400",
        "1e-400",
        "1_000",
        "0x10",
        "1,5",
        "1.250,00",
    ),
    *('"', '""', '"a\nb"', "'", "NULL", "\x00", "\x1b[31m", "\x9b2J", "١٢", "½", "−3", "1" * 5000),
    *("9" * 200_000, "a" * 200_000, "$x^$", "=1+1", "\ufeff", "v", "when", ";", "\t", "2001-02-30"),
    *(
        "0001-01-01",
        "9999-12-31T23:59:59.999999+14:00",
        "20010101",
        "2001-W01-1",
        "10:00",
        "\u2028",
    ),
]
ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252", "cp037", "utf-7"]


def mutated(text, rng):  # noqa: PLR0912
    """Return the bytes of a text file with one to four mutations."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        lines = text.splitlines(keepends=True) or [""]
        k, kind = rng.randrange(len(lines)), rng.randrange(9)
        if kind == 0:
            separator = rng.choice([",", ";", "\t"])
            fields = lines[k].split(separator)
            fields[rng.randrange(len(fields))] = rng.choice(FIELDS)
            lines[k] = separator.join(fields)
        elif kind == 1:
            lines[k:k] = [rng.choice([lines[0], lines[k], "\n", "# a comment\n", "a,b,c,d\n"])]
        elif kind == 2:
            del lines[k]
        elif kind == 3:
            lines[k] = lines[k].rstrip() + rng.choice(["", ",", ",,", '"', " "]) + "\n"
        elif kind == 4:
            rng.shuffle(lines)
        elif kind == 5:
            ending = rng.choice(["\r\n", "\r", "\n\n", "\x0b", "\u2028", ""])
            lines = [line.replace("\n", ending) for line in lines]
        elif kind == 6:
            lines = lines[: rng.choice([0, 1, 2, k])]
        elif kind == 7:
            place = rng.randrange(len(lines[k]) + 1)
            lines[k] = lines[k][:place] + rng.choice(FIELDS) + lines[k][place:]
        else:
            lines = [line.replace(",", rng.choice([";", "\t", "|", ", "])) for line in lines]
        text = "".join(lines)
    content = text.encode()
    if rng.random() < 0.2:
        content = text.encode(rng.choice(ENCODINGS), errors="replace")
    if rng.random() < 0.3:
        array = bytearray(content or b"\x00")
        for _ in range(rng.choice([1, 2, 20])):
            array[rng.randrange(len(array))] = rng.randrange(256)
        content = bytes(array[: rng.choice([len(array), rng.randrange(len(array) + 1)])])
    return content


@cache
def binary_tables():
    """Return an Excel and a Parquet file."""
    frame = pd.DataFrame({"when": range(30), "v": [k % 7 + 0.5 for k in range(30)], "other": "x3"})
    excel, parquet = io.BytesIO(), io.BytesIO()
    frame.to_excel(excel, index=False)
    frame.to_parquet(parquet)
    return excel.getvalue(), parquet.getvalue()


def damaged(rng, whole, *prefixes):
    """Return a compressed file with some bytes changed, or a mere beginning of another kind."""
    if rng.random() < 0.5:
        return rng.choice(prefixes) + bytes(
            rng.randrange(256) for _ in range(rng.choice([0, 9, 99]))
        )
    array = bytearray(whole)
    for _ in range(rng.choice([0, 1, 5])):
        array[rng.randrange(len(array))] = rng.randrange(256)
    return bytes(array[: rng.choice([len(array), rng.randrange(len(array) + 1)])])


@contextlib.contextmanager
def in_words(path):
    """Accept a ValueError or OSError that names the file, in a second."""
    started = time.process_time()
    try:
        yield
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        message = str(path)
    assert time.process_time() - started < 1
    assert str(path) in message
    assert len(message) < 2000


def read_as_series(path, rng):
    """Read the file as a series in some way; return its length, 0 if it was refused."""
    series = None
    with in_words(path):
        series = read_series(
            path,
            rng.choice(["v", "v", "v", "2", None]),
            time=rng.choice([None, None, "when", "none"]),
            delimiter=rng.choice([None, None, ",", ";"]),
            missing=rng.choice(["refuse", "fill", "interpolate", "cut"]),
            decimal=rng.choice([None, None, ".", ","]),
            dayfirst=rng.choice([None, None, True, False]),
            where=rng.choice([None, None, None, {"other": "x3"}]),
        )
    if series is None:
        return 0
    assert np.all(np.isfinite(series.values))
    assert series.times is None or len(series.times) == len(series.values)
    return len(series.values)


def read_tokens(path):
    """Read the file as text; return the number of its tokens, 0 if it was refused."""
    text = ""
    with in_words(path):
        text = read_text(path)
    split = [words(sentence) for sentence in sentences(text)]
    tokens = [token for sentence in split for token in sentence]
    if tokens:
        vocabulary = Vocabulary.of(split)
        assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
        join_words(tokens)
    return len(tokens)


def fuzz(count, seed, path):
    """Read mutated files; return how many were accepted as a series, and how many as text."""
    rng, series, texts = random.Random(seed), 0, 0
    for _ in range(count):
        content = mutated(rng.choice([CSV, NUMBERED, US, WORDS]), rng)
        if rng.random() < 0.05:
            whole = rng.choice([gzip.compress(content), *binary_tables()])
            content = damaged(rng, whole, *PREFIXES)
        path.write_bytes(content)
        series += read_as_series(path, rng) > 0
        path.write_bytes(mutated(rng.choice(TEXTS), rng))
        texts += read_tokens(path) > 0
    return series, texts


def test_mutated_files_are_read_or_refused_in_words(tmp_path):
    series, texts = fuzz(300, 0, tmp_path / "file")
    assert 0 < series < 300
    assert 0 < texts < 300


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_mutated_files_are_read_or_refused_in_words(tmp_path, seed):
    series, texts = fuzz(500, seed, tmp_path / "file")
    print(f"500 mutated files each: {series} series and {texts} texts read, the others refused")
    assert 0 < series < 500
    assert 0 < texts < 500


def forecast(count, seed, folder):
    """Apply a forecaster to mutated files."""
    rng, model, path = random.Random(seed), folder / "net", folder / "v.csv"
    net = RNN(1, 3, 1, returns="last", rng=0)
    Forecaster(net, 4, Scaling(3.0, 2.0)).save(model, column="v")
    for _ in range(count):
        path.write_bytes(mutated(CSV, rng))
        words = ("--time", "when") if rng.random() < 0.5 else ()
        result = run("apply", model, path, *words, "--steps", 2, "--out", folder / "out")
        assert result.status in (0, 1)
        assert "\x1b" not in result.out + result.err
        assert "\x9b" not in result.out + result.err
        assert len(result.err) < 2000
        if result.status:
            assert result.error.startswith("xprnn: error: ")


def test_mutated_series_are_forecast_or_refused(tmp_path, monkeypatch):
    keep_figures(monkeypatch)
    forecast(100, 0, tmp_path)


@pytest.mark.full
def test_many_mutated_series_are_forecast_or_refused(tmp_path, monkeypatch):
    keep_figures(monkeypatch)
    forecast(2000, 1, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"3",
        b"[" * 100_000,
        b'{"epoch": "1", "loss": 0.5, "validation_loss": null, "gradient_norm": null}',
        b'{"epoch": 1, "loss": null, "validation_loss": null, "gradient_norm": null}',
        b'{"epoch": 1, "loss": true, "validation_loss": null, "gradient_norm": null}',
        b'{"epoch": 1, "loss": NaN, "validation_loss": null, "gradient_norm": null}',
        b'{"epoch": 1, "loss": 0.5, "loss": 0.4, "validation_loss": 1, "gradient_norm": null}',
        b'{"epoch": 1, "loss": 0.5, "validation_loss": [], "gradient_norm": "%s"}' % (b"a" * 10**6),
    ],
)
def test_a_history_that_is_none(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_bytes(line + b"\n")
    with in_words(path):
        History.load(path)
        pytest.fail("it was read")


def test_messages_do_not_grow_with_the_file(tmp_path):
    path = tmp_path / "v.csv"
    long = "a" * 100_000
    for content in (
        f"v\n{long}\n",
        f"{long}\n1\n",
        ",".join(f"c{k}" for k in range(20_000)) + "\n",
        f"v,when\n1,{long}\n",
        f'v\n"{"b" * 200_000}"\n',
    ):
        path.write_text(content)
        for when in (None, "when"):
            with in_words(path):
                read_csv(path, "v", time=when)


def test_a_column_whose_name_is_no_mathematics(tmp_path):
    r"""A picture shows ``$`` and ``\`` as they are."""
    model, path = tmp_path / "net", tmp_path / "v.csv"
    net = RNN(1, 3, 1, returns="last", rng=0)
    Forecaster(net, 4, Scaling(3.0, 2.0)).save(model, column="US$ in $x^{")
    path.write_text("US$ in $x^{\n" + "1.5\n2\n" * 6)
    result = run("apply", model, path, "--steps", 2, "--out", tmp_path / "out")
    assert (result.status, result.err) == (0, "")
