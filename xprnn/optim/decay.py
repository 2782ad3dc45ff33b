"""Weight decay: on which parameters, and how much."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense, plus
from xprnn.optim.names import matching
from xprnn.optim.protocol import Parameters

Decayed: TypeAlias = Callable[[str, Array], bool] | str | Sequence[str] | None
"""Patterns of names, or a function of name and array; None: arrays of two axes and more."""


def check_decayed(decayed: object) -> Decayed:
    """Return the choice, known to be one."""
    if decayed is None or callable(decayed) or isinstance(decayed, str):
        return decayed
    if isinstance(decayed, Sequence) and all(isinstance(pattern, str) for pattern in decayed):
        return tuple(decayed)
    raise TypeError(
        f"decayed is {decayed!r}: expected a pattern of parameter names, several of them, "
        "or a callable of name and array"
    )


def decay_of(weight_decay: float, decayed: Decayed, parameters: Parameters) -> dict[str, float]:
    """Return every parameter's own weight decay: the one given, or zero.

    Raises
    ------
    ValueError
        If a pattern matches no parameter.
    """
    if decayed is None:
        # A bias shifts its unit and costs no smoothness; every weight matrix has two axes.
        chosen = {k for k, p in parameters.items() if p.ndim >= 2}
    elif callable(decayed):
        chosen = {k for k, p in parameters.items() if decayed(k, p)}
    else:
        patterns = [decayed] if isinstance(decayed, str) else decayed
        chosen = {k for pattern in patterns for k in matching("decayed", pattern, parameters)}
    return {k: weight_decay if k in chosen else 0.0 for k in parameters}


def with_decay(g: GradientArray, decay: float, p: Array) -> Array:
    """Return g + decay·θ, dense: the gradient of the loss plus decay/2·‖θ‖²."""
    return plus(decay * p, g) if decay else dense(g)
