"""Optimizers, one file a rule, and clipping."""

from xprnn.optim.clipping import clip_by_norm, clip_by_value, global_norm
from xprnn.optim.protocol import Optimizer
from xprnn.optim.sgd import SGD, SGDState

__all__ = [
    "SGD",
    "Optimizer",
    "SGDState",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
]
