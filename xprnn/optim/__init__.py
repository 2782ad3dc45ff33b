"""Optimizers, one file a rule; schedules of their learning rates; clipping."""

from xprnn.optim import schedules
from xprnn.optim.clipping import clip_by_norm, clip_by_value, global_norm
from xprnn.optim.protocol import Optimizer, Scalable
from xprnn.optim.rprop import Rprop, RpropState
from xprnn.optim.sgd import SGD, SGDState

__all__ = [
    "SGD",
    "Optimizer",
    "Rprop",
    "RpropState",
    "SGDState",
    "Scalable",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
    "schedules",
]
