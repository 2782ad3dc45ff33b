"""Weights and configuration in one safetensors file: no pickle, so loading runs no code.

The file's metadata holds ``format`` ("xprnn"), ``version`` (of this layout) and ``config`` (JSON).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xprnn.backend.host import HostArray
from xprnn.files import write_atomic

FORMAT = "xprnn"
VERSION = 1


def write_model(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], config: Mapping[str, Any]
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    TypeError
        If the configuration is not plain JSON data.
    OSError
        If the file can't be written; one that was there before stays as it was.
    """
    from safetensors.numpy import save

    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(config, sort_keys=True, allow_nan=False),
    }
    content = save({k: a.copy(order="C") for k, a in arrays.items()}, metadata)
    write_atomic(path, _in_order(content))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, HostArray], dict[str, Any]]:
    """Read a model file.

    Returns
    -------
    arrays : dict of host array
    config : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model of xprnn, is cut off, or is of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no model file {str(file)!r}")
    try:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            # Others' tensors may have a dtype that NumPy lacks.
            names = opened.keys() if metadata.get("format") == FORMAT else ()
            arrays = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{str(file)!r} is not a whole safetensors file; cut off, or something else? ({error})"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{str(file)!r} is a safetensors file, but not a model saved by xprnn "
            f"(its metadata has format {metadata.get('format')!r})"
        )
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{str(file)!r} has version {metadata.get('version')!r} of the model format: "
            f"this xprnn reads version {VERSION}"
        )
    try:
        config = json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{str(file)!r} has no readable configuration ({error!r})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{str(file)!r} has no readable configuration (not an object)")
    return arrays, config


def _in_order(content: bytes) -> bytes:
    """Sort the metadata: safetensors orders it at random, but equal models make equal files.

    A file begins with the header's length (8 bytes, little-endian) and the header (JSON, filled up
    with spaces to a multiple of 8 bytes).
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
