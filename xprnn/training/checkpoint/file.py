"""The file of a checkpoint: written whole, the one before it kept, damage found out."""

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.safetensors import DamagedFileError, Kind, packed, read
from xprnn.training.checkpoint.options import Checkpoint
from xprnn.training.checkpoint.parts import digest

KIND = Kind("checkpoint", "xprnn checkpoint", "1")


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

    def digest(self) -> str:
        """Return a number that another content does not have."""
        total = hashlib.sha256(json.dumps(self.data, sort_keys=True).encode())
        for name in sorted(self.arrays):
            total.update(name.encode())
            total.update(digest(self.arrays[name]).encode())
        return total.hexdigest()


def write(checkpoint: Checkpoint, content: Content, *, keep: bool) -> None:
    """Write a checkpoint, and keep the one that was there unless told that it is no good.

    Raises
    ------
    OSError
        If it can't be written; the message names the file.
    """
    config = {"data": content.data, "digest": content.digest()}
    whole = packed(KIND, content.arrays, config)
    previous = checkpoint.previous if keep else None
    try:
        write_atomic(checkpoint.file, whole, previous=previous)
    except OSError as error:
        raise OSError(
            f"can't write the checkpoint {str(checkpoint.file)!r}: {error.strerror or error}"
        ) from error


def find(checkpoint: Checkpoint) -> tuple[Content, bool] | None:
    """Return the latest whole checkpoint, and whether it is in the file itself; None if none is.

    Warns if it had to be the one before.

    Raises
    ------
    ValueError
        If what is there is damaged, or no checkpoint of this version.
    OSError
        If it can't be read.
    """
    file, previous = checkpoint.file, checkpoint.previous
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    problem = f"there is no checkpoint {str(file)!r}"
    if file.exists():
        try:
            return _read(file), True
        except DamagedFileError as error:
            if not previous.exists():
                raise
            problem = f"the checkpoint {error}"
    elif not previous.exists():
        return None
    content = _read(previous)
    warnings.warn(f"{problem}: going on from the one before, {str(previous)!r}", stacklevel=2)
    return content, False


def _read(path: Path) -> Content:
    arrays, config = read(KIND, path)
    content = Content(config.get("data", {}), arrays)
    if content.digest() != config.get("digest"):
        raise DamagedFileError(f"{str(path)!r} is damaged: its content is not what was written")
    return content
