"""How ranks stay together: whatever one of them meets, all of them learn at their next meeting.

Every exchange of a training begins with a meeting, a short message of the same length from each
rank to all.  So a rank that fails can tell the others at any time, and none of them waits for it in
vain; nor does a rank that Ctrl-C or SIGTERM has reached.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from xprnn.backend.host.arrays import HostArray, np
from xprnn.distributed.errors import LostRankError, RankError, agreed, mark_agreed
from xprnn.distributed.protocol import Communicator

FINE, FAILED, INTERRUPTED = 0.0, 1.0, 2.0
HEAD, NUMBERS = 3, 7
"""Numbers of a meeting: status, what it is about, the length of a text; and its own."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
ABOUT = (
    *("the end", "the agreement", "a step", "an update", "the end of an epoch", "a text"),
    *("the validation", "a checkpoint", "a backward pass"),
)
"""What meetings are about, in words."""


class Team:
    """The ranks of a training, as one of them sees them; a context manager around all they do.

    Whatever exception leaves the block on one rank leaves it on all, as a `RankError` on the
    others.  Inside, signals that would raise an exception wait for a meeting, at which they raise
    it on all ranks; a second one raises at once.

    Parameters
    ----------
    communicator : Communicator
    holds_signals : bool
        False: signals raise at once, as they do outside.

    Attributes
    ----------
    abandon : callable or None
        Ends exchanges that other ranks wait in, or will; called before they are told of an error.
    """

    def __init__(self, communicator: Communicator, *, holds_signals: bool = True) -> None:
        self.holds_signals = holds_signals
        self.communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size
        self._signal: tuple[int, FrameType | None] | None = None
        self._handlers: dict[int, Any] = {}
        self.abandon: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        if self.holds_signals and threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number: int | None = getattr(signal, name, None)
                if number is None:
                    continue
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._arrived)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self.abandon is not None and not isinstance(error, LostRankError):
                self.abandon()
            if error is None:
                self.meet("the end")
            elif not agreed(error):
                self._tell(error)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def meet(self, about: str, *numbers: float) -> HostArray:
        """Exchange numbers with all ranks.

        Returns
        -------
        host array, (size, 7)
            A row for each rank: its numbers, and zeros after them.

        Raises
        ------
        KeyboardInterrupt
            If a signal has reached one of the ranks.
        RankError
            If one of them has failed, or meets for something else.
        """
        status = FINE if self._signal is None else INTERRUPTED
        rows = self._exchange(status, about, numbers, "")
        if (rows[:, 0] == INTERRUPTED).any():
            self._interrupt()
        abouts = rows[:, 1].astype(int)
        if (abouts != abouts[0]).any():
            other = int(np.argmax(abouts != abouts[0]))
            raise self.apart(
                f"rank 0 is at {ABOUT[abouts[0]]}, rank {other} at {ABOUT[abouts[other]]}: "
                "expected as many batches and epochs on every rank"
            )
        return rows[:, HEAD:]

    def texts(self, text: str) -> list[str]:
        """Exchange texts with all ranks."""
        mine = np.frombuffer(text.encode(), dtype=np.uint8)
        counts = self.meet("a text", len(mine))[:, 0].astype(int).tolist()
        whole = self.communicator.gather(mine, counts)
        ends = np.cumsum(counts)
        return [
            whole[end - count : end].tobytes().decode()
            for end, count in zip(ends, counts, strict=True)
        ]

    def from_first(self, array: HostArray) -> HostArray:
        """Return rank 0's array of bytes; the others pass one of any length."""
        count = int(self.meet("a text", len(array))[0, 0])
        if self.rank:
            array = np.empty(count, dtype=np.uint8)
        self.communicator.broadcast(array)
        return array

    def apart(self, message: str) -> RankError:
        """Return an error that all ranks raise, or all that have not failed."""
        error = RankError(message)
        mark_agreed(error)
        return error

    def _exchange(
        self, status: float, about: str, numbers: tuple[float, ...], text: str
    ) -> HostArray:
        mine = np.zeros((1, HEAD + NUMBERS))
        said = np.frombuffer(text.encode(), dtype=np.uint8)
        mine[0, :HEAD] = status, ABOUT.index(about), len(said)
        mine[0, HEAD : HEAD + len(numbers)] = numbers
        rows = self.communicator.gather(mine, (1,) * self.size)
        failed = rows[:, 0] == FAILED
        if failed.any():
            counts = rows[:, 2].astype(int).tolist()
            whole = self.communicator.gather(said, counts).tobytes()
            if status != FAILED:
                first = int(np.argmax(failed))
                start = sum(counts[:first])
                raise self.apart(whole[start : start + counts[first]].decode())
        return rows

    def _tell(self, error: BaseException) -> None:
        """Tell the others of an error that is this rank's own."""
        if isinstance(error, KeyboardInterrupt):
            rows = self._exchange(INTERRUPTED, "the end", (), "")
        else:
            what = f"{self.communicator.describe()} failed: {type(error).__name__}: {error}"
            rows = self._exchange(FAILED, "the end", (), what)
        del rows
        mark_agreed(error)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = number, frame
        else:
            self._handlers[number](number, frame)

    def _interrupt(self) -> None:
        """Raise what the signal would have raised, or a `KeyboardInterrupt` for that of another."""
        arrived, self._signal = self._signal, None
        try:
            if arrived is not None:
                self._handlers[arrived[0]](*arrived)
            raise KeyboardInterrupt
        except BaseException as error:
            mark_agreed(error)
            raise
