"""Writing a network as an ONNX file."""

import hashlib
import json
import math
import os
from collections.abc import Mapping

import onnx
from onnx import helper

from xprnn._version import __version__
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.files import write_atomic
from xprnn.engine.architecture import Architecture
from xprnn.engine.network import RNN
from xprnn.engine.saving import plain_metadata
from xprnn.interop.onnx.graph import IR_VERSION, OPSET, Graph
from xprnn.interop.onnx.layers import Steps, put_out, write_layer
from xprnn.interop.onnx.operands import spread
from xprnn.models.language import TASK

NETWORK, METADATA = "xprnn.network", "xprnn.metadata"
"""The entries of a file's metadata: the architecture and the network's metadata, as JSON."""

DTYPES = ("float32", "float64")
LARGEST = 2_000_000_000
"""Bytes of weights in one file: a protocol buffer has at most 2 GiB."""


def export(net: RNN, path: str | os.PathLike[str], *, tokens: bool | None = None) -> None:
    """Write a network as an ONNX file, for ONNX Runtime and other programs to run.

    The file serves any number of steps T and of sequences B.

    ==============  ==========================  ====================================================
    input           shape, dtype
    ==============  ==========================  ====================================================
    ``x``           (T, B, I), floats;          or tokens, (T, B), int64
    ``lengths``     (B,), int32                 optional: the number of steps of each sequence
    ``state_h``     (layers·D, B, H), floats    optional: the initial state; an LSTM has ``state_c``
                                                too, another cell ``state_`` and each name
    **output**
    ``output``      (T, B, O) or (B, O)         as calling the network returns it
    ``final_h``     (layers·D, B, H)            the final state; ``final_c`` as above
    ==============  ==========================  ====================================================

    Elman, GRU and LSTM networks in float32 become nodes RNN, GRU and LSTM.  Any other network's
    layers become Scan nodes over elementwise nodes, which are written from the cell's formula.

    Parameters
    ----------
    net : RNN
        On any backend, in float32 or float64.
    path : path
        The file is written whole or not at all.
    tokens : bool, optional
        Whether ``x`` are integers.  None: if the network has an embedding, or is a language
        model's.

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If the file can't be written.
    TypeError
        If an argument has the wrong type.
    ValueError
        If the network computes in another dtype, the cell can't be traced or needs a function that
        ONNX lacks, an embedding is to read floats, or the weights are too large for one file.

    Notes
    -----
    Dropout is left out of the computation, as in every call of a network, and returns with `load`.
    With ``heads=n`` the file holds U with zeros between the blocks, n times as many numbers as the
    network.  With a projection it holds U and P, and a MatMul forms U P before the first step.
    `load` gives the network's own parameters in both cases.
    In ONNX Runtime a Scan checks no lengths: one above T counts as T.

    Examples
    --------
    >>> import xprnn
    >>> net = xprnn.RNN(3, 5, 2, cell="lstm", rng=0)
    >>> xprnn.interop.onnx.export(net, "lstm.onnx")  # doctest: +SKIP
    """
    write_atomic(path, model_of(net, tokens=tokens).SerializeToString())


def model_of(net: RNN, *, tokens: bool | None = None) -> onnx.ModelProto:
    """Return a network as a model of ONNX; see `export`."""
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an xprnn.RNN")
    if tokens is not None and not isinstance(tokens, bool):
        raise TypeError(f"tokens is {tokens!r}: expected True, False or None")
    architecture, dtype = net.architecture, net.backend.dtype_name
    if dtype not in DTYPES:
        raise ValueError(
            f"the network computes in {dtype}: expected float32 or float64 (net.to(dtype=...))"
        )
    embeds = architecture.embedding_size is not None
    if tokens is None:
        tokens = embeds or net.metadata.get("task") == TASK
    elif embeds and not tokens:
        raise ValueError("tokens is False, but the network has an embedding, which reads tokens")
    size = sum(
        math.prod(shape) * (architecture.heads if name.startswith("weight_hh") else 1)
        for name, shape in architecture.shapes().items()
    )
    if size * np.dtype(dtype).itemsize > LARGEST:
        raise ValueError(f"the file would hold {size} numbers: an ONNX file holds 2 GB at most")
    host = {name: np.asarray(net.backend.to_numpy(a)) for name, a in net.parameters.items()}
    if architecture.heads > 1:
        recurrent = [direction.names.U for direction in architecture.stack]
        host |= {name: spread(host[name], architecture.heads) for name in recurrent}
    graph = _graph(architecture, dtype, host, tokens=tokens)
    config = architecture.config() | {"dtype": dtype, "tokens": tokens, "digest": digest(graph)}
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xprnn",
        producer_version=__version__,
    )
    helper.set_model_props(
        model,
        {NETWORK: json.dumps(config), METADATA: json.dumps(plain_metadata(net.metadata))},
    )
    return model


