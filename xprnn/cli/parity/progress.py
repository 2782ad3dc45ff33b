"""What ``xprnn parity`` shows while it computes."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from xprnn.cli.common import tell

EVERY = 10.0
"""Seconds between two lines on a stderr that is no terminal."""
REFRESH = 1.0
"""Seconds between two pictures of the bar."""
WIDEST = 60
"""The most characters of the stage beside the bar."""


class Progress:
    """The stage that a comparison is in, and for how long: a bar on a terminal, or else lines.

    A thread shows it, because a slow library may be in one call for minutes.

    Parameters
    ----------
    total : int
        The number of problems.
    silent : bool
        Print no lines on stdout.
    """

    def __init__(self, total: int, *, silent: bool) -> None:
        self.silent = silent
        self.words, self._since, self._started = "", time.monotonic(), time.monotonic()
        self._bar, self._lock, self._over = _bar(total), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def stage(self, words: str) -> None:
        """Begin a stage."""
        self.words, self._since = words, time.monotonic()

    def advance(self) -> None:
        """Count a problem as done."""
        if self._bar is not None:
            with self._lock:
                self._bar.update()

    def print(self, lines: Iterable[str]) -> None:
        """Print lines on stdout, above the bar."""
        for line in () if self.silent else lines:
            with self._lock:
                if self._bar is not None:
                    self._bar.clear()
                print(line, flush=True)

    def show(self) -> None:
        """Show the stage and its seconds."""
        now = time.monotonic()
        seconds = f"{now - self._since:.0f} s"
        if self._bar is None:
            tell(f"xprnn parity: {self.words}, {seconds} ({now - self._started:.0f} s in all)")
            return
        words = self.words if len(self.words) <= WIDEST else f"{self.words[: WIDEST - 1]}…"
        with self._lock:
            self._bar.set_postfix_str(f"{words}, {seconds}")

    def _run(self) -> None:
        while not self._over.wait(EVERY if self._bar is None else REFRESH):
            self.show()

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Show it inside a ``with`` block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            if self._bar is not None:
                self._bar.close()


def _bar(total: int) -> Any:
    """Return a bar; None without a terminal or without tqdm."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, desc="parity", unit="problem", file=sys.stderr, leave=False)
