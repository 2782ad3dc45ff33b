"""Data: batches, text, series from CSV files, synthetic problems, and baselines."""

from xprnn.data import text
from xprnn.data.baselines import Autoregression, persistence, rmse
from xprnn.data.batches import Batch, chunks, minibatches
from xprnn.data.ngram import NGram
from xprnn.data.series import Scaling, Series, read_csv, sunspots, windows
from xprnn.data.synthetic import count_ones, sine

__all__ = [
    "Autoregression",
    "Batch",
    "NGram",
    "Scaling",
    "Series",
    "chunks",
    "count_ones",
    "minibatches",
    "persistence",
    "read_csv",
    "rmse",
    "sine",
    "sunspots",
    "text",
    "windows",
]
