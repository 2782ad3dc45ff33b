"""Recurrent nodes of ONNX, which other programs run, as networks of xprnn.

Shapes are those of ONNX: D directions, W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H): the biases of
the input's product, then those of the state's; Y (T, D, B, H), Y_h and Y_c (D, B, H).
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from xprnn import RNN
from xprnn.cells import GRU, LSTM, Cell, Elman, GRUResetBefore, unit_names

ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Which of a node's gates each of ours is: r z n among z r h, and i f g o among i o f c."""

PEEPHOLES = (0, 2, 1)
"""The same of the peepholes: i f o among i o f."""

ACTIVATIONS = {"Tanh": "tanh", "Sigmoid": "logistic", "Relu": "relu"}


class Node(NamedTuple):
    """A node and its operands, host arrays by the names that the standard gives them."""

    kind: str
    operands: dict[str, np.ndarray]
    attributes: dict[str, object]

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("Y", "Y_h", "Y_c") if self.kind == "LSTM" else ("Y", "Y_h")

    def model(self) -> onnx.ModelProto:
        """Return a model that is this node and nothing else."""
        node = helper.make_node(self.kind, list(self.operands), self.outputs, **self.attributes)
        typed = {
            name: helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in self.operands.items()
        }
        graph = helper.make_graph(
            [node],
            self.kind,
            [
                helper.make_tensor_value_info(name, typed[name], a.shape)
                for name, a in self.operands.items()
            ],
            [helper.make_tensor_value_info(name, typed["X"], None) for name in self.outputs],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    def cell(self) -> Cell:
        """Return the cell that computes what the node does."""
        if self.kind == "RNN":
            (activation, *_) = self.attributes.get("activations", ["Tanh"])
            return Elman(ACTIVATIONS[activation])
        if self.kind == "LSTM":
            return LSTM(peepholes="P" in self.operands)
        return GRU() if self.attributes.get("linear_before_reset", 0) else GRUResetBefore()

    def network(self) -> RNN:
        """Return the network of the node, in float64.

        A network has no reversed direction on its own, so that of a node becomes the second of two,
        and all weights of the first are zero.
        """
        W = self.operands["W"]
        net = RNN(
            W.shape[2],
            self.operands["R"].shape[2],
            cell=self.cell(),
            bidirectional=self._suffixes() != ("_l0",),
            bias="B" in self.operands,
            dtype="float64",
            initializer="zeros",
        )
        for k, suffix in enumerate(self._suffixes()):
            for name, array in self._direction(k).items():
                net.parameters[f"{name}{suffix}"] = array.astype("float64")
        return net

    def run(self) -> dict[str, np.ndarray]:
        """Return the outputs as our network computes them."""
        net, operands, D = self.network(), self.operands, len(self.operands["W"])
        along = self.attributes.get("layout", 0)
        x = operands["X"].swapaxes(0, 1) if along else operands["X"]
        initial = [operands[name] for name in ("initial_h", "initial_c") if name in operands]
        if self._suffixes() == ("_l0_reverse",):
            initial = [np.concatenate([np.zeros_like(a), a]) for a in initial]
        lengths = operands.get("sequence_lens")
        y, final = net(x, tuple(initial) or None, None if lengths is None else lengths.tolist())
        Y = np.stack(np.split(y, 2 if net.bidirectional else 1, axis=-1), axis=1)[:, -D:]
        final = [part[-D:] for part in final]
        if along:
            Y, final = np.moveaxis(Y, 2, 0), [part.swapaxes(0, 1) for part in final]
        return dict(zip(self.outputs, (Y, *final), strict=True))

    def _suffixes(self) -> tuple[str, ...]:
        """Return how the parameters of each direction end."""
        return {
            "forward": ("_l0",),
            "reverse": ("_l0_reverse",),
            "bidirectional": ("_l0", "_l0_reverse"),
        }[self.attributes.get("direction", "forward")]

    def _direction(self, k: int) -> dict[str, np.ndarray]:
        """Return one direction's parameters, by the beginnings of their names."""
        p = {name: self.operands[name][k] for name in ("W", "R", "B", "P") if name in self.operands}
        order = ORDER[self.kind]
        arrays = {"weight_ih": _ordered(p["W"], order), "weight_hh": _ordered(p["R"], order)}
        if "B" in p:
            of_input, of_state = (_ordered(half, order) for half in np.split(p["B"], 2))
            if self.attributes.get("linear_before_reset", 0):
                # The bias that the reset gate multiplies is a parameter of its own.
                *gates, arrays["bias_hn"] = np.split(of_state, 3)
                of_state = np.concatenate([*gates, np.zeros_like(arrays["bias_hn"])])
            arrays["bias"] = of_input + of_state
        if "P" in p:
            blocks = np.split(_ordered(p["P"], PEEPHOLES), 3)
            arrays |= dict(zip(unit_names(LSTM(peepholes=True)), blocks, strict=True))
        return arrays


def _ordered(a: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return an array's blocks of rows, one per gate, in another order."""
    blocks = np.split(a, len(order))
    return np.concatenate([blocks[k] for k in order])
