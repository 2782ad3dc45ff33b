"""Reading an ONNX file that may come from a stranger."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.quoting import quoted, shortened

LARGEST = 2**31
"""Bytes of a file: what a protocol buffer can have."""

OLDEST = 7
"""The operator set from which on RNN, GRU and LSTM are those of today."""


class File(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    path : str
    model : onnx.ModelProto
    initializers : dict of str to onnx.TensorProto
    properties : dict of str to str
        The metadata.
    """

    path: str
    model: onnx.ModelProto
    initializers: dict[str, onnx.TensorProto]
    properties: dict[str, str]

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph

    def array(self, name: str) -> HostArray:
        """Return an initializer as a host array."""
        return self.tensor(self.initializers[name], name)

    def tensor(self, tensor: onnx.TensorProto, name: str) -> HostArray:
        """Return a tensor as a host array."""
        try:
            if any(n < 0 for n in tensor.dims):
                raise ValueError(f"its shape is {list(tensor.dims)}")
            return numpy_helper.to_array(tensor)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            reason = shortened(str(error).splitlines()[0] if str(error) else repr(error))
            raise ValueError(
                f"{self.path!r}: the tensor {quoted(name)} is damaged: {reason}"
            ) from error


def read_file(path: str | os.PathLike[str]) -> File:
    """Read a file, and check what does not depend on its model.

    Raises
    ------
    OSError
        If it can't be read.
    ValueError
        If it is no ONNX file, is too large, keeps weights elsewhere, or needs another operator set.
    """
    file, name = Path(path), str(path)
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST:
            raise ValueError(f"{name!r} has {size} bytes: expected an ONNX file, 2 GiB at most")
        content = stream.read(LARGEST)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"{name!r} is no ONNX file, or a damaged one") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ValueError(f"{name!r} is no ONNX file: it holds no graph")
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(
                f"{name!r}: the tensor {quoted(tensor.name)} is in another file (external data): "
                "expected one file, as onnx.save_model writes with save_as_external_data=False"
            )
    if model.graph.sparse_initializer:
        raise ValueError(f"{name!r} has sparse initializers: expected dense ones")
    if model.functions:
        raise ValueError(f"{name!r} defines functions of its own: expected nodes of ONNX")
    _check_operator_set(name, model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    if len(initializers) < len(model.graph.initializer):
        raise ValueError(f"{name!r} has two initializers of the same name")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return File(name, model, initializers, properties)


def _check_operator_set(name: str, model: onnx.ModelProto) -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ValueError(f"{name!r} names no operator set of ONNX")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= versions[0] <= newest:
        what = "is too old" if versions[0] < OLDEST else f"is newer than onnx {onnx.__version__}"
        raise ValueError(
            f"{name!r} has operator set {versions[0]}, which {what}: expected {OLDEST} to {newest}"
        )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor, those of nodes and of their bodies too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(body)
