"""Weight decay: which parameters it is for, and how it enters a gradient."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import TypeAlias

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense, plus
from xprnn.optim.protocol import Parameters

Decayed: TypeAlias = Callable[[str, Array], bool] | str | Sequence[str] | None
"""Patterns of names, or a function of name and array; None: arrays with two axes or more."""

_translated: dict[str, re.Pattern[str]] = {}


def check_decayed(name: str, decayed: object) -> Decayed:
    """Return patterns of parameter names or a callable, known to be that; a list as a tuple."""
    if decayed is None or callable(decayed):
        return decayed
    if isinstance(decayed, str):
        translated(decayed)
        return decayed
    if isinstance(decayed, Sequence) and all(isinstance(pattern, str) for pattern in decayed):
        for pattern in decayed:
            translated(pattern)
        return tuple(decayed)
    raise TypeError(
        f"{name} is {decayed!r}: expected a pattern of parameter names, several of them, "
        "or a callable of name and array"
    )


def decaying_names(decayed: Decayed, parameters: Parameters) -> set[str]:
    """Return the names of the parameters that the weight decay is for.

    Raises
    ------
    ValueError
        If a pattern matches no parameter.
    """
    if decayed is None:
        # A bias shifts its unit and costs no smoothness; every weight matrix has two axes.
        return {k for k, p in parameters.items() if p.ndim >= 2}
    if callable(decayed):
        return {k for k, p in parameters.items() if decayed(k, p)}
    patterns = [decayed] if isinstance(decayed, str) else decayed
    return {k for pattern in patterns for k in matching("decayed", pattern, parameters)}


def with_decay(g: GradientArray, decay: float, p: Array) -> Array:
    """Return g + decay·θ, dense: the gradient of the loss plus decay/2·‖θ‖²."""
    return plus(decay * p, g) if decay else dense(g)


def translated(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression.

    An optimizer has its patterns translated when it is made: inside of torch.compile they can be
    used, but not translated.
    """
    if pattern not in _translated:
        _translated[pattern] = re.compile(translate(pattern))
    return _translated[pattern]


def matching(what: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches: ``*``, ``?`` and ``[...]`` as in file names.

    Parameters
    ----------
    what : str
        The argument that has the pattern, for the message.
    pattern : str
    names : iterable of str

    Raises
    ------
    ValueError
        If no name matches: a pattern without effect is taken for a misspelled one.
    """
    names, expression = list(names), translated(pattern)
    found = [name for name in names if expression.match(name)]
    if not found:
        raise ValueError(
            f"{what} has the pattern {pattern!r}, which matches no parameter: "
            f"known are {', '.join(names) or 'none'}"
        )
    return found
