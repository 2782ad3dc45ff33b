"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
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
    The new file has the permissions of the old one, and a symbolic link stays: the file that it
    points to is replaced.  A device or a pipe is written to.  With ``previous``, the old file is
    kept under that name and replaces what had it.
    """
    file = followed(path)
    with _errors_name(path):
        if _is_device(file):
            file.write_bytes(content)
        else:
            _write(file, content, previous)


def _write(file: Path, content: bytes, previous: Path | None) -> None:
    temporary = _new_part(file)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if file.exists():
            _copy_rights(file, temporary)
            if previous is not None:
                _keep(file, previous)
        temporary.replace(file)
        _settle(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Prove that `write_atomic` can write a file, unless the disk is full.

    Raises
    ------
    OSError
        If it can't: its folder does not exist or can't be written to, it is a folder itself, or
        its name is too long.
    """
    file = followed(path)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not _is_device(file):
        with _errors_name(path):
            _new_part(file).unlink()


def followed(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file that a symbolic link points to, or else the path itself."""
    file = Path(path)
    return Path(os.path.realpath(file)) if file.is_symlink() else file


def remove_parts(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that a process left when it was killed while writing this file."""
    file = followed(path)
    part = re.compile(rf"\.{re.escape(file.name)}\.[^.]+\.part")
    for other in file.parent.iterdir():
        if part.fullmatch(other.name):
            other.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors_name(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the system name a file, instead of nothing or of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def _new_part(file: Path) -> Path:
    """Make an empty temporary file beside a file."""
    while True:
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
        try:
            part.touch(exist_ok=False)
        except FileExistsError:
            continue
        return part


def _is_device(file: Path) -> bool:
    return file.exists() and not file.is_file() and not file.is_dir()


def _copy_rights(old: Path, new: Path) -> None:
    """Give a file the owner, the group and the permissions of another, as far as is allowed."""
    theirs, mine = old.stat(), new.stat()
    if hasattr(os, "chown") and (theirs.st_uid, theirs.st_gid) != (mine.st_uid, mine.st_gid):
        with contextlib.suppress(OSError):
            os.chown(new, theirs.st_uid, theirs.st_gid)
    with contextlib.suppress(OSError):
        new.chmod(stat.S_IMODE(theirs.st_mode))


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