def digest(graph: onnx.GraphProto) -> str:
    """Return a hash of a graph with its weights."""
    return hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()


def _graph(
    architecture: Architecture, dtype: str, parameters: Mapping[str, HostArray], *, tokens: bool
) -> onnx.GraphProto:
    graph, state, hidden = Graph(dtype), architecture.cell.state, architecture.width
    T = graph.add("Shape", "x", start=0, end=1)
    B = graph.add("Shape", "x", start=1, end=2)
    steps = _steps(graph, T, B)
    initial = [_initial_state(graph, architecture, f"state_{name}", B) for name in state]
    by_layer = [graph.split(part, architecture.layers, 0) for part in initial]
    x, finals = "x", []
    if architecture.embedding_size is not None:
        name = "embedding.weight"
        x = graph.add("Gather", graph.weight(name, parameters[name]), x, axis=0)
    for layer in range(architecture.layers):
        one_hot = tokens and not layer and architecture.embedding_size is None
        size, given = architecture.sizes[layer], [part[layer] for part in by_layer]
        if size < hidden:
            ends = graph.integers(0), graph.integers(size), graph.integers(2)
            given = [graph.add("Slice", part, *ends) for part in given]
        before = x
        x, final = write_layer(
            graph, architecture, parameters, layer, x, given, steps, tokens=one_hot
        )
        top = put_out(graph, architecture, parameters, layer, final[0])
        if size < hidden:
            pads = graph.integers(0, 0, 0, 0, 0, hidden - size)
            final = [graph.add("Pad", part, pads) for part in final]
        finals.append(final)
        if architecture.stack[layer * architecture.directions].skips:
            x = graph.add("Add", x, before)
    if architecture.returns == "last":
        by_sequence = graph.add("Transpose", top, perm=[1, 0, 2])
        last_h = graph.add("Reshape", by_sequence, graph.integers(0, -1))
        if architecture.stack[-1].skips:
            last_h = graph.add("Add", last_h, _last(graph, architecture, before, steps))
        x = last_h
    _read_out(graph, architecture, parameters, x, steps)
    for name, parts in zip(state, zip(*finals, strict=True), strict=True):
        graph.add("Concat", *parts, axis=0, name=f"final_{name}")
    size = architecture.features if architecture.output_size is None else architecture.output_size
    last, count = architecture.returns == "last", len(architecture.stack)
    return graph.whole(
        "xprnn",
        [
            graph.typed("x", ["T", "B"], "int64")
            if tokens
            else graph.typed("x", ["T", "B", architecture.input_size]),
            graph.typed("lengths", ["lengths"], "int32"),
            *(graph.typed(f"state_{n}", [count, f"state_{n}", hidden]) for n in state),
        ],
        [
            graph.typed("output", ["B", size] if last else ["T", "B", size]),
            *(graph.typed(f"final_{name}", [count, "B", hidden]) for name in state),
        ],
    )


