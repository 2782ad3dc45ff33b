"""Weight decay: on which parameters, and how much."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense, plus
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


def matching(what: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches: ``*``, ``?`` and ``[...]`` as in file names.

    Parameters
    ----------
    what : str
        Where the pattern stands, for the message.
    pattern : str
    names : iterable of str

    Raises
    ------
    ValueError
        If there is none: a pattern without effect is a mistake in it.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(
            f"{what} has the pattern {pattern!r}, which matches no parameter: "
            f"known are {', '.join(names) or 'none'}"
        )
    return found
