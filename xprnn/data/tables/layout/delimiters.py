"""The lines of a text, and the sign between their fields."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from xprnn.data.tables.times.formats import looks_like_date

_DELIMITERS = "\t;|,"
_SAMPLE = 300
"""The lines that the delimiter is found from."""
_SEP = re.compile(r'"?sep=(?P<sign>.)"?\s*', re.IGNORECASE)
# "#N/A" and the like are entries.
_COMMENT = re.compile(r"\s*(#(?!N/?[ADV]\b|DIV/|VALUE|REF|NAME|NUM|NULL|WERT|BEZUG)|%|//)")
_QUOTED = re.compile(r'"(?:[^"]|"")*[,;\t](?:[^"]|"")*"')
_SPACES = " "
_DECIMAL = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")


def unquoted(lines: Sequence[str]) -> list[str]:
    """Return lines without the quotes around each whole line, which some programs put there."""
    sample = [line.strip() for line in lines if line.strip()]
    if len(sample) < 2 or not all(map(_QUOTED.fullmatch, sample)):
        return list(lines)
    # Fields in quotes have quotes between them, too.
    bare = [line.strip()[1:-1].replace('""', '"') for line in lines]
    return [f"{line}\n" for line in bare]


def lines_of(text: str) -> tuple[list[str], dict[int, str], str | None]:
    """Return the lines, comments emptied; the comments by line; and what ``sep=`` says."""
    lines = io.StringIO(text.removeprefix("\ufeff"), newline="").readlines()
    separator, comments = None, {}
    for k, line in enumerate(lines):
        if k == 0 and (found := _SEP.fullmatch(line)):
            separator = found["sign"]
            lines[0] = "\n"
        elif line[:1] in "#% \t/" and _COMMENT.match(line):
            comments[k + 1] = line.strip()
            lines[k] = "\n"
    return lines, comments, separator


def delimiter_of(lines: Sequence[str]) -> str:
    """Return the sign between the fields: the one that gives most lines the same number."""
    sample = list(islice((line for line in lines if line.strip()), _SAMPLE))
    if not sample:
        return ","
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        if not any(delimiter in line for line in sample):
            continue
        score = _agreement(_counts(sample, delimiter))
        if score > best_score:
            best, best_score = delimiter, score
    if best_score[0] < 0.5 or best == ",":
        counts = [len(line.split()) for line in sample]
        # The first column of R's tables has no name.
        spaced = _agreement([counts[0] + (counts[0] + 1 == counts[-1]), *counts[1:]])
        plain = not any("," in line or ";" in line or "\t" in line for line in sample)
        # With decimal commas the first line, of names, has none.
        plain = plain or ("," not in sample[0] and len(set(counts)) == 1)
        # Two fields of which the second is a time of day are one date.
        if spaced[0] > 0.9 and (plain or best_score[0] < 0.5) and not _are_dates(sample):
            return _SPACES
    if best == "," and "," not in sample[0] and all(map(_DECIMAL.fullmatch, sample[1:])):
        # One column with decimal commas: no sign stands between fields.
        return ";"
    return best


def _are_dates(sample: Sequence[str]) -> bool:
    return sum(looks_like_date(line.strip()) for line in sample) > len(sample) / 2


def _counts(sample: Sequence[str], delimiter: str) -> list[int]:
    try:
        return [len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True)]
    except csv.Error:
        return [line.count(delimiter) + 1 for line in sample]


def _agreement(counts: Sequence[int]) -> tuple[float, int]:
    """Return the share of lines that have the commonest number of fields, and that number."""
    if not counts:
        return (0.0, 0)
    number, times = Counter(counts).most_common(1)[0]
    if number < 2:
        return (0.0, 0)
    # Lines before the data and after it are few; what does not even fit the first line is worse.
    share = round(times / len(counts), 1)
    return (share - (0.3 if counts[0] != number else 0.0), number)


def fields(lines: Sequence[str], delimiter: str, file: str) -> tuple[list[int], list[list[str]]]:
    """Return the numbers of the lines where rows end, and the rows, blank ones included."""
    if delimiter == _SPACES and not any('"' in line for line in lines):
        rows = [line.split() for line in lines]
        return list(range(1, len(rows) + 1)), rows
    reader = csv.reader(iter(lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    numbers, rows = [], []
    try:
        for row in reader:
            numbers.append(reader.line_num)
            rows.append([field.strip() for field in row])
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error
    return numbers, rows
