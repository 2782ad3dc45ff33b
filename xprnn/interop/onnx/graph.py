"""Writing a graph of ONNX: nodes, initializers, and names for values."""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper, numpy_helper

from xprnn.backend.host.arrays import HostArray, np

OPSET, IR_VERSION = 17, 8
"""Of 2022; ONNX Runtime runs them from version 1.12 on."""

Shape = Sequence[int | str | None]


class Graph:
    """Nodes in the order in which they are added; a body shares its outer graph's initializers.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of the network's numbers.
    outer : Graph, optional
        Of a body: the graph that has the node.
    """

    def __init__(self, dtype: str, outer: "Graph | None" = None) -> None:
        self.dtype, self.outer = dtype, outer
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, HostArray] = {} if outer is None else outer.initializers
        self._count: list[int] = [0] if outer is None else outer._count

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one result, and return the result's name."""
        (result,) = self.add_many(op, inputs, [name or self.new(op)], **attributes)
        return result

    def add_many(
        self, op: str, inputs: Sequence[str], results: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node, and return its results' names."""
        self.nodes.append(helper.make_node(op, list(inputs), list(results), **attributes))
        return list(results)

    def new(self, op: str) -> str:
        """Return a new name."""
        self._count[0] += 1
        return f"{op.lower()}_{self._count[0]}"

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Return equal parts of a value."""
        if count == 1:
            return [value]
        return self.add_many("Split", [value], [self.new("Split") for _ in range(count)], axis=axis)

    def weight(self, name: str, array: HostArray) -> str:
        """Add an initializer under this name."""
        self.initializers[name] = array
        return name

    def integers(self, *values: int) -> str:
        """Return a constant list of integers."""
        name = "_".join(["ints", *(f"{v}".replace("-", "m") for v in values)])
        return self.weight(name, np.array(values, "int64"))

    def number(self, value: float) -> str:
        """Return a constant of the network's dtype."""
        return self.weight(f"number_{value!r}", np.array(value, self.dtype))

    def truth(self, value: bool) -> str:
        """Return a constant truth value."""
        return self.weight(f"{value}".lower(), np.array(value))

    def typed(self, name: str, shape: Shape | None, dtype: str | None = None) -> Any:
        """Return a value's name with its type, as a graph lists its inputs and outputs."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        return helper.make_tensor_value_info(name, kind, shape)

    def body(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.GraphProto:
        """Return the nodes as the body of a node in another graph."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs))

    def whole(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.GraphProto:
        """Return the graph, with its initializers."""
        tensors = [
            numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n)
            for n, a in self.initializers.items()
        ]
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), tensors)
