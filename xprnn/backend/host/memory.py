"""Keeping the memory of freed host arrays for the next ones."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more


def keep_freed_memory() -> bool:
    """Make this process keep freed blocks of memory of up to 32 MiB, to reuse them.

    By default the C library returns large blocks to the system, and gets them back zeroed, page by
    page.  In a training step with arrays of 10 MB, that took as long as the rest of the step.  This
    is a setting of the whole process, so only the command line makes it, not ``import xprnn``.

    Returns
    -------
    bool
        Whether the setting was made.  It is one of glibc, and other C libraries have none.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
