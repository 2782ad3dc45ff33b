"""Checkpoints: a training that is stopped, in whatever way, and goes on as if it had not been."""

from xprnn.checkpoint.keeper import Keeper, Parts
from xprnn.checkpoint.options import Checkpoint
from xprnn.checkpoint.parts import Random, Several, Stateful
from xprnn.checkpoint.source import Source

__all__ = ["Checkpoint", "Keeper", "Parts", "Random", "Several", "Source", "Stateful"]
