"""The functions of the standard that xprnn calls, and namespaces that lack some of them."""

from collections.abc import Mapping
from typing import Any

from xprnn.backend.types import Namespace

NEEDED_FOR: Mapping[str, str] = {
    "__array_namespace_info__": "tokens, and lists of devices",
    "abs": "norms of gradients",
    "all": "every check of values",
    "arange": "lengths, tokens and cross-entropy",
    "asarray": "every array",
    "astype": "every conversion",
    "broadcast_to": "truncation (window)",
    "clip": "clipping by value, Rprop, centred RMSprop and tokens",
    "concat": "two directions, truncation (window) and sparse gradients",
    "empty": "every array",
    "empty_like": "cross-entropy",
    "exp": "cross-entropy and sampling",
    "finfo": "clipping and averaged optimizers",
    "flip": "two directions",
    "full_like": "cross-entropy",
    "isdtype": "every check of a dtype",
    "isfinite": "every check of values",
    "log": "cross-entropy",
    "log1p": "binary cross-entropy",
    "logaddexp": "the sLSTM and minLSTM cells",
    "max": "cross-entropy and clipping",
    "maximum": "Adam's amsgrad, clipping, relu and cross-entropy",
    "mean": "layer normalization and ensembles",
    "min": "residual networks that return the last output",
    "minimum": "clipping by value",
    "ones_like": "the activations",
    "permute_dims": "gradients of a readout over several axes",
    "reshape": "every network",
    "searchsorted": "tokens",
    "sign": "Rprop",
    "sqrt": "Adam, RMSprop, Adagrad, clipping and layer normalization",
    "stack": "every network",
    "sum": "every loss",
    "take": "tokens and embeddings",
    "take_along_axis": "cross-entropy",
    "tanh": "every cell",
    "unique_inverse": "gradients of tokens and embeddings",
    "unstack": "every network",
    "where": "lengths, Rprop and cross-entropy",
    "zeros": "every network",
    "zeros_like": "every optimizer with a state",
}
"""The functions of the standard that xprnn uses, besides operators and indexing: and what for."""

FUNCTIONS = tuple(NEEDED_FOR)


class MissingFunctionError(AttributeError):
    """A function of the standard is called that the user namespace lacks.

    Attributes
    ----------
    function : str
    """

    def __init__(self, spec: str, function: str, reason: str) -> None:
        self.function = function
        super().__init__(f"the namespace {spec!r} {reason}: {NEEDED_FOR[function]} can't run")


class PartialNamespace:
    """A namespace that lacks functions, and says so when one of them is called."""

    def __init__(self, spec: str, whole: Namespace, missing: Mapping[str, str]) -> None:
        self._spec, self._whole, self._missing = spec, whole, missing

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise MissingFunctionError(self._spec, name, self._missing[name])
        return getattr(self._whole, name)
