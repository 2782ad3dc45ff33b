"""Whether a state from a file has the form of a training's own; a file may hold anything."""

from functools import partial
from typing import Any

from xprnn.backend import Backend, describe
from xprnn.backend.host.quoting import quoted

OPTIMIZER = "step.memory"
DATA = tuple(f"{name}.{when}" for name in ("batches", "validation") for when in ("start", "now"))
"""The names of the states of the optimizer and the data, which may be classes of the user's own."""

LARGEST = 2**128
"""Integers are below it: those of random generators have up to 128 bits."""


def check_form(name: str, state: Any, own: Any, backend: Backend) -> None:
    """Refuse a state that is not of the form of a training's own state at its beginning.

    The form: types of numbers and containers, keys, lengths, and shapes and dtypes of arrays.
    Where the training's own state is None or an empty list, everything is accepted here, and
    checked by the part that restores it.  So is the state of the data and of a user's own
    optimizer, which may change its form.

    Raises
    ------
    ValueError
        If it is of another form; the message names the part.
    """
    if isinstance(own, partial):
        own = own()
    if own is None or (isinstance(own, list) and not own) or _is_foreign(name, own):
        return
    if backend.library.is_array(own):
        if not (backend.library.is_array(state) and describe(state) == describe(own)):
            raise ValueError(f"{name} is {_words(state)}: expected {describe(own)}")
    elif type(state) is not type(own):
        raise ValueError(f"{name} is {_words(state)}: expected {type(own).__name__}")
    elif isinstance(own, dict):
        if state.keys() != own.keys():
            raise ValueError(f"{name} has other entries than {quoted(list(own))}")
        for key, part in own.items():
            check_form(f"{name}.{key}", state[key], part, backend)
    elif isinstance(own, tuple | list):
        if len(state) != len(own):
            raise ValueError(f"{name} has {len(state)} entries: expected {len(own)}")
        for k, part in enumerate(own):
            check_form(f"{name}[{k}]", state[k], part, backend)
    elif isinstance(own, int) and not 0 <= state < LARGEST:
        raise ValueError(f"{name} is {quoted(state)}: expected at least 0")


def _is_foreign(name: str, own: Any) -> bool:
    """Whether this is the state of data, or of an optimizer that is not xprnn's."""
    if hasattr(own, "_fields"):
        return not type(own).__module__.startswith("xprnn.")
    return name == OPTIMIZER or name in DATA


def _words(value: Any) -> str:
    return describe(value) if hasattr(value, "shape") else quoted(value)
