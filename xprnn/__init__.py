"""Recurrent networks with explicit gradients, written once for every array library."""

from xprnn import _loading  # noqa: F401  # isort: skip

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from xprnn import cells, data, distributed, initializers, losses, optim
from xprnn._version import __version__
from xprnn.backend import Backend, available_backends, get_backend
from xprnn.backend.host.pool import release_memory
from xprnn.engine.layer.layer import Tape
from xprnn.engine.layer.unroll import unroll, unroll_backward
from xprnn.engine.layer.weights import LayerGradient, Weights
from xprnn.engine.loop.cuda.choice import cuda_loop
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.engine.loop.lowering import disable_lowering
from xprnn.engine.network import RNN
from xprnn.engine.results import Gradient, Run
from xprnn.models.ensemble import merge
from xprnn.models.forecaster import Forecaster
from xprnn.models.language import LanguageModel
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.evaluation import evaluate
from xprnn.training.fit import fit
from xprnn.training.history import History
from xprnn.training.run import TrainingInterrupted
from xprnn.training.step import NonFiniteLossError

if TYPE_CHECKING:
    from xprnn import diagnostics, interop, testing

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
    "cuda_loop",
    "data",
    "diagnostics",
    "disable_lowering",
    "distributed",
    "evaluate",
    "explain_lowering",
    "fit",
    "get_backend",
    "initializers",
    "interop",
    "losses",
    "merge",
    "optim",
    "release_memory",
    "testing",
    "unroll",
    "unroll_backward",
]

LATE = ("diagnostics", "interop", "testing")
"""Imported when they are first asked for: a training needs none of them."""


def __getattr__(name: str) -> ModuleType:
    """Import a part of the library that nothing else in it needs."""
    if name in LATE:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LATE})
