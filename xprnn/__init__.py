"""Recurrent networks with explicit gradients, written once for every array library."""

from xprnn import (
    cells,
    data,
    diagnostics,
    formula,
    initializers,
    interop,
    losses,
    optim,
    testing,
)
from xprnn._version import __version__
from xprnn.backend import Backend, available_backends, get_backend
from xprnn.bptt import unroll, unroll_backward
from xprnn.checkpoint import Checkpoint
from xprnn.committee import merge
from xprnn.forecast import Forecaster
from xprnn.history import History
from xprnn.language import LanguageModel
from xprnn.layer import Tape
from xprnn.network import RNN
from xprnn.propagation import Gradient, Run
from xprnn.step import NonFiniteLossError
from xprnn.train import TrainingInterrupted, evaluate, fit
from xprnn.weights import LayerGradient, Weights

__all__ = [
    "RNN",
    "Backend",
    "Checkpoint",
    "Forecaster",
    "Gradient",
    "History",
    "LanguageModel",
    "LayerGradient",
    "NonFiniteLossError",
    "Run",
    "Tape",
    "TrainingInterrupted",
    "Weights",
    "__version__",
    "available_backends",
    "cells",
    "data",
    "diagnostics",
    "evaluate",
    "fit",
    "formula",
    "get_backend",
    "initializers",
    "interop",
    "losses",
    "merge",
    "optim",
    "testing",
    "unroll",
    "unroll_backward",
]
