"""Networks in files: architecture, dtype, parameters and metadata, in one safetensors file.

A file may come from a stranger.  The functions ``check_...`` check everything that it says about
the network, before any array is read.
"""

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend import FLOATS, describe
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.floats import rounded
from xprnn.backend.host.quoting import listed, quoted, shortened
from xprnn.backend.host.safetensors import MODEL, Entry, read, write_model
from xprnn.backend.host.strict_json import DEPTH
from xprnn.cells import Cell, get_cell, has_recurrent_matrix
from xprnn.engine.architecture import LATER, Architecture

Path = str | os.PathLike[str]

CONFIG = (*(field.name for field in fields(Architecture)), "dtype", "metadata")
"""The entries of a configuration."""

SIZES = ("input_size", "hidden_size", "output_size", "embedding_size", "projection")
"""Each of them is a dimension of a parameter."""

_FORMAT = {"bfloat16": "F32", "float16": "F16", "float32": "F32", "float64": "F64"}
"""By dtype of a network, that of the arrays in its file: NumPy has no bfloat16."""


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
    plain = plain_metadata(metadata)
    write_model(path, parameters, architecture.config() | {"dtype": dtype, "metadata": plain})


def plain_metadata(metadata: dict[str, Any]) -> Any:
    """Return a network's metadata as JSON has it, checked."""
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata is {type(metadata).__name__}: expected a dict")
    try:
        return _plain("metadata", metadata)
    except RecursionError:
        raise ValueError(f"metadata is nested more than {DEPTH} levels deep") from None


def _plain(place: str, value: Any) -> Any:
    """Return the user's data as JSON has it; NumPy's scalars become numbers.

    Raises
    ------
    TypeError, ValueError
        If JSON has no such value; the message names its place.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}: expected finite (JSON has no such number)")
        return value
    if isinstance(value, list | tuple):
        return [_plain(f"{place}[{k}]", part) for k, part in enumerate(value)]
    if not isinstance(value, dict):
        raise TypeError(
            f"{place} is {describe(value)}: expected plain data, of numbers, text, lists and dicts"
        )
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{place} has the key {key!r} ({type(key).__name__}): expected text")
    return {str(key): _plain(f"{place}[{key!r}]", part) for key, part in value.items()}


def read_network(path: Path, cell: Cell | None, *, allow_nonfinite: bool = False) -> Saved:
    """Read a network from a file; see `RNN.load`."""
    if cell is not None:
        get_cell(cell)

    def check(config: dict[str, Any], entries: Mapping[str, Entry]) -> None:
        with complete(path):
            check_names(config)
        check_cell(path, config["cell"], cell)
        with complete(path):
            check_parameters(Architecture.from_config(config, cell), config["dtype"], entries)

    content = read(MODEL, path, check)
    config = content.config
    if not allow_nonfinite:
        check_finite(path, content.arrays)
    if not content.has_digest:
        warnings.warn(
            f"{str(path)!r} was saved without a digest: whether it was changed since is unknown",
            stacklevel=3,
        )
    architecture = Architecture.from_config(config, cell)
    return Saved(architecture, config["dtype"], content.arrays, config["metadata"])


def check_finite(path: Path, arrays: Mapping[str, HostArray], dtype: str | None = None) -> None:
    """Refuse weights that are NaN or infinite, or would be as numbers of this dtype."""
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(array if dtype is None else rounded(array, dtype))
        if np.any(bad):
            position = [int(k) for k in np.argwhere(bad)[0]]
            value = array[tuple(position)]
            what = f", not finite in {dtype}" if np.isfinite(value) else ""
            raise ValueError(
                f"{str(path)!r}: the weight {name}{position} is {value:g}{what} "
                "(allow_nonfinite=True loads it)"
            )


def check_names(config: dict[str, Any]) -> None:
    """Check that a configuration has all entries and no other, and the two that `RNN` reads."""
    for name in CONFIG:
        if name not in config and name not in LATER:
            raise ValueError(f"{name} is missing")
    unknown = [name for name in config if name not in CONFIG]
    if unknown:
        raise ValueError(f"unknown entries {listed(map(quoted, unknown))}")
    checks.choice("dtype", config["dtype"], FLOATS)
    if not isinstance(config["metadata"], dict):
        raise TypeError(f"metadata is {quoted(config['metadata'])}: expected an object")


def check_cell(path: Path, saved: object, given: Cell | None) -> None:
    """Check that a cell is given if, and only if, the file does not say which it is."""
    if saved is None and given is None:
        raise ValueError(
            f"{str(path)!r} was saved with a cell of the user's own: pass it as `cell`"
        )
    if saved is not None and given is not None:
        raise ValueError(
            f"{str(path)!r}: the file says which cell it needs ({quoted(saved)}): don't pass `cell`"
        )


def check_parameters(architecture: Architecture, dtype: str, entries: Mapping[str, Entry]) -> None:
    """Check that the arrays of a file are the architecture's parameters."""
    # Bounds first: the work and the memory below grow with the number of layers.
    least, word = (2, "two") if has_recurrent_matrix(architecture.cell) else (1, "one")
    if least * architecture.layers * architecture.directions > len(entries):
        raise ValueError(
            f"layers is {quoted(architecture.layers)}, for {len(entries)} parameters: "
            f"expected at least {word} for each layer and direction"
        )
    weights = sum(math.prod(entry.shape) for entry in entries.values())
    for name in SIZES:
        size = architecture.width if name == "hidden_size" else getattr(architecture, name)
        if size is not None and size > weights:
            raise ValueError(f"{name} is {quoted(size)}, but there are {weights} weights in all")
    shapes = architecture.shapes()
    missing = [name for name in shapes if name not in entries]
    if missing:
        raise ValueError(f"parameters lack {listed(missing)}: expected {listed(shapes)}")
    for name, entry in entries.items():
        if name not in shapes:
            raise ValueError(f"there is no parameter {quoted(name)}: known are {listed(shapes)}")
        checks.of_shape(name, entry, shapes[name])
        if entry.dtype != _FORMAT[dtype]:
            raise ValueError(f"{name} has dtype {entry.dtype}: expected {_FORMAT[dtype]} ({dtype})")


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Raise a ValueError that names the file if its configuration is refused."""
    try:
        yield
    except (TypeError, ValueError) as error:
        reason = shortened(str(error))
        raise ValueError(f"{str(path)!r} holds no complete network: {reason}") from error
