"""The file of a checkpoint: written atomically, verified when read, the previous one kept."""

import errno
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.safetensors import DamagedFileError, Kind, packed, read
from xprnn.training.checkpoint.options import Checkpoint

KIND = Kind("checkpoint", "xprnn checkpoint", "2")


class Content(NamedTuple):
    """What a checkpoint holds.

    Attributes
    ----------
    data : dict
        Plain JSON data.
    arrays : dict of host array
    """

    data: dict[str, Any]
    arrays: Mapping[str, HostArray]


def write(checkpoint: Checkpoint, content: Content, *, keep_previous: bool) -> None:
    """Write a checkpoint; with ``keep_previous``, the file that it replaces gets another name.

    Raises
    ------
    OSError
        If the file can't be written; the message names it.
    """
    whole = packed(KIND, content.arrays, content.data)
    previous = checkpoint.previous if keep_previous else None
    try:
        write_atomic(checkpoint.file, whole, previous=previous)
    except OSError as error:
        raise OSError(
            f"can't write the checkpoint {str(checkpoint.file)!r}: {error.strerror or error}"
        ) from error


def find(checkpoint: Checkpoint) -> tuple[Content, bool] | None:
    """Return the latest undamaged checkpoint, and whether it is the file or the previous one.

    Damage can make anything of a file: even one of another format or version.  So the previous
    checkpoint is used whatever is wrong with the file, unless the system refuses to open it.

    Returns
    -------
    content : Content
    latest : bool
        True: it is the file.  False: it is the previous one; this warns.

    None if there is neither.

    Raises
    ------
    ValueError
        If neither file is a whole checkpoint of this version.
    OSError
        If a file can't be read.
    """
    file, previous = checkpoint.file, checkpoint.previous
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    problem = f"there is no checkpoint {str(file)!r}"
    if file.exists():
        try:
            return read_file(file), True
        except (ValueError, OSError) as error:
            unreadable = isinstance(error, OSError) and error.errno != errno.EIO
            if unreadable or not previous.exists():
                raise
            problem = f"the checkpoint {error}"
    elif not previous.exists():
        return None
    try:
        content = read_file(previous)
    except ValueError as error:
        raise ValueError(f"{problem}, and the previous one can't be used: {error}") from error
    warnings.warn(f"{problem}: resuming from the previous one, {str(previous)!r}", stacklevel=2)
    return content, False


def read_file(path: Path) -> Content:
    """Return what a checkpoint holds.

    Raises
    ------
    ValueError
        If it is damaged, or no checkpoint of this version.
    OSError
        If it can't be read.
    """
    found = read(KIND, path)
    if not found.has_digest:
        raise DamagedFileError(f"{str(path)!r} is damaged: it has no digest")
    return Content(found.config, found.arrays)
