"""Reading a series from a file, a DataFrame or standard input."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from xprnn.data.tables.columns import read_columns
from xprnn.data.tables.options import Reading
from xprnn.data.tables.series import Series


def read_series(
    source: Any,
    column: str | int | None = None,
    *,
    time: str | int | None = None,
    where: Mapping[str, str] | None = None,
    missing: str = "refuse",
    na: Sequence[str] = (),
    decimal: str | None = None,
    thousands: str | None = None,
    dayfirst: bool | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Series:
    """Read a series: one column of a table.

    What is not given is found in the table, and what was found is in the ``notes`` of the result.
    Where two readings are possible, the error names the argument that decides.

    Parameters
    ----------
    source : path, DataFrame or Series
        A text file with fields between delimiters, compressed or not; an Excel or Parquet file;
        "-" for standard input; or a pandas object, whose index is a column, too.
    column : str or int, optional
        By name, or by number from 1.  May be left out where there is only one.
    time : str or int, optional
        The column of times.  By default, the first whose entries are dates or years that go one
        way; ``"none"``: there is none, the rows are in order.
    where : mapping of str to str, optional
        Only rows that have these entries in these columns.
    missing : str
        What to do about missing values between others: ``"refuse"``, ``"fill"`` with the value
        before, ``"interpolate"``, or ``"cut"`` to the longest part without.  Those before the
        first value and after the last are cut.
    na : sequence of str
        Entries that stand for a missing value, besides the usual ones.
    decimal, thousands : str, optional
        The signs in numbers.
    dayfirst : bool, optional
        Whether 01/02/2020 is the first of February.
    delimiter, encoding : str, optional
        Of a text file.
    sheet : str, optional
        Of an Excel file, by name or by number from 1.

    Returns
    -------
    Series
        Oldest value first.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If the table or the column can't be read; the message names the line.
    ImportError
        If something that is in the file needs a package that is missing.

    Examples
    --------
    >>> from xprnn.data import sunspots
    >>> series = read_series(sunspots(), "SUNACTIVITY")
    >>> len(series.values), series.times[:2], float(series.values[0])
    (309, ('1700', '1701'), 5.0)
    >>> series.future(2)
    ('2009', '2010')
    """
    reading = Reading(
        time=time,
        where=where or {},
        missing=missing,
        na=tuple(na),
        decimal=decimal,
        thousands=thousands,
        dayfirst=dayfirst,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
    )
    return read_columns(source, [] if column is None else [column], reading).series()


def read_csv(
    path: str | os.PathLike[str],
    column: str | int,
    *,
    time: str | int | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Series:
    """Read a column of a text file, as `read_series` does.

    Examples
    --------
    >>> from xprnn.data import sunspots
    >>> series = read_csv(sunspots(), "SUNACTIVITY", time="YEAR")
    >>> series.spacing.description
    'yearly'
    """
    return read_series(path, column, time=time, delimiter=delimiter, encoding=encoding)
