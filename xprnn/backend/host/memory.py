"""What becomes of memory that the host's arrays no longer need."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, up to 32 MiB apiece, for its next arrays.

    The C library returns large blocks to the system and fetches them again, zeroed, page by page:
    for a training step with arrays of 10 MB that was seen to take as long as the step itself.  It
    is a setting of the whole process, so the library never makes it by itself; the command line
    does.

    Returns
    -------
    bool
        Whether it was done: not without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
