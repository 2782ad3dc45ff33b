"""Files that are written whole or not at all."""

import contextlib
import os
import re
import tempfile
from pathlib import Path


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and prove that files can be written to it.

    Call it before the work whose results go there, so that nothing is computed in vain.

    Raises
    ------
    OSError
        If the folder can't be made or written to, or is not a folder; the message names it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"can't write to the output folder {str(folder)!r}: {reason}") from error
    return folder


def write_atomic(
    path: str | os.PathLike[str], content: bytes, *, previous: Path | None = None
) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    A reader sees the old file or the new one, never a part of one; a failure leaves the old one.
    With ``previous``, the old file is kept under that name and replaces what had it.
    """
    file = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; give this one the permissions of an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        if previous is not None and file.exists():
            _keep(file, previous)
        Path(temporary).replace(file)
        _settle(file.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_parts(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that a process left when it was killed while writing this file."""
    file = Path(path)
    part = re.compile(rf"\.{re.escape(file.name)}\.[^.]+\.part")
    for other in file.parent.iterdir():
        if part.fullmatch(other.name):
            other.unlink(missing_ok=True)


def _keep(file: Path, previous: Path) -> None:
    """Give a file a second name, which another file may have had; the first name stays, too."""
    link = file.with_name(f".{file.name}.link.part")
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(file)
        link.replace(previous)
    except OSError:
        # On a file system without hard links, the first name is free for a moment.
        file.replace(previous)
    finally:
        # If the two were names of one file already, ``replace`` did nothing and left both.
        link.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Make renamings in a folder survive a power failure, if the system can promise that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
