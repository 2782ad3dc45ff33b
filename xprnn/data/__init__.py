"""Data: batches, text, series from files, synthetic problems, and baselines."""

from xprnn.data import text
from xprnn.data.baselines import Autoregression, fit_baselines, persistence, rmse, scale_of_errors
from xprnn.data.batches import Batch, chunks, minibatches
from xprnn.data.collection import Collection, read_texts
from xprnn.data.combination import Choice, Combination, choose
from xprnn.data.differencing import Differencing
from xprnn.data.intervals import Intervals
from xprnn.data.linear import Linear
from xprnn.data.ngram import NGram
from xprnn.data.padding import buckets, pad
from xprnn.data.rolling import rolled
from xprnn.data.seasons import Season, find_season
from xprnn.data.series import Scaling, sunspots, windows
from xprnn.data.sharding import shard
from xprnn.data.synthetic import adding, copy_memory, count_ones, sine
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
    "Choice",
    "Collection",
    "Columns",
    "Combination",
    "Differencing",
    "Intervals",
    "Linear",
    "NGram",
    "Reading",
    "Scaling",
    "Season",
    "Series",
    "Spacing",
    "adding",
    "buckets",
    "choose",
    "chunks",
    "copy_memory",
    "count_ones",
    "find_season",
    "fit_baselines",
    "minibatches",
    "pad",
    "persistence",
    "read_columns",
    "read_csv",
    "read_series",
    "read_texts",
    "rmse",
    "rolled",
    "scale_of_errors",
    "shard",
    "sine",
    "sunspots",
    "text",
    "windows",
]
