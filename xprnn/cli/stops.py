"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in the same way, and never while it saves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xprnn import _loading

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""The signals that ask a command to end; a system may lack some."""


class Stops:
    """What happens when one of the signals arrives.

    While the command listens, the signal raises a `KeyboardInterrupt`, and the command no longer
    listens.  While it does not listen, the signal waits until it listens again; a second one that
    would have to wait raises, so that a command that hangs can still be ended.

    Attributes
    ----------
    number : int or None
        The last signal that arrived.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._listens = True
        self._waiting = False

    @property
    def status(self) -> int:
        """The exit status of a command that a signal ended: 128 and the number of the signal."""
        return 128 + (signal.SIGINT if self.number is None else self.number)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals inside a ``with`` block.

        A signal that is ignored (as SIGHUP under nohup) or that the program around this command
        handles itself is left alone.
        """
        self.number, self._listens, self._waiting = None, True, False
        before = {}
        # Python sets and calls handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for name in NAMES:
                number = getattr(signal, name, None)
                if number is None:
                    continue
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler, _loading.end):
                    before[number] = handler
                    signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hold(self) -> None:
        """Let signals wait from now on."""
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen inside a ``with`` block, and let signals wait after it."""
        self._listens = True
        try:
            if self._waiting:
                self._waiting = False
                raise KeyboardInterrupt
            yield
        finally:
            self._listens = False

    def check(self) -> None:
        """Raise again if a signal has arrived.

        Python drops an exception that is raised inside a finalizer or a callback of a C library.
        """
        if self.number is not None:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        if not self._listens and not self._waiting:
            self._waiting = True
            return
        self._listens = self._waiting = False
        raise KeyboardInterrupt


stops = Stops()
"""Those of this process."""
