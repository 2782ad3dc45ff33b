"""A network out of layers that another program has written."""

from collections.abc import Mapping, Sequence

from xprnn.backend.host.arrays import HostArray, np
from xprnn.engine.architecture import Architecture
from xprnn.engine.saving import Saved
from xprnn.interop.onnx.nodes import Layer
from xprnn.interop.onnx.operands import parameters_of


def assembled(
    layers: Sequence[Layer],
    embedding: HostArray | None,
    weight: HostArray | None,
    bias: HostArray | None,
    *,
    returns: str,
) -> Saved:
    """Return a network.

    One whose layers read backwards only becomes one of two directions: the weights of the first are
    zero, and a readout leaves its features out.

    Parameters
    ----------
    layers : sequence of Layer
    embedding : host array, (I, E), or None
    weight, bias : host array, (O, F) and (O,), or None
        Of the readout.
    returns : {"sequence", "last"}

    Raises
    ------
    ValueError
        If the layers are not all alike, or sizes don't fit.
    """
    first = layers[0]
    _check_alike(layers)
    reverse = first.direction == "reverse"
    D = 2 if reverse else first.directions
    H, features = first.hidden, first.hidden * first.directions
    if embedding is not None and embedding.shape[1] != first.inputs:
        raise ValueError(
            f"the embedding has {embedding.shape[1]} columns: expected {first.inputs}, the inputs "
            "of the first layer"
        )
    for layer in layers[1:]:
        if layer.inputs != features:
            raise ValueError(f"a layer has {layer.inputs} inputs: expected {features}")
    if weight is not None and weight.shape[1] != features:
        raise ValueError(f"the readout has {weight.shape[1]} inputs: expected {features}")
    if bias is not None and weight is not None and bias.shape != (len(weight),):
        raise ValueError(f"the readout's bias has shape {bias.shape}: expected {(len(weight),)}")
    if reverse:
        R = np.eye(H, dtype=first.operands["W"].dtype) if weight is None else weight
        weight = np.concatenate([np.zeros_like(R), R], axis=1)
    has_bias = bias is not None or any("B" in layer.operands for layer in layers)
    architecture = Architecture(
        input_size=first.inputs if embedding is None else len(embedding),
        hidden_size=H,
        output_size=None if weight is None else len(weight),
        cell=first.cell,
        bias=has_bias,
        returns=returns,
        layers=len(layers),
        bidirectional=D == 2,
        embedding_size=None if embedding is None else embedding.shape[1],
    )
    found: dict[str, HostArray] = {}
    if embedding is not None:
        found["embedding.weight"] = embedding
    for direction in architecture.stack:
        if not reverse or direction.reverse:
            layer = layers[direction.layer]
            k = int(direction.reverse) if layer.directions == 2 else 0
            made = parameters_of(layer.kind, layer.operands, k, layer.cell)
            if reverse and direction.layer:
                W = made["weight_ih"]
                made["weight_ih"] = np.concatenate([np.zeros_like(W), W], axis=1)
            found |= {f"{name}{direction.suffix}": array for name, array in made.items()}
    if weight is not None:
        found["readout.weight"] = weight
    if bias is not None:
        found["readout.bias"] = bias
    dtype = first.operands["W"].dtype.name
    return Saved(architecture, dtype, _filled(architecture, found, dtype), {})


def _filled(
    architecture: Architecture, found: Mapping[str, HostArray], dtype: str
) -> dict[str, HostArray]:
    """Return all parameters, zeros for those that a file lacks."""
    parameters = {}
    for name, shape in architecture.shapes().items():
        array = found[name] if name in found else np.zeros(shape, dtype)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{name} is {array.dtype.name} of shape {array.shape}: expected {dtype} of {shape}"
            )
        parameters[name] = np.ascontiguousarray(array)
    return parameters


def _check_alike(layers: Sequence[Layer]) -> None:
    first = layers[0]
    for layer in layers[1:]:
        for what in ("kind", "cell", "direction", "hidden"):
            theirs, ours = getattr(layer, what), getattr(first, what)
            if theirs != ours:
                raise ValueError(
                    f"its layers differ ({what}: {ours} and {theirs}): expected all alike"
                )
