"""The layout of a table: lines of names, data, and lines around it."""

import re
from collections import Counter
from collections.abc import Sequence

from xprnn.backend.host.quoting import listed, shortened
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.layout.delimiters import delimiter_of, fields, lines_of, unquoted
from xprnn.data.tables.layout.rows import (
    Kind,
    are_row_names,
    are_years,
    is_footer,
    is_value,
    is_word,
    mostly,
)
from xprnn.data.tables.numbers.entries import is_missing, looks_like_number


def grid_of(text: str, file: str, delimiter: str | None = None) -> Grid:
    """Return the table in a text.

    Parameters
    ----------
    text : str
    file : str
        What the file is called in messages.
    delimiter : str, optional
        None: found from the lines.

    Raises
    ------
    ValueError
        If the text holds no table; the message names the line.
    """
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise ValueError(
            f"{file}, line {line}: a zero byte, which no text has; another --encoding?"
        )
    lines, comments, separator = lines_of(text)
    lines = unquoted(lines)
    notes: list[str] = []
    if separator:
        delimiter = delimiter or separator
    found = delimiter or delimiter_of(lines)
    numbers, rows = fields(lines, found, file)
    if not rows:
        raise ValueError(f"{file}: the file is empty; expected a line that names the columns")
    return _Layout(file, numbers, rows, found, comments, notes).grid()


def grid_of_rows(rows: Sequence[Sequence[str]], file: str) -> Grid:
    """Return the table in rows of cells, such as a sheet has.

    Raises
    ------
    ValueError
        If the rows hold no table.
    """
    made = [list(row) for row in rows]
    width = max((k + 1 for row in made for k, text in enumerate(row) if text), default=0)
    if not width:
        raise ValueError(f"{file}: the sheet is empty; expected a row that names the columns")
    first = min(k for row in made for k, text in enumerate(row) if text)
    made = [row[first:width] for row in made]
    # A title is one cell in a row of its own, above the others.
    for k, row in enumerate(made):
        if sum(map(bool, row)) > 1:
            break
        made[k] = row[:1] if row[0] and len(row) > 1 else row
    return _Layout(file, list(range(1, len(made) + 1)), made, "\t", {}, [], "row").grid()


_RULE = re.compile(r"([:=-]{2,})?")


