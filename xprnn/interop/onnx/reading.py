"""Reading a network from an ONNX file."""

from collections.abc import Mapping
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.header import Entry
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.backend.host.strict_json import parse_json
from xprnn.backend.types import Device, DType
from xprnn.cells import Cell, get_cell
from xprnn.engine.architecture import Architecture
from xprnn.engine.network import RNN
from xprnn.engine.saving import (
    Path,
    Saved,
    check_cell,
    check_finite,
    check_names,
    check_parameters,
    complete,
)
from xprnn.interop.onnx.files import File, read_file
from xprnn.interop.onnx.operands import gathered, node_of, parameters_of
from xprnn.interop.onnx.recognition import recognized
from xprnn.interop.onnx.writing import DTYPES, METADATA, NETWORK, digest

_FORMAT = {"float32": "F32", "float64": "F64"}
_EXTRA = ("tokens", "digest")


def load(
    path: Path,
    *,
    cell: Cell | None = None,
    backend: str | Backend = "numpy",
    device: Device | None = None,
    dtype: str | DType | None = None,
    allow_nonfinite: bool = False,
) -> RNN:
    """Return the network of an ONNX file.

    What `export` has written comes back with the same bits, and with metadata, dropout and cell.
    Of other programs' files, such as those of ``torch.onnx.export``, those are read that are one
    network and nothing else: an embedding (Gather), layers RNN, GRU or LSTM, a readout (Gemm, or
    MatMul and Add), and what only moves entries between them.

    The file may come from a stranger: nothing in it is run, everything is checked before it is
    used, and it can't refer to other files.

    Parameters
    ----------
    path : path
    cell : Cell, optional
        Needed if, and only if, the network was exported with a cell that is not part of xprnn.
    backend, device, dtype : optional
        Where the network computes; without a dtype, the file's.
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.

    Returns
    -------
    RNN
        It reads (T, B, I), also where the file's model reads (B, T, I).

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it can't be read.
    ImportError
        If onnx is not installed.
    ValueError
        If the file is no ONNX file or damaged, keeps weights in other files, or holds a model that
        is no network of xprnn; the message names the node and what is wrong with it.

    Notes
    -----
    A layer that reads backwards only becomes the second direction of two; the weights of the first
    are zero, and so are those of its columns in what follows.

    The node GRU becomes the cell `GRU` with ``linear_before_reset=1``, which is what torch and
    cuDNN compute, and `GRUResetBefore` with 0, the default.

    Examples
    --------
    >>> import tempfile, pathlib, xprnn
    >>> net = xprnn.RNN(3, 5, 2, cell="lstm", rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "lstm.onnx")
    ...     xprnn.interop.onnx.export(net, file)
    ...     print(xprnn.interop.onnx.load(file))
    RNN(3, 5, 2, cell=LSTM(forget_bias=0.0, peepholes=False, layer_norm=False), bias=True,
    returns='sequence', backend='numpy', device='cpu', dtype='float32')
    """
    allow_nonfinite = checks.boolean("allow_nonfinite", allow_nonfinite)
    if cell is not None:
        get_cell(cell)
    file = read_file(path)
    saved = _exported(path, file, cell) if NETWORK in file.properties else None
    if saved is None:
        if cell is not None:
            raise ValueError(
                f"{str(path)!r} was not exported by xprnn, so its nodes say which cell it needs: "
                "don't pass `cell`"
            )
        try:
            saved = recognized(file)
        except ValueError as error:
            if NETWORK not in file.properties:
                raise
            raise ValueError(f"{str(path)!r} was changed since xprnn exported it") from error
    if not allow_nonfinite:
        check_finite(path, saved.parameters)
    if dtype is None and not isinstance(backend, Backend):
        dtype = saved.dtype
    made = get_backend(backend, device, dtype)
    if made.dtype_name != saved.dtype and not allow_nonfinite:
        check_finite(path, saved.parameters, made.dtype_name)
    return RNN.assembled(saved.architecture, made, saved.parameters, saved.metadata)


def _exported(path: Path, file: File, cell: Cell | None) -> Saved | None:
    """Return what `export` has written; None if the graph was changed since."""
    with complete(path):
        config, metadata = (_json(file, name) for name in (NETWORK, METADATA))
        # As in a safetensors file, where the metadata is an entry of the configuration.
        found = {k: v for k, v in config.items() if k not in _EXTRA} | {"metadata": metadata}
        check_names(found)
        checks.choice("dtype", config["dtype"], DTYPES)
    if config.get("digest") != digest(file.graph):
        return None
    check_cell(path, config["cell"], cell)
    with complete(path):
        architecture = Architecture.from_config(config, cell)
        parameters = _parameters(file, architecture)
        entries = {
            name: Entry(_FORMAT.get(array.dtype.name, array.dtype.name), array.shape, 0, 0)
            for name, array in parameters.items()
        }
        check_parameters(architecture, config["dtype"], entries)
    return Saved(architecture, config["dtype"], parameters, metadata)


def _json(file: File, name: str) -> dict[str, Any]:
    try:
        value = parse_json(file.properties.get(name, "{}"))
    except ValueError as error:
        raise ValueError(f"the metadata {name!r} is no JSON: {shortened(str(error))}") from error
    if not isinstance(value, dict):
        raise TypeError(f"the metadata {name!r} is {quoted(value)}: expected an object")
    return value


def _parameters(file: File, architecture: Architecture) -> dict[str, HostArray]:
    """Return a network's parameters, out of the operands of nodes or under their own names."""
    if 2 * architecture.layers > len(file.initializers):
        raise ValueError(
            f"layers is {quoted(architecture.layers)}, for {len(file.initializers)} initializers"
        )
    node = node_of(architecture.cell)
    found: dict[str, HostArray] = {}
    for k, direction in enumerate(architecture.stack):
        operands = _operands(file, direction.layer)
        if node is not None and operands:
            which = k % architecture.directions
            made = _unpacked(node[0], operands, which, architecture)
            found |= {f"{name}{direction.suffix}": array for name, array in made.items()}
    shapes = architecture.shapes()
    found |= {name: file.array(name) for name in shapes if name in file.initializers}
    if architecture.heads > 1:
        for direction in architecture.stack:
            name, H = direction.names.U, direction.hidden_size
            # Of any other shape the check of all shapes, later, makes an error.
            if name in found and found[name].shape == (architecture.cell.gates * H, H):
                found[name] = gathered(found[name], architecture.heads)
    return {name: found[name] for name in shapes if name in found}


def _operands(file: File, layer: int) -> dict[str, HostArray]:
    names = {name: f"{name}_l{layer}" for name in ("W", "R", "B", "P")}
    return {n: file.array(name) for n, name in names.items() if name in file.initializers}


def _unpacked(
    kind: str, operands: Mapping[str, HostArray], k: int, architecture: Architecture
) -> dict[str, HostArray]:
    try:
        return parameters_of(kind, operands, k, architecture.cell)
    except (IndexError, KeyError, ValueError) as error:
        shapes = {name: np.shape(array) for name, array in operands.items()}
        raise ValueError(
            f"the operands of {kind} have the shapes {shapes}: expected {architecture.directions} "
            f"directions of {architecture.hidden_size} units"
        ) from error
