"""The header of a safetensors file: what it may say, and the checks of what it says.

The header is JSON.  It gives each array's dtype, shape and place in the bytes that follow, and
metadata, which are strings.  Those of xprnn's files are ``format`` ("xprnn" for a model),
``version`` (that of the format), ``config`` (JSON) and ``digest``, a hash of everything else.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.backend.host.strict_json import parse_json

HEADER_BYTES = 100_000_000
"""The longest header that the safetensors format allows."""

DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}
"""NumPy's names of the format's dtypes; it has others, which xprnn never writes."""

DIMENSIONS = 32
"""The most dimensions that an array may have, as in NumPy 1."""

_ENTRY = {"dtype", "shape", "data_offsets"}
_METADATA = {"format", "version", "config", "digest"}


class Kind(NamedTuple):
    """A kind of file, such as a model or a checkpoint.

    Attributes
    ----------
    name : str
        What messages call it.
    format, version : str
        What its metadata say.
    """

    name: str
    format: str
    version: str


class Entry(NamedTuple):
    """What a header says about an array.

    Attributes
    ----------
    dtype : str
        In the words of the format: ``"F32"``.
    shape : tuple of int
    start, stop : int
        Its place in the bytes after the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """A checked header.

    Attributes
    ----------
    config : dict
    entries : dict of Entry
    text : str
        The configuration's JSON, of which the digest is made.
    digest : str or None
        None in a file that was written before files had one.
    begin : int
        Where the arrays begin.
    """

    config: dict[str, Any]
    entries: dict[str, Entry]
    text: str
    digest: str | None
    begin: int


class DamagedFileError(ValueError):
    """The file is cut off, was changed, or is no safetensors file at all."""


def read_header(kind: Kind, file: Path, stream: BinaryIO) -> Header:
    """Read the header of an opened file, and check everything that it says.

    Raises
    ------
    DamagedFileError
        If the file is cut off, or no safetensors file.
    ValueError
        If it is not of this kind, has another version, has no readable configuration, or has an
        array of a dtype that xprnn never writes.
    """
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(8), "little")
    try:
        if not 2 <= length <= min(size - 8, HEADER_BYTES):
            raise ValueError(
                f"its first bytes say that its header has {length} bytes, of {size} in all"
            )
        table = parse_json(stream.read(length).decode())
        if not isinstance(table, dict):
            raise ValueError("its header is not an object")
        metadata = table.get("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are not an object")
        entries = header_entries(table)
        _check_places(entries, size - 8 - length)
    except ValueError as error:
        raise DamagedFileError(
            f"{str(file)!r} is not a whole safetensors file; cut off, or something else? "
            f"({shortened(str(error), 200)})"
        ) from error
    if metadata.get("format") != kind.format:
        raise ValueError(
            f"{str(file)!r} is a safetensors file, but not a {kind.name} saved by xprnn "
            f"(its metadata has format {quoted(metadata.get('format'))})"
        )
    if metadata.get("version") != kind.version:
        raise ValueError(
            f"{str(file)!r} has version {quoted(metadata.get('version'))} of the {kind.name} "
            f"format: this xprnn reads version {kind.version}"
        )
    for name in metadata:
        if name not in _METADATA:
            raise ValueError(
                f"{str(file)!r} has metadata that xprnn does not write: {quoted(name)}"
            )
    text = metadata.get("config")
    try:
        if not isinstance(text, str):
            raise ValueError(f"expected text, not {quoted(text)}")
        config = parse_json(text)
    except ValueError as error:
        raise ValueError(
            f"{str(file)!r} has no readable configuration ({shortened(str(error), 200)})"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{str(file)!r} has no readable configuration (not an object)")
    _check_sizes(file, entries)
    return Header(config, entries, text, metadata.get("digest"), 8 + length)


def header_entries(table: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the arrays' entries of a header, with the types of all parts checked."""
    entries = {}
    for name, value in table.items():
        if name == "__metadata__":
            continue
        if not isinstance(value, dict) or value.keys() != _ENTRY:
            raise ValueError(f"{quoted(name)} is {quoted(value)}: expected dtype, shape and place")
        dtype, shape, place = value["dtype"], value["shape"], value["data_offsets"]
        if not (isinstance(dtype, str) and _sizes(shape) and _sizes(place) and len(place) == 2):
            raise ValueError(f"{quoted(name)} is {quoted(value)}: expected dtype, shape and place")
        entries[name] = Entry(dtype, tuple(shape), *place)
    return entries


def _sizes(value: object) -> bool:
    """Whether a value is a short list of integers that are no more than bytes can be."""
    return (
        isinstance(value, list)
        and len(value) <= DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**63 for size in value)
    )


def _check_places(entries: Mapping[str, Entry], size: int) -> None:
    """Refuse arrays that overlap, or that leave bytes between them or at the end."""
    stop = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != stop or entry.stop < entry.start:
            raise ValueError(f"its arrays do not follow each other at byte {stop}")
        stop = entry.stop
    if stop != size:
        raise ValueError(f"its arrays have {stop} bytes, the file has {size} for them")


def _check_sizes(file: Path, entries: Mapping[str, Entry]) -> None:
    """Refuse dtypes that xprnn never writes, and sizes that contradict shapes."""
    for name, entry in entries.items():
        if entry.dtype not in DTYPES:
            raise ValueError(
                f"{str(file)!r}: the array {quoted(name)} has the dtype {quoted(entry.dtype)}, "
                f"which xprnn does not write: expected one of {', '.join(DTYPES)}"
            )
        size = math.prod(entry.shape) * np.dtype(DTYPES[entry.dtype]).itemsize
        if size != entry.stop - entry.start:
            raise DamagedFileError(
                f"{str(file)!r} is damaged: the array {quoted(name)} of dtype {entry.dtype} and "
                f"shape {quoted(entry.shape)} has {entry.stop - entry.start} bytes"
            )
