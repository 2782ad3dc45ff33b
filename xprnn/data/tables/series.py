"""What is read: a series, or several columns of the same rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.data.tables.times.spacing import Spacing


class Series(NamedTuple):
    """A series, oldest value first.

    Attributes
    ----------
    name : str
        The name of the column.
    values : host array, (N,), float64
    times : tuple of str, or None
        The entries of the time column, as they are written; None without one.
    spacing : Spacing or None
        What is known of the steps between the times, and how they go on.
    notes : tuple of str
        What was found in the file and done about it, for the user.
    """

    name: str
    values: HostArray
    times: tuple[str, ...] | None = None
    spacing: Spacing | None = None
    notes: tuple[str, ...] = ()

    def future(self, steps: int) -> tuple[str, ...]:
        """Return the labels of the next steps: their times where those are known, or +1, +2 ..."""
        return future(self.spacing, steps)


class Columns(NamedTuple):
    """Several columns of the same rows, oldest row first.

    Attributes
    ----------
    names : tuple of str
    values : host array, (N, C), float64
        Finite; but NaN where a column that was asked for as ``known`` has no value.
    times : tuple of str, or None
        The entries of the time column, as they are written; None without one.
    time : str or None
        The name of the time column.
    spacing : Spacing or None
        What is known of the steps between the times, and how they go on.
    notes : tuple of str
        What was found in the file and done about it, for the user.
    ahead : host array, (A, C), float64
        The rows after the last one in which a forecast column has a value: what is known of the
        future, NaN elsewhere.
    signs : mapping of str to str
        The signs that were found in the numbers: ``decimal`` and ``thousands``, where they occur.
    """

    names: tuple[str, ...]
    values: HostArray
    times: tuple[str, ...] | None
    time: str | None
    spacing: Spacing | None
    notes: tuple[str, ...]
    ahead: HostArray
    signs: Mapping[str, str]

    def series(self, index: int = 0) -> Series:
        """Return one of the columns."""
        return Series(
            self.names[index], self.values[:, index].copy(), self.times, self.spacing, self.notes
        )

    def future(self, steps: int) -> tuple[str, ...]:
        """Return the labels of the next steps: their times where those are known, or +1, +2 ..."""
        return future(self.spacing, steps)

    @property
    def found(self) -> str:
        """One line that says what was read, for the user."""
        return found(len(self.values), self.names, self.time, self.spacing, self.notes)


def found(
    count: int,
    names: Sequence[str],
    time: str | None,
    spacing: Spacing | None,
    notes: Sequence[str],
) -> str:
    """Return one line that says what was read."""
    columns = [f"column {name}" if name.isdecimal() else name for name in names]
    time = f"column {time}" if time is not None and time.isdecimal() else time
    if time is not None:
        columns.insert(0, f"{time} ({spacing.description})" if spacing is not None else time)
    return "; ".join([f"read {count} rows: {', '.join(columns)}", *notes])


def future(spacing: Spacing | None, steps: int) -> tuple[str, ...]:
    """Return the labels of the next steps."""
    known = () if spacing is None else spacing.future(steps)
    return known or tuple(f"+{k}" for k in range(1, steps + 1))
