"""Optimizers, one rule per file; parameter groups, averaged weights, schedules, clipping."""

from xprnn.optim import schedules
from xprnn.optim.adagrad import Adagrad, AdagradState
from xprnn.optim.adam import Adam, AdamState
from xprnn.optim.adamw import AdamW
from xprnn.optim.averaged import Averaged, AveragedState
from xprnn.optim.clipping import clip_by_layer, clip_by_norm, clip_by_value, global_norm
from xprnn.optim.groups import ParameterGroups, ParameterGroupsState
from xprnn.optim.protocol import InPlaceOptimizer, Optimizer, Scalable
from xprnn.optim.registry import OPTIMIZERS, get_optimizer
from xprnn.optim.rmsprop import RMSprop, RMSpropState
from xprnn.optim.rprop import Rprop, RpropState
from xprnn.optim.sgd import SGD, SGDState

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "AdagradState",
    "Adam",
    "AdamState",
    "AdamW",
    "Averaged",
    "AveragedState",
    "InPlaceOptimizer",
    "Optimizer",
    "ParameterGroups",
    "ParameterGroupsState",
    "RMSprop",
    "RMSpropState",
    "Rprop",
    "RpropState",
    "SGDState",
    "Scalable",
    "clip_by_layer",
    "clip_by_norm",
    "clip_by_value",
    "get_optimizer",
    "global_norm",
    "schedules",
]
