"""Checkpoints: a training that is stopped, in whatever way, and goes on as if it had not been."""

from xprnn.training.checkpoint.options import Checkpoint
from xprnn.training.checkpoint.parts import Random, Several, Stateful
from xprnn.training.checkpoint.position import Source
from xprnn.training.checkpoint.writer import Keeper, Parts

__all__ = ["Checkpoint", "Keeper", "Parts", "Random", "Several", "Source", "Stateful"]
