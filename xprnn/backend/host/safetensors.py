"""Arrays and plain data in one safetensors file: no pickle, so loading a file runs no code.

The metadata of a file holds ``format`` ("xprnn" for a model), ``version`` (that of the format) and
``config`` (JSON).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.files import write_atomic


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


MODEL = Kind("model", "xprnn", "1")


class DamagedFileError(ValueError):
    """The file is cut off, or no safetensors file at all."""


def write_model(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], config: Mapping[str, Any]
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    TypeError
        If the configuration is not plain JSON data.
    OSError
        If the file can't be written; a file that was there before stays unchanged.
    """
    write_atomic(path, packed(MODEL, arrays, config))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, HostArray], dict[str, Any]]:
    """Read a model file; see `read`."""
    return read(MODEL, path)


def packed(kind: Kind, arrays: Mapping[str, HostArray], config: Mapping[str, Any]) -> bytes:
    """Return the content of a file as bytes.

    Raises
    ------
    TypeError, ValueError
        If the configuration is not plain JSON data.
    """
    from safetensors.numpy import save

    metadata = {
        "format": kind.format,
        "version": kind.version,
        "config": json.dumps(config, sort_keys=True, allow_nan=False),
    }
    content = save({k: a.copy(order="C") for k, a in arrays.items()}, metadata)
    return _in_order(content)


def read(kind: Kind, path: str | os.PathLike[str]) -> tuple[dict[str, HostArray], dict[str, Any]]:
    """Read a file of the given kind.

    Returns
    -------
    arrays : dict of host array
    config : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is cut off, or no safetensors file.
    ValueError
        If it is not of this kind, has another version, or no readable configuration.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no {kind.name} file {str(file)!r}")
    try:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            # Only of xprnn's own files: others may have tensors of a dtype that NumPy lacks.
            names = opened.keys() if metadata.get("format") == kind.format else ()
            arrays = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(
            f"{str(file)!r} is not a whole safetensors file; cut off, or something else? ({error})"
        ) from error
    if metadata.get("format") != kind.format:
        raise ValueError(
            f"{str(file)!r} is a safetensors file, but not a {kind.name} saved by xprnn "
            f"(its metadata has format {metadata.get('format')!r})"
        )
    if metadata.get("version") != kind.version:
        raise ValueError(
            f"{str(file)!r} has version {metadata.get('version')!r} of the {kind.name} format: "
            f"this xprnn reads version {kind.version}"
        )
    try:
        config = json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{str(file)!r} has no readable configuration ({error!r})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{str(file)!r} has no readable configuration (not an object)")
    return arrays, config


def _in_order(content: bytes) -> bytes:
    """Sort the metadata, which safetensors writes in random order, so that equal models make equal
    files.

    A file begins with the length of its header (8 bytes, little-endian) and the header (JSON,
    padded with spaces to a multiple of 8 bytes).
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
