"""Tables that are no text: Excel and Parquet, and pandas' own. pandas reads them."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.host.quoting import listed, quoted, shortened
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.layout.layout import grid_of_rows
from xprnn.data.tables.options import Reading

OLD_EXCEL = b"\xd0\xcf\x11\xe0"
"""What an .xls file begins with."""
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:")
_MIDNIGHT = "T00:00:00"
_INSTALL = 'pip install "xprnn[data]"'
Frame = Any
"""A pandas DataFrame or Series."""


def excel(content: bytes, file: str, reading: Reading) -> Grid:
    """Return a sheet of an Excel file.

    Raises
    ------
    ValueError
        If it is no Excel file, or has no such sheet.
    ImportError
        If pandas, openpyxl (.xlsx) or xlrd (.xls) is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{file} is an Excel file, which needs pandas: {_INSTALL}") from error
    try:
        with pd.ExcelFile(io.BytesIO(content)) as book:
            sheet = _sheet(book, file, reading.sheet)
            frame = pd.read_excel(
                book, sheet_name=sheet, header=None, dtype=object, keep_default_na=False
            )
            others = [name for name in map(str, book.sheet_names) if name != str(sheet)]
    except ImportError as error:
        old = content.startswith(OLD_EXCEL)
        advice = "pip install xlrd, or save it as .xlsx" if old else _INSTALL
        raise ImportError(f"{file} is an Excel file, which needs more ({error}): {advice}") from (
            error
        )
    except ValueError as error:
        if str(error).startswith(file):
            raise
        raise ValueError(f"{file} is not a whole Excel file: {error}") from error
    except Exception as error:
        # A damaged sheet fails anywhere in openpyxl.
        raise ValueError(
            f"{file} is not a whole Excel file: {type(error).__name__}: {error}"
        ) from error
    columns = [_dated([_text(value) for value in frame.iloc[:, k]]) for k in range(frame.shape[1])]
    rows = [list(row) for row in zip(*columns, strict=True)]
    grid = grid_of_rows(rows, file)
    if others:
        told = f"sheet {sheet} (others: {listed(others, 4)}; --sheet takes one)"
        return replace(grid, notes=(*grid.notes, told), choice=told)
    return grid


def _sheet(book: Any, file: str, sheet: str | None) -> str:
    names = [str(name) for name in book.sheet_names]
    if sheet is None:
        return names[0]
    if sheet in names:
        return sheet
    if sheet.isdecimal() and 1 <= int(sheet) <= len(names):
        return names[int(sheet) - 1]
    raise ValueError(
        f"{file} has no sheet {quoted(sheet)}: its sheets are {listed(map(quoted, names))}"
    )


def parquet(
    content: bytes, file: str, reading: Reading, columns: Sequence[str | int] | None
) -> Grid:
    """Return the table in a Parquet file.

    Raises
    ------
    ValueError
        If it is no whole Parquet file.
    ImportError
        If pandas or pyarrow is missing.
    """
    try:
        import pandas as pd

        frame = pd.read_parquet(io.BytesIO(content))
    except ImportError as error:
        raise ImportError(
            f"{file} is a Parquet file, which needs pandas and pyarrow ({error}): {_INSTALL}"
        ) from error
    except Exception as error:
        # A damaged file fails anywhere in pyarrow.
        raise ValueError(
            f"{file} is not a whole Parquet file: {shortened(str(error), 200)}"
        ) from error
    return of_frame(frame, file, reading, columns)


def is_frame(source: object) -> bool:
    """Whether an object is a pandas DataFrame or Series; pandas is not imported to find out."""
    kind = type(source)
    return kind.__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc")


def of_frame(
    frame: Frame, file: str, reading: Reading, columns: Sequence[str | int] | None
) -> Grid:
    """Return a DataFrame or a Series as a table of text; numbers are written exactly.

    ``columns``: those that are read, beside which times may be; None: one is to be found.
    """
    if frame.ndim == 1:
        frame = frame.to_frame(name="value" if frame.name is None else frame.name)
    index = frame.index
    if type(index).__name__ != "RangeIndex" or index.name is not None:
        for level in range(index.nlevels):
            name = index.names[level] or ("time" if index.nlevels == 1 else f"index {level + 1}")
            if name not in frame.columns:
                frame = frame.assign() if level else frame.copy(deep=False)
                frame.insert(level, name, index.get_level_values(level))
    asked = {
        " ".join(str(name).split()) for name in (*(columns or ()), *reading.where, reading.time)
    }
    names = [
        " ".join(" ".join(map(str, name if isinstance(name, tuple) else [name])).split())
        for name in frame.columns
    ]
    kept = [
        k
        for k, name in enumerate(names)
        if columns is None
        or name in asked
        or str(k + 1) in asked
        or str(frame.dtypes.iloc[k])[:4] in ("obje", "str", "date", "peri", "cate", "stri")
        or str(frame.dtypes.iloc[k])[:3] == "int"
    ]
    texts = [_column(frame.iloc[:, k]) for k in kept]
    rows = [list(row) for row in zip(*texts, strict=True)]
    if not rows:
        raise ValueError(f"{file} has no rows, or no columns")
    return Grid(
        file=file,
        rows=rows,
        lines=list(range(len(rows))),
        headers=[[names[k] for k in kept]],
        word="row",
    )


def _column(column: Any) -> list[str]:
    """Return the entries of a column as text."""
    absent = np.asarray(column.isna())
    kind = str(column.dtype)
    if kind.startswith(("float", "Float", "int", "uint", "Int", "UInt", "double")):
        values = column.to_numpy(dtype=object, na_value=None).tolist()
        texts = [repr(float(v)) if isinstance(v, float) else str(v) for v in values]
    elif kind.startswith("datetime"):
        texts = _dated([_moment(value) for value in column])
    else:
        texts = [_text(value) for value in column]
    return ["" if gone else text for text, gone in zip(texts, absent.tolist(), strict=True)]


def _text(value: object) -> str:
    """Return a cell as text."""
    if value is None or value is False or value is True:
        return "" if value is None else str(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        whole = number.is_integer() and abs(number) < 1e15
        return "" if math.isnan(number) else repr(int(number) if whole else number)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date | time):
        return value.isoformat()
    return "" if str(value) in ("NaT", "<NA>") else str(value).strip()


def _moment(value: Any) -> str:
    """Return a moment in ISO 8601."""
    return str(value.isoformat())


def _dated(texts: list[str]) -> list[str]:
    """Return the entries of a column, dates alone where all of them are of midnight."""
    moments = [text for text in texts if _MOMENT.match(text)]
    if not all(text.endswith(_MIDNIGHT) for text in moments):
        return texts
    return [text.removesuffix(_MIDNIGHT) if _MOMENT.match(text) else text for text in texts]
