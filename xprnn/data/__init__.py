"""Data: batches, text, series from files, synthetic problems, and baselines."""

from xprnn.data import text
from xprnn.data.baselines import Autoregression, persistence, rmse
from xprnn.data.batches import Batch, chunks, minibatches
from xprnn.data.collection import Collection, read_texts
from xprnn.data.ngram import NGram
from xprnn.data.padding import buckets, pad
from xprnn.data.series import Scaling, sunspots, windows
from xprnn.data.synthetic import count_ones, sine
from xprnn.data.tables import (
    Columns,
    Reading,
    Series,
    Spacing,
    read_columns,
    read_csv,
    read_series,
)

__all__ = [
    "Autoregression",
    "Batch",
    "Collection",
    "Columns",
    "NGram",
    "Reading",
    "Scaling",
    "Series",
    "Spacing",
    "buckets",
    "chunks",
    "count_ones",
    "minibatches",
    "pad",
    "persistence",
    "read_columns",
    "read_csv",
    "read_series",
    "read_texts",
    "rmse",
    "sine",
    "sunspots",
    "text",
    "windows",
]
