"""Progress of a comparison, and its time limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


class TimeLimitError(Exception):
    """The time limit of a comparison is over."""


def _silent(words: str) -> None:
    del words


@dataclass
class Watch:
    """Is told every stage of a comparison, and ends it when its time is over.

    Attributes
    ----------
    tell : callable
        Is called with the words for every stage.
    limit : float or None
        In seconds, from the start; None for no limit.
    """

    tell: Callable[[str], None] = _silent
    limit: float | None = None
    _started: float = field(default_factory=time.monotonic)

    def stage(self, words: str) -> None:
        """Begin a stage.

        Raises
        ------
        TimeLimitError
            If the limit is over.
        """
        if self.limit is not None and time.monotonic() - self._started > self.limit:
            raise TimeLimitError(f"the time limit of {self.limit:g} s was reached at: {words}")
        self.tell(words)
