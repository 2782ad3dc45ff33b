"""The progress of trainings on stderr."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from xprnn.backend.host.quoting import quoted
from xprnn.backend.numba import ANNOUNCED
from xprnn.cli.common import tell
from xprnn.engine.network import RNN
from xprnn.training.history import Record


class Progress:
    """Epoch, loss and time left: a bar on a terminal, about ten plain lines elsewhere.

    What can't be written (the terminal has gone, the disk is full) is left out.

    It is a callback of `xprnn.fit`, for one training or for several, and a context manager around
    them.

    Parameters
    ----------
    epochs : int
        The epochs of all trainings together.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.done, self.restored, self.skipped = epochs, 0, 0, 0
        self._first: tuple[int, float] | None = None
        self.bar: Any = None
        self._listener = _Listener(self.announce)
        self._level = logging.NOTSET

    def __enter__(self) -> "Progress":
        log = logging.getLogger("xprnn")
        self._level = log.level
        log.addHandler(self._listener)
        if not log.isEnabledFor(logging.INFO):
            log.setLevel(logging.INFO)
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            with suppress(OSError, ValueError):
                self.bar = tqdm(total=self.epochs, desc="training", unit="epoch", file=sys.stderr)
        return self

    def __call__(self, net: RNN, record: Record) -> None:
        """Show an epoch."""
        del net
        self.done += 1
        here = self.done - self.restored - self.skipped
        if self._first is None:
            # It takes longer than the others, because it compiles and fills caches.
            self._first = here, time.perf_counter()
        if self.bar is not None:
            self._update_bar(1, record.loss)
            return
        every = max(1, self.epochs // 10)
        if self.done == 1 or self.done % every == 0 or self.done == self.epochs:
            words = f"epoch {self.done}/{self.epochs}, loss {record.loss:.4g}"
            first, began = self._first
            if here > first:
                each = (time.perf_counter() - began) / (here - first)
                words += f", {each * (self.epochs - self.done):.0f} s left"
            tell(words)

    def announce(self, what: str) -> None:
        """Say that something is being compiled, because the first step waits for it."""
        words = f"compiling {what}, once"
        if self.bar is None:
            tell(words)
            return
        with suppress(OSError, ValueError):
            self.bar.set_postfix_str(words)

    def skip(self, epochs: int) -> None:
        """Count so many epochs as done, because they turned out not to be needed."""
        self.done += epochs
        self.skipped += epochs
        if self.bar is not None and epochs:
            self._update_bar(epochs)

    def state(self) -> int:
        """Return the number of epochs done, for a checkpoint."""
        return self.done

    def restore(self, state: int) -> None:
        """Take over the number of epochs from a checkpoint, and show it.

        A lower number, back to which a checkpoint goes that doesn't fit, is not worth a line.
        """
        if type(state) is not int or not 0 <= state <= self.epochs:
            raise ValueError(f"{quoted(state)} epochs are done: expected 0 to {self.epochs}")
        more = state - self.done
        self.done, self.restored = state, self.restored + more
        if self.bar is not None:
            self._update_bar(more)
        elif more >= 0:
            tell(f"epoch {self.done}/{self.epochs} is done, going on")

    def _update_bar(self, more: int, loss: float | None = None) -> None:
        """Move the bar; if the terminal has gone, there is no bar any more."""
        try:
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self.bar.update(more)
        except (OSError, ValueError):
            self.bar = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        log = logging.getLogger("xprnn")
        log.removeHandler(self._listener)
        log.setLevel(self._level)
        if self.bar is not None:
            with suppress(OSError, ValueError):
                self.bar.close()


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on stderr how much of some work is done: give a function to call with what was done.

    A bar on a terminal; elsewhere a line every ten seconds.
    """
    done, told, bar = 0, time.perf_counter(), None
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        with suppress(OSError, ValueError):
            bar = tqdm(total=total, desc=what, file=sys.stderr, leave=False)

    def tick(count: int) -> None:
        nonlocal done, told
        done += count
        if bar is not None:
            with suppress(OSError, ValueError):
                bar.update(count)
        elif time.perf_counter() - told > 10:
            told = time.perf_counter()
            tell(f"{what}: {min(done, total)} of {total}")

    try:
        yield tick
    finally:
        if bar is not None:
            with suppress(OSError, ValueError):
                bar.close()


class _Listener(logging.Handler):
    """Passes on what is about to be compiled; warnings go where they go without a handler."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        super().__init__()
        self._announce = announce

    def emit(self, record: logging.LogRecord) -> None:
        what = getattr(record, ANNOUNCED, None)
        if what is not None:
            self._announce(what)
        elif record.levelno >= logging.WARNING and logging.lastResort is not None:
            others = [*logging.getLogger("xprnn").handlers, *logging.getLogger().handlers]
            if others == [self]:
                logging.lastResort.handle(record)
