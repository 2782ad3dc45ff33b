"""Files that are written whole or not at all."""

import os
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


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name beside its own, then rename it.

    A reader sees the old file or the new one, never a part; a failure leaves the old one.
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
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
