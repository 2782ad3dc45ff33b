"""A second process that compiles what this one needs next, into the cache that both use.

Numba holds one lock for all that it compiles, so threads would not compile at the same time.  The
process is started when the first function of a process has to be compiled, if a second core is
there; it ends when this process has what it asked for, or ends itself, or asks for nothing for a
while.  What two processes compile at the same time is kept apart by locks (see `build`), and what
the second one does not finish this one compiles.

It is a new process and not a fork of this one: a BLAS's threads, and those of other libraries, do
not survive a fork, nor do the locks that they hold.
"""

import atexit
import contextlib
import gc
import importlib
import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from xprnn.backend.host import limits

IDLE = 3.0
"""Seconds without anything to do after which the process ends."""
MOST_BYTES = 60_000
"""Of all that is asked of a process: a pipe takes as much without anyone reading it."""
_CODE = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from xprnn.backend.numba.ahead import serve
serve()
"""
_log = logging.getLogger("xprnn")


class Ahead:
    """The process, which is started when something is asked of it.

    Attributes
    ----------
    allowed : bool
        Whether to start one.
    """

    def __init__(self) -> None:
        self.allowed = True
        self._process: subprocess.Popen[bytes] | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def ask(self, module: str, function: str, *args: Any) -> None:
        """Have a function of a module called with these arguments, which compiles something.

        What goes wrong with that does not matter here: this process compiles the same when it
        needs it.
        """
        if not self.allowed or limits.cores() < 2 or not _is_python(sys.executable):
            return
        with self._lock:
            try:
                self._send(pickle.dumps((module, function, args)))
            except (OSError, ValueError, pickle.PicklingError) as error:
                _log.debug("no second process compiles: %s", error)
                self._end()

    def _send(self, job: bytes) -> None:
        if self._process is None or self._process.poll() is not None:
            self._end()
            # What warns there has warned here.
            command = [sys.executable, "-P", "-W", "ignore", "-c", _CODE]
            nowhere = subprocess.DEVNULL
            flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, creationflags=flags
            )
            # Whenever it ends, it leaves no trace among this process's children.
            threading.Thread(target=self._process.wait, daemon=True).start()
            path = pickle.dumps([str(place) for place in sys.path])
            self._bytes, job = 0, path + job
        self._bytes += len(job)
        if self._bytes <= MOST_BYTES and self._process.stdin is not None:
            self._process.stdin.write(job)
            self._process.stdin.flush()

    def end(self) -> None:
        """End the process, if there is one; nothing more is needed of it."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def forget(self) -> None:
        """Leave the process to the parent of this one, which was forked."""
        self.__init__()  # type: ignore[misc]


AHEAD = Ahead()
atexit.register(AHEAD.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=AHEAD.forget)


def _is_python(executable: str | None) -> bool:
    """Whether this is an interpreter, and not a program that has one built in."""
    frozen = getattr(sys, "frozen", False)
    return bool(executable) and not frozen and "python" in Path(executable or "").name.lower()


def serve(idle: float = IDLE) -> None:
    """Do what is asked on stdin, until that is closed or nothing is asked for ``idle`` seconds."""
    AHEAD.allowed = False
    gc.disable()
    # Numba would import it to see whether there is a BLAS for products, which are not compiled.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    jobs: queue.Queue[tuple[str, str, tuple[Any, ...]]] = queue.Queue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        try:
            module, function, args = jobs.get(timeout=idle)
            getattr(importlib.import_module(module), function)(*args)
        except queue.Empty:
            os._exit(0)
        except Exception:
            _log.debug("a job failed", exc_info=True)


def _read(jobs: "queue.Queue[tuple[str, str, tuple[Any, ...]]]") -> None:
    """Pass on what is asked; end this process as soon as nobody is there to ask."""
    with contextlib.suppress(BaseException):
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    # Files are written whole or not at all, so it may happen at any time.
    os._exit(0)