def _last(graph: Graph, architecture: Architecture, x: str, steps: Steps) -> str:
    """Add what of the top layer's input goes past it at each direction's last step."""
    # The sum over all steps of what is zero everywhere but at a sequence's last step.
    valid = graph.add("Where", steps.valid, graph.number(1.0), graph.number(0.0))
    rest = graph.integers(1), graph.integers(2**31 - 1), graph.integers(0)
    after = graph.add("Slice", valid, *rest)
    after = graph.add("Pad", after, graph.integers(0, 0, 0, 1, 0, 0))
    at_end = graph.add("Mul", x, graph.add("Sub", valid, after))
    last = graph.add("ReduceSum", at_end, graph.integers(0), keepdims=0)
    if not architecture.bidirectional:
        return last
    first = graph.add("Gather", x, graph.weight("zero", np.array(0)), axis=0)
    H, axis = architecture.features // 2, graph.integers(1)
    forward = graph.add("Slice", last, graph.integers(0), graph.integers(H), axis)
    backward = graph.add("Slice", first, graph.integers(H), graph.integers(2 * H), axis)
    return graph.add("Concat", forward, backward, axis=1)


def _steps(graph: Graph, T: str, B: str) -> Steps:
    """Add the lengths, T each if none are given, and the padding mask."""
    graph.weight("lengths", np.zeros(0, "int32"))
    all_steps = graph.add("Cast", T, to=onnx.TensorProto.INT32)
    none, given = Graph(graph.dtype, graph), Graph(graph.dtype, graph)
    lengths = _if_given(
        graph,
        "lengths",
        none.body(
            graph.new("without"), [], [graph.typed(none.add("Expand", all_steps, B), None, "int32")]
        ),
        given.body(
            graph.new("with"), [], [graph.typed(given.add("Reshape", "lengths", B), None, "int32")]
        ),
    )
    zero, one = graph.weight("zero", np.array(0)), graph.weight("one", np.array(1))
    each = graph.add("Range", zero, graph.add("Squeeze", T), one)
    each = graph.add("Unsqueeze", each, graph.integers(1, 2))
    ends = graph.add("Cast", lengths, to=onnx.TensorProto.INT64)
    return Steps(lengths, graph.add("Less", each, graph.add("Unsqueeze", ends, graph.integers(1))))


def _initial_state(graph: Graph, architecture: Architecture, name: str, B: str) -> str:
    """Add an initial state, zeros if none is given."""
    layers, hidden = len(architecture.stack), architecture.width
    graph.weight(name, np.zeros((layers, 0, hidden), graph.dtype))
    shape = graph.add("Concat", graph.integers(layers), B, graph.integers(hidden), axis=0)
    none, given = Graph(graph.dtype, graph), Graph(graph.dtype, graph)
    zeros = none.add("Expand", graph.number(0.0), shape)
    reshaped = given.add("Reshape", name, shape)
    return _if_given(
        graph,
        name,
        none.body(graph.new("without"), [], [graph.typed(zeros, None)]),
        given.body(graph.new("with"), [], [graph.typed(reshaped, None)]),
    )


def _if_given(graph: Graph, name: str, without: onnx.GraphProto, having: onnx.GraphProto) -> str:
    """Add a choice: an optional input is an initializer without entries, which a user replaces.

    In the branch that has it, a Reshape refuses a wrong number of entries.
    """
    size = graph.add("Size", name)
    missing = graph.add("Equal", size, graph.weight("zero", np.array(0)))
    return graph.add("If", missing, then_branch=without, else_branch=having)


def _read_out(
    graph: Graph,
    architecture: Architecture,
    parameters: Mapping[str, HostArray],
    h: str,
    steps: Steps,
) -> None:
    if architecture.output_size is None:
        graph.add("Identity", h, name="output")
        return
    R = graph.weight(architecture.readout_weight, parameters[architecture.readout_weight])
    bias = "readout.bias"
    r = graph.weight(bias, parameters[bias]) if bias in parameters else None
    if architecture.returns == "last":
        graph.add("Gemm", h, R, *([] if r is None else [r]), transB=1, name="output")
        return
    y = graph.add("MatMul", h, graph.add("Transpose", R, perm=[1, 0]))
    if r is not None:
        y = graph.add("Add", y, r)
    # In the padding, where h is zero, y is r.
    graph.add("Where", steps.valid, y, graph.number(0.0), name="output")
