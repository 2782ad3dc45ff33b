"""Files that are written whole or not at all."""

import contextlib
import os
import re
import tempfile
from pathlib import Path


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and prove that files can be written to it.

    To be called before the work whose results go there, so that nothing is computed in vain.

    Raises
    ------
    OSError
        If it can't be made, is no folder, or can't be written to; the message names it.
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
    """Write a file under a temporary name beside its own, then rename it.

    A reader sees the old file or the new one, never a part; a failure leaves the old one.  With
    ``previous``, the old file is kept under that name, in place of what had it.
    """
    file = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; a saved model is an ordinary one.
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
    """Remove what a process that was killed while it wrote this file may have left beside it."""
    file = Path(path)
    part = re.compile(rf"\.{re.escape(file.name)}\.[^.]+\.part")
    for other in file.parent.iterdir():
        if part.fullmatch(other.name):
            other.unlink(missing_ok=True)


def _keep(file: Path, previous: Path) -> None:
    """Put a file in the place of another, and let it have its old name too until that is taken."""
    link = file.with_name(f".{file.name}.link.part")
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(file)
        link.replace(previous)
    except OSError:
        # A file system without links: for a moment the file has its new name only.
        file.replace(previous)
    finally:
        # Renaming one name of a file to another name of it does nothing, and leaves both.
        link.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Let the names in a folder survive a power failure too, where the system can promise that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
