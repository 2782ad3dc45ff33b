"""Tables that people have: files, sheets and frames, read as series.

From the bottom: `numbers`, `dates` and `spacing` know what single entries mean; `layout` makes a
`grid` of a text, `sheets` of an Excel or Parquet file or a DataFrame; `finding` and `order` find
the times; `gaps` is about missing values; `columns` and `reading` put them together.
"""

from xprnn.data.tables.columns import read_columns
from xprnn.data.tables.options import Reading
from xprnn.data.tables.reading import read_csv, read_series
from xprnn.data.tables.series import Columns, Series
from xprnn.data.tables.times.spacing import Spacing

__all__ = ["Columns", "Reading", "Series", "Spacing", "read_columns", "read_csv", "read_series"]
