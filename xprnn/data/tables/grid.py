"""A table as text: its fields, the numbers of its lines, and the names of its columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xprnn.backend.host.quoting import listed, quoted


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The rows of a table, as text.

    Attributes
    ----------
    file : str
        What it is called in messages: ``'prices.csv'``, in quotes.
    rows : list of list of str
        The fields, without white space around them; all rows have as many.
    lines : list of int
        The number of the line where each row ends.
    headers : list of list of str
        The rows of names, from none to several.
    word : str
        What a line is called: "line", or "row" where there are no lines.
    delimiter : str or None
        What stood between the fields.
    notes : tuple of str
        What was found, for the user.
    choice : str
        The sheet or encoding that was chosen, and the option for another: where a column is not
        found, this may be why.
    """

    file: str
    rows: list[list[str]]
    lines: list[int]
    headers: list[list[str]]
    word: str = "line"
    delimiter: str | None = None
    notes: tuple[str, ...] = ()
    choice: str = ""

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.rows[0]) if self.rows else len(self.headers[0]) if self.headers else 0

    def name(self, index: int) -> str:
        """Return the name of a column: the first that its header has, or its number."""
        for header in self.headers:
            if index < len(header) and header[index]:
                return header[index]
        return str(index + 1)

    def column(self, index: int) -> list[str]:
        """Return the entries of a column."""
        return [row[index] for row in self.rows]

    def find(self, name: str | int, option: str = "--column") -> int:
        """Return the index of a column, by a name in its header or by its number, from 1.

        Raises
        ------
        ValueError
            If there is no such column, or several.
        """
        plain = " ".join(name.split()) if isinstance(name, str) else name
        for header in self.headers:
            found = [k for k, text in enumerate(header) if text == plain]
            if len(found) == 1:
                return found[0]
            if found:
                raise ValueError(
                    f"{self.file} has {len(found)} columns {quoted(name)}: its columns are "
                    f"{self._names()}; {option} takes the number of one, too, such as "
                    f"{found[0] + 1}"
                )
        number = int(name) if str(name).isdecimal() and len(str(name)) < 7 else 0
        if 1 <= number <= self.width:
            return number - 1
        if not self.headers:
            raise ValueError(
                f"{self.file} has no header ({self.word} {self.lines[0]} is data), and so no "
                f"column {quoted(name)}: expected {option} with a number from 1 to {self.width}"
            )
        only = len(self.headers[0]) == 1 and any(sign in self.headers[0][0] for sign in ";\t|, ")
        raise ValueError(
            f"{self.file} has no column {quoted(name)}: its columns are {self._names()}"
            + ("; another delimiter?" if only else "")
            + (f"; {self.choice}" if self.choice else "")
        )

    def taken(self, kept: Sequence[int]) -> "Grid":
        """Return the grid of some of the rows."""
        rows, lines = [self.rows[k] for k in kept], [self.lines[k] for k in kept]
        return replace(self, rows=rows, lines=lines)

    def told(self, *notes: str) -> "Grid":
        """Return the grid with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def _names(self) -> str:
        return listed(quoted(self.headers[0][k]) for k in range(len(self.headers[0])))