class _Layout:
    """Finds names, data, and what stands around it."""

    def __init__(
        self,
        file: str,
        numbers: list[int],
        rows: list[list[str]],
        delimiter: str,
        comments: dict[int, str],
        notes: list[str],
        word: str = "line",
    ) -> None:
        self.file, self.delimiter, self.comments, self.notes = file, delimiter, comments, notes
        self.word = word
        kept = [k for k, row in enumerate(rows) if any(row)]
        self.blank = [numbers[k] for k, row in enumerate(rows) if not any(row)]
        self.empty_fields = {
            numbers[k] for k, row in enumerate(rows) if len(row) > 1 and not any(row)
        }
        self.numbers, self.rows = [numbers[k] for k in kept], [rows[k] for k in kept]

    def grid(self) -> Grid:
        """Return the table."""
        if not self.rows:
            raise ValueError(
                f"{self.file}: the file is empty; expected a line that names the columns"
            )
        width = self._width()
        self._check_first(width)
        start = next(k for k, row in enumerate(self.rows) if len(row) == width)
        kinds = self._kinds(start, width)
        end = self._end(width, kinds)
        names = self._names(start, end, width, kinds)
        headers = [self.rows[k] for k in range(start, start + names)]
        headers = self._commented(headers, start, width)
        skipped = self.numbers[:start]
        if skipped:
            self.notes.append(f"{self._range(skipped)} before the table left out")
        if len(headers) > 1:
            self.notes.append(f"{len(headers)} {self.word}s of names")
        elif not headers:
            self.notes.append("no header")
        if end < len(self.rows):
            text = shortened(" ".join(filter(None, self.rows[end])), 40)
            self.notes.append(
                f"{self._range(self.numbers[end:])} after the table left out ({text})"
            )
        numbers, rows = self.numbers[start + names : end], self.rows[start + names : end]
        numbers, rows = self._with_blank(numbers, rows, width)
        headers = [[" ".join(name.split()) for name in header] for header in headers]
        for number, row in zip(numbers, rows, strict=True):
            if len(row) != width:
                self._refuse(number, len(row), width, bool(headers))
        if not rows:
            raise ValueError(f"{self.file} has a header, but no data")
        return Grid(
            file=self.file,
            rows=rows,
            lines=numbers,
            headers=headers,
            word=self.word,
            delimiter=self.delimiter,
            notes=tuple(self.notes),
        )

    def _width(self) -> int:
        """Return the number of columns; drop empty fields beyond the last."""
        counts = Counter(map(len, self.rows))
        width = max(counts, key=lambda count: (counts[count], count))
        # One name and one row: the header counts.
        if counts[width] < 0.5 * len(self.rows) and len(self.rows) < 4:
            width = len(self.rows[0])
        full = [row for row in self.rows if len(row) == width]
        trailing = width
        data = full[1:] if len(full) > 2 else full
        while trailing > 1 and all(not row[trailing - 1] for row in data):
            names = {row[trailing - 1] for row in full}
            if names != {""} and len(full[0]) == width:
                break
            trailing -= 1
        if trailing < width:
            for row in self.rows:
                if len(row) > trailing and not any(row[trailing:]):
                    del row[trailing:]
            self.notes.append("delimiters at the ends of lines left out")
        for row in self.rows:
            if len(row) > trailing and not any(row[trailing:]):
                del row[trailing:]
        return trailing

    def _check_first(self, width: int) -> None:
        """Refuse names that are fewer or more than the fields of the lines below them."""
        k = next(k for k, row in enumerate(self.rows) if len(row) == width)
        if k == 0 or len(self.rows) == k:
            return
        above, below = self.rows[k - 1], self.rows[k]
        adjacent = self.numbers[k] == self.numbers[k - 1] + 1
        is_data = any(map(is_value, below))
        texts = [text for text in above if text and not is_value(text)]
        if not adjacent or not is_data or len(texts) < min(2, width) or len(texts) < len(above):
            return
        if len(above) == width - 1 and self.delimiter in "\t " and are_row_names(self.rows[k:]):
            above.insert(0, "")
            self.notes.append("the first column has no name: names of rows")
            return
        hint = ""
        if self.delimiter == "," and width > len(above):
            hint = (
                "; are there decimal commas in fields that commas separate? They must be quoted, "
                "or the fields separated by another sign"
            )
        raise ValueError(
            f"{self.file}, {self.word} {self.numbers[k]}: {width} fields, where the header has "
            f"{len(above)}{hint}"
        )

    def _kinds(self, start: int, width: int) -> list[Kind | None]:
        """Return for each column what tells its entries: that of numbers, of dates, or None."""
        full = [row for row in self.rows[start:] if len(row) == width]
        sample = full[1:] if len(full) > 1 else full
        if len(sample) > 120:
            middle = len(sample) // 2
            sample = [*sample[10:50], *sample[middle : middle + 40], *sample[-50:-10]]
        kinds: list[Kind | None] = []
        for k in range(width):
            there = [row[k] for row in sample if not is_missing(row[k])]
            found = [
                kind for kind in (looks_like_number, is_value) if there and mostly(kind, there)
            ]
            kinds.append(found[0] if found else None)
        return kinds

    def _names(self, start: int, end: int, width: int, kinds: Sequence[Kind | None]) -> int:
        """Return how many rows of names there are."""
        if not any(kinds):
            return 1
        count = 0
        for row in self.rows[start : min(end, start + 12)]:
            if len(row) != width:
                break
            typed = [(text, kind) for text, kind in zip(row, kinds, strict=True) if kind]
            values = [text for text, kind in typed if kind(text)]
            texts = [text for text, kind in typed if not kind(text) and not is_missing(text)]
            if count == 0 and are_years(values):
                # A table whose times run across its columns.
                return 1
            # A word where dates are, or a rule below the names of Markdown's tables.
            word = any(kind is is_value and is_word(text) for text, kind in typed)
            rule = count > 0 and all(map(_RULE.fullmatch, row))
            if not (word or rule) and (not texts or len(values) >= (1 if count else len(texts))):
                break
            count += 1
        return count

    def _end(self, width: int, kinds: Sequence[Kind | None]) -> int:
        """Return the index of the row after the last row of data."""
        end = len(self.rows)
        for k in range(len(self.rows) - 1, max(0, len(self.rows) - 40), -1):
            row = self.rows[k]
            if not is_footer(row, width, kinds):
                break
            end = k
        # If everything were a footer, nothing would be one.
        return end if end > 1 else len(self.rows)

    def _commented(self, headers: list[list[str]], start: int, width: int) -> list[list[str]]:
        """Return the names from a comment just above the data, where no other line has them."""
        if headers or self.numbers[start] - 1 not in self.comments:
            return headers
        text = self.comments[self.numbers[start] - 1].lstrip("#%/").strip()
        _, rows = fields([text], self.delimiter, self.file)
        if rows and len(rows[0]) == width and not any(map(is_value, rows[0])):
            return rows
        return headers

    def _with_blank(
        self, numbers: list[int], rows: list[list[str]], width: int
    ) -> tuple[list[int], list[list[str]]]:
        """Return the rows with blank lines between them: missing values, or nothing."""
        if not rows:
            return numbers, rows
        remarks = [k for k in self.comments if numbers[0] < k < numbers[-1]]
        if remarks:
            self.notes.append(f"{self._range(remarks)} left out, a comment")
        between = [k for k in self.blank if numbers[0] < k < numbers[-1] and k not in self.comments]
        as_rows = [k for k in between if width == 1 or k in self.empty_fields]
        if len(as_rows) < len(between):
            blank = [k for k in between if k not in as_rows]
            self.notes.append(f"blank {self._range(blank)} left out")
        if not as_rows:
            return numbers, rows
        merged = sorted([*zip(numbers, rows, strict=True), *((k, [""] * width) for k in as_rows)])
        return [k for k, _ in merged], [row for _, row in merged]

    def _range(self, numbers: Sequence[int]) -> str:
        if len(numbers) == 1:
            return f"{self.word} {numbers[0]}"
        if numbers[-1] - numbers[0] == len(numbers) - 1:
            return f"{self.word}s {numbers[0]} to {numbers[-1]}"
        return f"{self.word}s {listed(map(str, numbers), 3)}"

    def _refuse(self, number: int, count: int, width: int, named: bool) -> None:
        where = "the header has" if named else "others have"
        raise ValueError(
            f"{self.file}, {self.word} {number}: {count} fields, where {where} {width}"
        )
