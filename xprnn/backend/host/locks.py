"""Locks on files and folders: a lock ends with the process that holds it, however that ends."""

import contextlib
import errno
import os
import sys
import weakref
from pathlib import Path
from types import TracebackType

_TABLE = Path("/proc/locks")
"""Linux's table of all locks: kind, process, device and inode of each."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system without locks answers."""

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        # Far behind the text, which must stay readable: on Windows others can't read a locked byte.
        os.lseek(handle, 2**20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked") from error
        os.lseek(handle, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(handle: int) -> None:
        # Not lockf: its locks don't keep two threads apart, and end when any handle is closed.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(handle: int) -> int | None:
    """Return the number of the process that holds the lock on an open file or folder, if known."""
    with contextlib.suppress(OSError):
        number = os.read(handle, 32)
        return int(number) if number.isdigit() else None
    # A folder can't be read.
    with contextlib.suppress(OSError, ValueError):
        table = _TABLE.read_text(encoding="ascii")
        found = os.fstat(handle)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in table.splitlines():
            # 7: FLOCK  ADVISORY  WRITE 4711 08:02:1234567 0 EOF
            _, kind, _, _, process, locked, *_ = line.split()
            # A process that this container does not see has the number 0.
            if kind == "FLOCK" and locked == place and int(process) > 0:
                return int(process)
    return None


class Lock:
    """A lock, as a context manager or between `acquire` and `release`.

    On a file, it is a second, hidden file beside it that holds the number of the process.  On a
    folder, it is the folder itself that is locked, and no file is made; then Linux knows the
    process.  On a file system without locks nothing is held, and nothing is refused.

    Parameters
    ----------
    path : Path
        A folder, or the path of a file, which need not exist.
    what : str
        What messages call it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._handle: int | None = None
        self._file: Path | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        BlockingIOError
            If another training holds it, in this process or in another, which is named if known.
        OSError
            If the lock's file can't be made.
        """
        if not self.path.is_dir():
            self._acquire_file(self.path.with_name(f".{self.path.name}.lock"))
        elif sys.platform != "win32":
            handle = os.open(self.path, os.O_RDONLY)
            self._try(handle)
            self._hold(handle)

    def _acquire_file(self, file: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        while True:
            handle = os.open(file, flags, 0o666)
            self._try(handle)
            # Between the two calls, the holder may have ended and removed the file.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), file.stat()):
                    break
            os.close(handle)
        # On a full disk, the lock holds without the number.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        self._file = file
        self._hold(handle)

    def _try(self, handle: int) -> None:
        """Lock an open file; if that fails, close it."""
        try:
            _take(handle)
        except BlockingIOError as error:
            number = _holder(handle)
            os.close(handle)
            holder = "another process" if number is None else f"process {number}"
            if number == os.getpid():
                holder = "this process"
            raise BlockingIOError(f"{self.what} is in use by {holder}") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                raise

    def _hold(self, handle: int) -> None:
        self._handle = handle
        _held.add(self)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._handle is None:
            return
        if self._file is not None:
            # Before the lock ends, so that it is not the file of the next holder.
            with contextlib.suppress(OSError):
                self._file.unlink()
        self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        _held.discard(self)

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget() -> None:
    """Close the handles that a child process inherited: its parent alone holds the locks."""
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
