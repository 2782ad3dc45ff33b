"""What a node RNN, GRU or LSTM of another program's file computes: cell and direction."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.host.quoting import quoted
from xprnn.cells import GRU, LSTM, Cell, Elman, GRUResetBefore
from xprnn.interop.onnx.operands import ACTIVATIONS, GATES, USUAL

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

_KNOWN = {
    "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size",
    "input_forget", "layout", "linear_before_reset", "output_sequence",
}  # fmt: skip


class Layer(NamedTuple):
    """A node.

    Attributes
    ----------
    kind : {"RNN", "GRU", "LSTM"}
    cell : Cell
    direction : {"forward", "reverse", "bidirectional"}
    operands : dict of host array
        W, R, and B and P if it has them.
    """

    kind: str
    cell: Cell
    direction: str
    operands: dict[str, HostArray]

    @property
    def directions(self) -> int:
        """D."""
        return DIRECTIONS[self.direction]

    @property
    def hidden(self) -> int:
        """H."""
        return int(self.operands["R"].shape[2])

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.operands["W"].shape[2])


def layer_of(
    kind: str, attributes: Mapping[str, Any], operands: dict[str, HostArray], where: str
) -> Layer:
    """Return the layer of a node after checking it.

    Parameters
    ----------
    kind : {"RNN", "GRU", "LSTM"}
    attributes : mapping
    operands : dict of host array
    where : str
        What messages call the node.

    Raises
    ------
    ValueError
        If it is not a layer of xprnn.
    """
    unknown = sorted(set(attributes) - _KNOWN)
    if unknown:
        raise ValueError(f"{where} has the unknown attribute {quoted(unknown[0])}")
    for name in ("activation_alpha", "activation_beta", "clip", "input_forget"):
        if attributes.get(name):
            raise ValueError(
                f"{where} has {name} = {quoted(attributes[name])}: no cell of xprnn has that"
            )
    direction = attributes.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"{where} has direction {quoted(direction)}: expected {', '.join(DIRECTIONS)}"
        )
    D = DIRECTIONS[direction]
    _check_shapes(kind, attributes, operands, D, where)
    given = attributes.get("activations") or USUAL[kind] * D
    return Layer(kind, _cell(kind, attributes, given, D, operands, where), direction, operands)


def _cell(
    kind: str,
    attributes: Mapping[str, Any],
    activations: list[str],
    directions: int,
    operands: Mapping[str, HostArray],
    where: str,
) -> Cell:
    """Return the cell; names of activations may be in small letters, as ONNX Runtime has it."""
    names = [f"{name}".title() for name in activations]
    if kind == "RNN":
        ours = {theirs: name for name, theirs in ACTIVATIONS.items()}
        if len(names) != directions or len(set(names)) > 1 or names[0] not in ours:
            raise ValueError(
                f"{where} has the activations {quoted(activations)}: expected {', '.join(ours)}, "
                "the same for both directions"
            )
        return Elman(ours[names[0]])
    if names != USUAL[kind] * directions:
        raise ValueError(
            f"{where} has the activations {quoted(activations)}: expected {', '.join(USUAL[kind])} "
            "for each direction"
        )
    if kind == "LSTM":
        return LSTM(peepholes="P" in operands)
    return GRU() if attributes.get("linear_before_reset", 0) else GRUResetBefore()


def _check_shapes(
    kind: str,
    attributes: Mapping[str, Any],
    operands: Mapping[str, HostArray],
    D: int,
    where: str,
) -> None:
    R, rows = operands["R"], GATES[kind]
    hidden = attributes.get("hidden_size", R.shape[-1] if R.ndim else 0)
    inputs = operands["W"].shape[-1] if operands["W"].ndim else 0
    expected = {
        "W": (D, rows * hidden, inputs),
        "R": (D, rows * hidden, hidden),
        "B": (D, 2 * rows * hidden),
        "P": (D, 3 * hidden),
    }
    if min(hidden, inputs) < 1:
        raise ValueError(f"{where} has {inputs} inputs and {hidden} units: expected at least one")
    dtype = operands["W"].dtype
    for name, array in operands.items():
        if array.shape != expected[name]:
            raise ValueError(f"{where}: {name} has shape {array.shape}: expected {expected[name]}")
        if array.dtype != dtype or dtype.name not in ("float16", "float32", "float64"):
            raise ValueError(
                f"{where}: {name} has dtype {array.dtype.name}: expected all of float16, float32 "
                "or float64"
            )
