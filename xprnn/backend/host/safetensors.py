"""Arrays and plain data in one safetensors file: no pickle, so loading a file runs no code.

Files may come from strangers.  Everything that the header says is checked, and the configuration
too, before memory is taken for an array; then the arrays take as much memory as they have bytes in
the file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.header import (
    DTYPES,
    DamagedFileError,
    Entry,
    Kind,
    header_entries,
    read_header,
)
from xprnn.backend.host.quoting import quoted
from xprnn.backend.host.strict_json import DEPTH, parse_json

__all__ = [
    "MODEL",
    "Check",
    "Content",
    "DamagedFileError",
    "Entry",
    "Kind",
    "packed",
    "read",
    "write_model",
]


class Content(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    arrays : dict of host array
    config : dict
    has_digest : bool
        Whether it was compared with a digest.
    """

    arrays: dict[str, HostArray]
    config: dict[str, Any]
    has_digest: bool


Check = Callable[[dict[str, Any], Mapping[str, Entry]], None]
"""Raises a ValueError if it does not accept a configuration with these arrays."""

MODEL = Kind("model", "xprnn", "1")


def write_model(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], config: Mapping[str, Any]
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    TypeError, ValueError
        If the configuration is not plain JSON data.
    OSError
        If the file can't be written; a file that was there before stays unchanged.
    """
    write_atomic(path, packed(MODEL, arrays, config))


def packed(kind: Kind, arrays: Mapping[str, HostArray], config: Mapping[str, Any]) -> bytes:
    """Return the content of a file as bytes.

    Raises
    ------
    TypeError, ValueError
        If the configuration is not plain JSON data.
    """
    from safetensors.numpy import save

    try:
        text = json.dumps(config, sort_keys=True, allow_nan=False)
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH} levels deep") from None
    # A reader refuses what JSON can express twice, such as the keys 1 and "1".
    parse_json(text)
    metadata = {"format": kind.format, "version": kind.version, "config": text}
    content = save({k: a.copy(order="C") for k, a in arrays.items()}, metadata)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    # safetensors writes the metadata in random order; equal models make equal files.
    entries, start = header_entries(header), 8 + size
    data = {k: memoryview(content)[start + e.start : start + e.stop] for k, e in entries.items()}
    header["__metadata__"] = metadata | {"digest": _digest(kind, text, entries, data)}
    whole = json.dumps(header, separators=(",", ":")).encode()
    whole += b" " * (-len(whole) % 8)
    return len(whole).to_bytes(8, "little") + whole + content[8 + size :]


def read(kind: Kind, path: str | os.PathLike[str], check: Check | None = None) -> Content:
    """Read a file of the given kind.

    Parameters
    ----------
    kind : Kind
    path : path
    check : callable, optional
        Called with the configuration and the entries of the arrays, before any array is read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is cut off or no safetensors file, or its content is not what its digest says.
    ValueError
        If it is not of this kind, has another version, has no readable configuration, or has an
        array of a dtype that xprnn never writes.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no {kind.name} file {str(file)!r}")
    with file.open("rb") as stream:
        header = read_header(kind, file, stream)
        if check is not None:
            check(header.config, header.entries)
        arrays = {
            name: _array(file, stream, header.begin + entry.start, name, entry)
            for name, entry in header.entries.items()
        }
    if header.digest is not None:
        data = {name: _bytes(array) for name, array in arrays.items()}
        if _digest(kind, header.text, header.entries, data) != header.digest:
            raise DamagedFileError(f"{str(file)!r} is damaged: its content is not what was written")
    return Content(arrays, header.config, header.digest is not None)


def _array(file: Path, stream: BufferedReader, start: int, name: str, entry: Entry) -> HostArray:
    try:
        array = np.empty(entry.shape, DTYPES[entry.dtype])
    except ValueError as error:
        raise DamagedFileError(
            f"{str(file)!r} is damaged: no array has the shape {quoted(entry.shape)}"
        ) from error
    stream.seek(start)
    if stream.readinto(_bytes(array)) != array.nbytes:
        raise DamagedFileError(f"{str(file)!r} was cut off while it was read")
    if entry.dtype == "BOOL" and np.any(array.view(np.uint8) > 1):
        raise DamagedFileError(
            f"{str(file)!r} is damaged: {quoted(name)} is neither true nor false"
        )
    return array


def _bytes(array: HostArray) -> memoryview:
    """Return the memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _digest(
    kind: Kind,
    text: str,
    entries: Mapping[str, Entry],
    data: Mapping[str, memoryview],
) -> str:
    """Return a hash of a file's kind, its configuration, and its arrays with their names."""
    names = sorted(entries)
    arrays = [[name, entries[name].dtype, entries[name].shape] for name in names]
    total = hashlib.sha256(json.dumps([kind, text, arrays]).encode())
    for name in names:
        total.update(data[name])
    return total.hexdigest()
