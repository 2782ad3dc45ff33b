"""Where a function has no derivative, noted while it is computed.

At a tie of ``maximum(a, b)``, at a zero of ``abs(a)``, and at a tie of a comparison that chooses
between two formulas, a derivative exists only if all choices change in the same way.  The functions
of a `DualNamespace` report such places here, if somebody asks.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np

_HERE = str(Path(__file__).parent)


class Kink(NamedTuple):
    """A function at a place where it has no derivative.

    Attributes
    ----------
    function : str
        Its name in the namespace.
    place : tuple of int
        The first such entry of its result.
    line : str
        The line of code that called it: ``"cell.py:12, in forward"``.
    along : array of bool, (K,)
        Along which directions.
    """

    function: str
    place: tuple[int, ...]
    line: str
    along: HostArray

    def __str__(self) -> str:
        at = f"[{', '.join(map(str, self.place))}]" if self.place else "its only entry"
        return f"{self.function} at {at} ({self.line})"


_found: ContextVar[list[Kink] | None] = ContextVar("found", default=None)


@contextmanager
def noting_kinks() -> Iterator[list[Kink]]:
    """Inside a ``with`` block, note the places without a derivative in the list that it gives."""
    kinks: list[Kink] = []
    token = _found.set(kinks)
    try:
        yield kinks
    finally:
        _found.reset(token)


def wanted() -> bool:
    """Whether somebody asks."""
    return _found.get() is not None


def note(function: str, at: HostArray) -> None:
    """Note where a function has no derivative.

    Parameters
    ----------
    function : str
    at : array of bool, (K, ...)
        For every direction, the entries without a derivative along it.
    """
    kinks = _found.get()
    if kinks is None or not np.any(at):
        return
    somewhere = np.any(at, axis=0)
    first = np.unravel_index(int(np.argmax(somewhere)), somewhere.shape)
    along = np.any(np.reshape(at, (len(at), -1)), axis=1)
    kinks.append(Kink(function, tuple(map(int, first)), _caller(), np.asarray(along)))


def _caller() -> str:
    """Return the line of code, outside this package, that called one of its functions."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}, in {frame.f_code.co_name}"
