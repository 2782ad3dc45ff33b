"""Checkpoints: a training that was stopped is resumed and ends with the same bits."""

from xprnn.training.checkpoint.options import Checkpoint
from xprnn.training.checkpoint.parts import RandomGenerator, Stateful, StatefulCallbacks
from xprnn.training.checkpoint.position import DataPosition
from xprnn.training.checkpoint.writer import CheckpointWriter

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "DataPosition",
    "RandomGenerator",
    "Stateful",
    "StatefulCallbacks",
]
