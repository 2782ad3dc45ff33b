"""Entering a device: a decorator for the functions that users call.

CuPy makes new arrays on the current device, and computes there alone.  So where it is in use, each
public function makes the device of its arrays the current one.  Where it isn't, which is known
without looking at any argument, the decorator costs one call.
"""

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from xprnn.backend.host import arrays

P = ParamSpec("P")
R = TypeVar("R")

Entering = Callable[[Iterable[object]], AbstractContextManager[object]]
"""Returns the context for a call with these arguments."""

_entering: list[Entering] = []
"""Empty unless a library with a current device is in use."""


def begin(entering: Entering) -> None:
    """From now on let every public function enter the device of its arrays."""
    _entering[:] = [entering]


def end() -> None:
    """Enter no device any more."""
    _entering.clear()


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one that enters the device of its arguments, where that is needed.

    Inside, underflow is no error, whatever the program has set with ``np.seterr``: probabilities,
    gradients and moments underflow to zero in ordinary trainings.
    """
    # As a decorator, which takes half the time of a ``with`` block.
    quiet = arrays.np.errstate(under="ignore")(function)

    @functools.wraps(function)
    def entered(*args: P.args, **kwargs: P.kwargs) -> R:
        if arrays.being_compiled():
            return function(*args, **kwargs)
        if _entering:
            with _entering[0]((*args, *kwargs.values())):
                return quiet(*args, **kwargs)
        return quiet(*args, **kwargs)

    return entered


def on_device_of(*arguments: Any) -> AbstractContextManager[object]:
    """Return a context on the device of these arguments, for code that is not a function's body."""
    if _entering:
        return _entering[0](arguments)
    return _nothing


class _Nothing(AbstractContextManager[None]):
    def __exit__(self, *exception: object) -> None:
        return None


_nothing = _Nothing()
