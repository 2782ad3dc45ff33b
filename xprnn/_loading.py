"""Ctrl-C while the command line is still loading its modules: a line instead of a traceback.

`xprnn/__init__.py` imports this module before all others, because Python imports the package before
it calls a command's `main`.  In any other program it does nothing.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


def end(number: int, frame: FrameType | None) -> None:
    """Be a signal handler that ends the process with a line on stderr."""
    del frame
    try:
        os.write(2, b"xprnn: interrupted before there was anything to save\n")
    finally:
        os._exit(128 + number)


def is_command(argv: list[str], original: list[str]) -> bool:
    """Whether the process is ``xprnn ...`` or ``python -m xprnn ...``.

    Parameters
    ----------
    argv, original : list of str
        ``sys.argv`` and ``sys.orig_argv``.
    """
    if argv[:1] == ["-m"]:
        return "xprnn" in original[original.index("-m") + 1 :][:1]
    return bool(argv) and Path(argv[0]).stem == "xprnn"


if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    and is_command(sys.argv, sys.orig_argv)
):
    signal.signal(signal.SIGINT, end)
