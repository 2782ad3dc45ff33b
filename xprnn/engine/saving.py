"""Networks in files: architecture, dtype, parameters and metadata, in one safetensors file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.safetensors import MODEL, read, write_model
from xprnn.cells import Cell, get_cell
from xprnn.engine.architecture import Architecture

Path = str | os.PathLike[str]


class Saved(NamedTuple):
    """What a file holds of a network; its parameters are host arrays."""

    architecture: Architecture
    dtype: str
    parameters: Mapping[str, HostArray]
    metadata: dict[str, Any]


def write_network(
    path: Path,
    architecture: Architecture,
    dtype: str,
    parameters: Mapping[str, HostArray],
    metadata: dict[str, Any],
) -> None:
    """Write a network to a file; see `RNN.save`."""
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata is {type(metadata).__name__}: expected a dict")
    write_model(path, parameters, architecture.config() | {"dtype": dtype, "metadata": metadata})


def read_network(path: Path, cell: Cell | None) -> Saved:
    """Read a network from a file; see `RNN.load`."""
    arrays, config, _ = read(MODEL, path)
    if cell is not None:
        get_cell(cell)
    with must_be_complete(path):
        architecture = Architecture.from_config(config, cell)
        return Saved(architecture, config["dtype"], arrays, config["metadata"])


@contextmanager
def must_be_complete(path: Path) -> Iterator[None]:
    """Raise a ValueError that names the file if its content is not a complete network."""
    try:
        yield
    except (KeyError, TypeError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(f"{str(path)!r} holds no complete network: {reason}") from error
