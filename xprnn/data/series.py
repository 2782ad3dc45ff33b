"""Series: reading one from a CSV file, scaling it, cutting it into windows."""

import csv
import io
import math
import os
from pathlib import Path
from typing import NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np, plain_array, refuse_changed
from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.decoding import read_decoded
from xprnn.data.spacing import check_spacing, parse_number


class Series(NamedTuple):
    """A regularly sampled series.

    Attributes
    ----------
    name : str
        The name of the column.
    values : host array, (N,), float64
    times : tuple of str, or None
        The entries of the time column, as they are written; None without one.
    """

    name: str
    values: HostArray
    times: tuple[str, ...] | None = None


def read_csv(
    path: str | os.PathLike[str],
    column: str,
    *,
    time: str | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> Series:
    """Read one column of a CSV file whose first line names the columns.

    Parameters
    ----------
    path : path
    column : str
        The column to read; every entry must be a finite number.
    time : str, optional
        The column of times, which must be evenly spaced, to 1 % of the first step: numbers, or
        dates and times in ISO 8601 (``1958-03``, ``1958-03-29``, ``19580329``,
        ``1958-03-29T12:00``).  Equal numbers of months are even steps too, from a day to the same
        day of a month or from one end of a month to another.  None: the lines are assumed to be
        evenly spaced.
    delimiter : str
    encoding : str

    Returns
    -------
    Series

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If there is no such encoding or column, an entry is missing or is not a finite number, or
        the times are not evenly spaced; the message names the line.

    Examples
    --------
    >>> series = read_csv(sunspots(), "SUNACTIVITY", time="YEAR")
    >>> len(series.values), series.times[:2], float(series.values[0])
    (309, ('1700', '1701'), 5.0)
    """
    file = Path(path)
    lines, rows = _rows(file, delimiter, encoding)
    header = rows[0]
    index = _column(file, header, column)
    time_index = None if time is None else _column(file, header, time)
    if len(rows) == 1:
        raise ValueError(f"{str(file)!r} has a header, but no data")
    values = []
    for line, row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"{str(file)!r}, line {line}: {len(row)} fields, where the header has {len(header)}"
            )
        values.append(_number(file, line, column, row[index]))
    times = None
    if time_index is not None:
        times = tuple(row[time_index].strip() for row in rows[1:])
        check_spacing(file, lines[1:], str(time), times)
    return Series(column, np.array(values), times)


def sunspots() -> Path:
    """Return the path of a CSV file with the yearly mean sunspot numbers of 1700 to 2008.

    Columns ``YEAR`` and ``SUNACTIVITY``, 309 rows; public domain.

    References
    ----------
    National Geophysical Data Center (NOAA), as distributed with the statsmodels package
    (``statsmodels.datasets.sunspots``).
    """
    return Path(__file__).with_name("sunspots.csv")


class Scaling(NamedTuple):
    """A shift and a scale: scaled = (value - mean) / std."""

    mean: float
    std: float

    @classmethod
    def fitted(cls, values: HostArray, *, what: str = "values") -> "Scaling":
        """Return the scaling that gives these values zero mean and unit standard deviation.

        Fit it on the training part only: data that is held out must not leak into the model.

        Parameters
        ----------
        values : host array, (N,)
        what : str
            The name of the values in messages.

        Raises
        ------
        ValueError
            If the values are all equal, or so large that their deviation overflows.
        """
        values = check_series("values", values, more_than=0)
        largest = float(np.max(np.abs(values)))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(np.mean(values)), float(np.std(values))
        if not math.isfinite(std):
            raise ValueError(
                f"the {what} of the training part reach {largest:g}, too large to be scaled: "
                "expected below 1e150 or so; another unit?"
            )
        if std <= 1e-12 * largest:
            raise ValueError(f"all {len(values)} {what} of the training part are {mean:g}")
        return cls(mean, std)

    def apply(self, values: HostArray) -> HostArray:
        """Scale."""
        refuse_changed("values", values)
        return (values - self.mean) / self.std

    def invert(self, scaled: HostArray) -> HostArray:
        """Scale back."""
        refuse_changed("scaled", scaled)
        return scaled * self.std + self.mean


def windows(values: HostArray, length: int) -> tuple[HostArray, HostArray]:
    """Return every window of ``length`` values, and the value that follows each.

    Parameters
    ----------
    values : host array, (N,)
        Finite.
    length : int
        T, below N.

    Returns
    -------
    x : host array, (T, N-T, 1)
        A batch of N-T sequences.
    target : host array, (N-T, 1)

    Raises
    ------
    TypeError, ValueError
        If the values are not finite, or not more than ``length``.

    Examples
    --------
    >>> import numpy as np
    >>> x, target = windows(np.array([1.0, 2, 3, 4]), 2)
    >>> x[:, :, 0].T.tolist(), target[:, 0].tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [3.0, 4.0])
    """
    length = checks.positive_int("length", length)
    values = check_series("values", values, more_than=length)
    found = np.lib.stride_tricks.sliding_window_view(values[:-1], length)
    return np.ascontiguousarray(found.T)[:, :, None], values[length:, None]


def check_series(name: str, values: HostArray, *, more_than: int) -> HostArray:
    """Return values as float64, after checking that they are finite and enough."""
    values = plain_array(name, values)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {values.dtype}: expected real numbers")
    checks.of_shape(name, values, ("N",))
    if len(values) <= more_than:
        raise ValueError(f"{name} has {len(values)} entries: expected more than {more_than}")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}: expected finite")
    return values.astype(np.float64)


def _rows(file: Path, delimiter: str, encoding: str) -> tuple[list[int], list[list[str]]]:
    """Return the numbers of the lines where rows end, and the rows."""
    stream = io.StringIO(read_decoded(file, encoding), newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
    lines, rows = [], []
    try:
        for row in reader:
            lines.append(reader.line_num)
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{str(file)!r}, line {reader.line_num}: {error}") from error
    # Blank lines at the end are not rows, but a line of empty fields is a row with missing values.
    while rows and (not rows[-1] or (len(rows[-1]) == 1 and not rows[-1][0].strip())):
        del lines[-1], rows[-1]
    if not rows or not rows[0]:
        what = "line 1 is blank" if rows else "the file is empty"
        raise ValueError(f"{str(file)!r}: {what}; expected a line that names the columns")
    return lines, [[field.strip() for field in row] for row in rows]


def _column(file: Path, header: list[str], name: str) -> int:
    found = [k for k, field in enumerate(header) if field == name]
    if len(found) != 1:
        problem = "no column" if not found else f"{len(found)} columns"
        hint = "; another delimiter?" if len(header) == 1 else ""
        raise ValueError(
            f"{str(file)!r} has {problem} {quoted(name)}: "
            f"its columns are {listed(map(quoted, header))}{hint}"
        )
    return found[0]


def _number(file: Path, line: int, column: str, text: str) -> float:
    where = f"{str(file)!r}, line {line}, column {quoted(column)}"
    if not text:
        raise ValueError(f"{where}: the value is missing; fill the gap or cut the file there")
    value = parse_number(text)
    if value is None:
        raise ValueError(f"{where}: {quoted(text)} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{where}: {quoted(text)} is not a finite number")
    return value
