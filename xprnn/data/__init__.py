"""Data: batches, series from CSV files, synthetic problems."""

from xprnn.data.batches import Batch, chunks, minibatches
from xprnn.data.synthetic import sine

__all__ = ["Batch", "chunks", "minibatches", "sine"]
