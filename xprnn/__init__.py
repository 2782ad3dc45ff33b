"""Recurrent networks with explicit gradients, written once for every array library."""

from xprnn import cells, data, initializers, losses, optim
from xprnn._version import __version__
from xprnn.backend import Backend, available_backends, get_backend
from xprnn.bptt import LayerGradient, Tape, Weights, unroll, unroll_backward
from xprnn.network import RNN, Gradient, Run
from xprnn.train import History, NonFiniteLossError, TrainingInterrupted, fit

__all__ = [
    "RNN",
    "Backend",
    "Gradient",
    "History",
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
    "fit",
    "get_backend",
    "initializers",
    "losses",
    "optim",
    "unroll",
    "unroll_backward",
]
