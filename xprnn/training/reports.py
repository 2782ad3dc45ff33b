"""The losses of the last steps, which are read together.

To read a number of a device waits until the device has computed it.  On such a library a step's
loss, the number of its entries, and whether its input was as it should be are gathered in one row
on the device; all rows are read at once, every ``report_every`` updates.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from xprnn.backend import Library
from xprnn.backend.questions import Question, Questions, asking, position
from xprnn.backend.types import Array
from xprnn.losses import CountsOnDevice, Loss

_NO_QUESTIONS = nullcontext()


class Report(NamedTuple):
    """What is known of a batch after its step.

    Attributes
    ----------
    batch : int
        Its number in the epoch, from 1.
    loss : float
    entries : int or float
        How many entries the loss is a sum or mean over, or the sum of their weights.
    fault : str
        What is wrong with its input or target; empty if nothing is.
    """

    batch: int
    loss: float
    entries: float
    fault: str = ""


class _Waiting(NamedTuple):
    """A report that was not read yet."""

    batch: int
    loss: Array
    entries: int | float | Array
    asked: tuple[tuple[Question, tuple[int, ...]], ...]


class Reports:
    """Reports that wait to be read.

    Parameters
    ----------
    library : Library
        Of the network.
    together : int
        How many are read at once.
    """

    def __init__(self, library: Library, together: int) -> None:
        self.library, self.fused, self.together = library, library.fused, together
        self.waiting: list[_Waiting] = []
        self._rows: Array = None

    @property
    def due(self) -> bool:
        """Whether there are as many as are read at once."""
        return len(self.waiting) >= self.together

    def asking(self) -> AbstractContextManager[Questions | None]:
        """Return a ``with`` block whose checks may ask instead of waiting for an answer."""
        return _NO_QUESTIONS if self.fused is None else asking()

    def entries(self, loss: Loss, target: Array, *mask: Array) -> int | float | Array:
        """Return how many entries a loss is a sum or mean over.

        On a device it is a number there, if the loss can count there.
        """
        if self.fused is not None and isinstance(loss, CountsOnDevice):
            return loss.count(target, *mask)
        return loss.entries(target, *mask)

    def known(self, batch: int, loss: Array, entries: int | float | Array) -> Report | None:
        """Return the report of a step if it is read at once, and no device is asked for it."""
        if self.fused is None and self.together == 1:
            return Report(batch, float(loss), _number(entries))
        return None

    def add(
        self, batch: int, loss: Array, entries: int | float | Array, questions: Questions | None
    ) -> None:
        """Add the report of a step, to be read later.

        Parameters
        ----------
        loss : array, zero-dimensional
        entries : int, float or array, zero-dimensional
        questions : Questions or None
            What was asked in the step.
        """
        asked: tuple[tuple[Question, tuple[int, ...]], ...] = ()
        if self.fused is not None and questions is not None:
            if self._rows is None:
                self._rows = self.fused.notes(self.together)
            found = questions.put(self.fused)
            count = None if isinstance(entries, int | float) else entries
            self.fused.note(self._rows[len(self.waiting)], loss, count, found)
            # The data of many batches is not kept for a message.
            keep = self.together == 1
            asked = tuple(
                (q if keep else q._replace(array=None), tuple(q.array.shape))
                for q in questions.asked
            )
            loss = None
        self.waiting.append(_Waiting(batch, loss, entries, asked))

    def read(self) -> list[Report]:
        """Return the reports that wait, oldest first; it waits for the device, once."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return []
        if self.fused is None:
            return [Report(w.batch, float(w.loss), _number(w.entries)) for w in waiting]
        reports, rows = [], self._rows.get()
        # Before anything is made of the numbers: a kernel that gave up has left NaN.
        self.library.raise_given_up()
        for (batch, _, entries, asked), row in zip(waiting, rows, strict=False):
            count = entries if isinstance(entries, int | float) else float(row[1])
            faults = (
                _fault(question, shape, int(answer))
                for (question, shape), answer in zip(asked, row[2:], strict=False)
            )
            reports.append(Report(batch, float(row[0]), count, next(filter(None, faults), "")))
        return reports


def _number(entries: int | float | Array) -> float:
    return entries if isinstance(entries, int | float) else float(entries)


def _fault(question: Question, shape: tuple[int, ...], answer: int) -> str:
    """Return in words what is wrong with an array; an empty string if nothing is."""
    if answer == 0:
        return ""
    at = position(math.prod(shape) - answer, shape)
    value = "NaN, infinite or out of range"
    if question.array is not None:
        value = str(question.array[tuple(at)].item())
    padding = question.limits is not None and question.limits[1] is None and value == "-1"
    also = " (padding takes any token, and the argument lengths)" if padding else ""
    return f"{question.name}{at} is {value}: expected {question.expected}{also}"
