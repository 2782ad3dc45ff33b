"""Many traits of files at once, drawn at random: what is read is what was written."""

import random
from datetime import date, datetime, timedelta

import pytest

from tests.optional import optional
from xprnn.data import read_columns
from xprnn.data.tables import Reading

optional("pandas").DataFrame  # noqa: B018 (without it, dates of most forms are not read)

DATES = {
    "daily": [
        *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d", "%d-%b-%Y", "%b %d %Y"),
        *("%Y/%m/%d", "%d-%m-%y", "%Y-%m-%d 00:00:00"),
    ],
    "hourly": ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M %p", "%Y-%m-%dT%H:%M:%SZ"],
    "monthly": ["%Y-%m", "%Y%m", "%b-%Y", "%Y-%m-01", "%m/%Y", "%YM%m"],
    "business days": ["%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y"],
}
STYLES = [(".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (",", " "), (",", "\u00a0")]
UNITS = ["", "", "", "%", " €", " kg", "$"]
MISSING = ["", "NA", "null", "#N/A", "-"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"]


def moments(rng, steps, count):
    start = datetime(2019, 1, 1) + timedelta(days=rng.randrange(400))
    if steps == "hourly":
        return [start + timedelta(hours=k) for k in range(count)]
    if steps == "monthly":
        return [datetime(2010 + k // 12, k % 12 + 1, 1) for k in range(count)]
    days = [start + timedelta(days=k) for k in range(2 * count)]
    if steps == "business days":
        days = [day for day in days if day.weekday() < 5]
    return days[:count]


def number(value, decimal, thousands, unit):
    text = f"{value:,.2f}".replace(",", "\x00").replace(".", decimal).replace("\x00", thousands)
    return f"{unit}{text}".replace("$-", "-$") if unit == "$" else f"{text}{unit}"


def made(rng):
    """Return the bytes of a file, its values and times (oldest first), and what it was drawn of."""
    steps = rng.choice(list(DATES))
    pattern, (decimal, thousands) = rng.choice(DATES[steps]), rng.choice(STYLES)
    count, unit = rng.randrange(40, 70), rng.choice(UNITS)
    delimiter = rng.choice(";\t|" if "," in (decimal, thousands) else ",;\t|")
    times = [moment.strftime(pattern) for moment in moments(rng, steps, count)]
    values = [round(rng.uniform(-10, 5000), 2) for _ in range(count)]
    others = [round(rng.uniform(0, 9), 2) for _ in range(count)]
    texts = [number(value, decimal, thousands, unit) for value in values]
    missing = rng.random() < 0.3
    if missing:
        for k in rng.sample(range(1, count - 1), 3):
            texts[k] = rng.choice(MISSING)
    rows = [
        [time, text, number(other, decimal, "", "")]
        for time, text, other in zip(times, texts, others, strict=True)
    ]
    if rng.random() < 0.5:
        rows.reverse()
    if rng.random() < 0.3:
        rows = [[row[1], row[0], row[2]] for row in rows]
        names = ["value", "when", "other"]
    else:
        names = ["when", "value", "other"]
    lines = [names, *rows]
    if rng.random() < 0.3:
        lines.insert(1, ["", "(a)", "m/s"])
    ending = delimiter if rng.random() < 0.2 else ""
    quote = '"' if rng.random() < 0.3 else ""
    text = "".join(
        delimiter.join(f"{quote}{f}{quote}" for f in row) + ending + "\n" for row in lines
    )
    before = rng.choice(["", "", "", "\n", "# a comment\n", "Export of site 7\n\n", "Site: Köln\n"])
    if rng.random() < 0.2:
        before = f"sep={delimiter}\n"
    after = rng.choice(["", "", "\n", "\nSource: office\n", f"Source: office{delimiter * 2}\n"])
    text = (before + text + after).replace("\n", rng.choice(["\n", "\r\n"]))
    drawn = (steps, pattern, decimal, thousands, unit, delimiter, missing, before, after)
    encoding = rng.choice(ENCODINGS)
    return text.encode(encoding, "replace"), values, texts, times, (*drawn, encoding)


def check(seed, path):
    """Read a file, and compare."""
    content, values, texts, times, drawn = made(random.Random(seed))
    path.write_bytes(content)
    missing = drawn[6]
    table = read_columns(path, ["value"], Reading(missing="fill" if missing else "refuse"))
    found = table.values[:, 0].tolist()
    want = list(values)
    for k, text in enumerate(texts):
        if text in MISSING:
            want[k] = want[k - 1]
    assert found == want, drawn
    assert table.times == tuple(times), drawn
    assert table.spacing.description == drawn[0], drawn
    assert table.spacing.even, drawn
    later = table.future(1)[0]
    assert len(later) == len(times[0]) or "%b" in drawn[1], drawn


@pytest.mark.parametrize("block", range(4))
def test_traits_at_once(tmp_path, block):
    for seed in range(40 * block, 40 * (block + 1)):
        check(seed, tmp_path / "a.csv")


@pytest.mark.full
@pytest.mark.parametrize("block", range(1, 11))
def test_many_traits_at_once(tmp_path, block):
    for seed in range(200 * block, 200 * (block + 1)):
        check(seed, tmp_path / "a.csv")


def test_the_dates_of_a_series_are_those_of_its_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("when,value\n" + "".join(f"{date(2024, 5, k)},{k}\n" for k in range(1, 31)))
    assert read_columns(path, ["value"]).future(2) == ("2024-05-31", "2024-06-01")
