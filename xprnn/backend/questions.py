"""Checks of values whose answers are read later, all at once.

Whether an array of a device is finite is known when the device has come that far.  A training step
asks while it is computed, and reads all answers together with its loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from xprnn.backend.cuda.questions import MOST
from xprnn.backend.kernels import Fused
from xprnn.backend.types import Array


class Question(NamedTuple):
    """Whether all entries of an array are good.

    Attributes
    ----------
    name : str
        The argument's, for a message.
    array : array
    expected : str
        What the entries should be, in words.
    limits : (int, int or None) or None
        Of integers: how many values are good, and another one that is.  None: floats, which should
        be finite.
    """

    name: str
    array: Array
    expected: str
    limits: tuple[int, int | None] | None


class Questions:
    """The questions of one step."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def put(self, fused: Fused) -> Array:
        """Let the device look at the arrays; return where the answers will be."""
        found = fused.answers()
        # Those of floats first, because they are put together.
        self.asked.sort(key=lambda question: question.limits is not None)
        floats = [q.array for q in self.asked if q.limits is None and q.array.size]
        self.asked = [q for q in self.asked if q.array.size]
        if floats:
            fused.ask_finite(floats, found)
        for k, question in enumerate(self.asked):
            if question.limits is not None:
                fused.ask_in_range(question.array, *question.limits, found[k:])
        return found

    @property
    def full(self) -> bool:
        """Whether there is no room for another answer."""
        return len(self.asked) >= MOST


_open: ContextVar[Questions | None] = ContextVar("questions", default=None)


def open_questions() -> Questions | None:
    """Return the questions of the step that is being computed; None if answers are read at once."""
    questions = _open.get()
    return None if questions is None or questions.full else questions


@contextmanager
def asking() -> Iterator[Questions]:
    """Let checks inside a ``with`` block ask, instead of waiting for an answer."""
    token = _open.set(Questions())
    try:
        yield _open.get()  # type: ignore[misc]
    finally:
        _open.reset(token)


def position(index: int, shape: Sequence[int]) -> list[int]:
    """Return the position of an entry by its number in row-major order."""
    found = []
    for size in reversed(shape):
        index, last = divmod(index, int(size))
        found.append(last)
    found.reverse()
    return found
