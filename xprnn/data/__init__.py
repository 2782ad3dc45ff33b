"""Data: batches, series from CSV files with their baselines, synthetic problems."""

from xprnn.data.baselines import Autoregression, persistence, rmse
from xprnn.data.batches import Batch, chunks, minibatches
from xprnn.data.series import Scaling, Series, read_csv, sunspots, windows
from xprnn.data.synthetic import sine

__all__ = [
    "Autoregression",
    "Batch",
    "Scaling",
    "Series",
    "chunks",
    "minibatches",
    "persistence",
    "read_csv",
    "rmse",
    "sine",
    "sunspots",
    "windows",
]
