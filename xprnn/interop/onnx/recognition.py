"""The network in a graph that another program has written.

The graph is followed node by node: of each value it is noted what it is (see
`xprnn.interop.onnx.values`), and nothing is computed but the moving of weights.  A node that does
not belong to a network of xprnn is an error that names it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.engine.saving import Saved
from xprnn.interop.onnx.assembly import assembled
from xprnn.interop.onnx.files import File
from xprnn.interop.onnx.nodes import Layer, layer_of
from xprnn.interop.onnx.operands import GATES
from xprnn.interop.onnx.values import (
    Axes,
    Constant,
    Final,
    Given,
    Hidden,
    Read,
    Sizes,
    Value,
    Zeros,
)

MOVING = {
    "Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"
}  # fmt: skip
"""What only moves entries; a file's weights may go through it."""

MEMORY = 4
"""How many times a file's bytes the weights that were moved may need."""


def recognized(file: File) -> Saved:
    """Return the network of a file.

    Raises
    ------
    ValueError
        If its graph is not a network of xprnn; the message names the file and the node.
    """
    try:
        return _Walk(file).network()
    except (TypeError, ValueError, IndexError, KeyError) as error:
        reason = shortened(str(error) or repr(error))
        if reason.startswith(repr(file.path)):
            raise
        raise ValueError(f"{file.path!r} is no network of xprnn: {reason}") from error


class _Walk:
    def __init__(self, file: File) -> None:
        self.file, self.budget = file, MEMORY * file.model.ByteSize() + 10**6
        self.values: dict[str, Value] = {}
        self.layers: list[Layer] = []
        self.embedding: HostArray | None = None
        self.weight: HostArray | None = None
        self.bias: HostArray | None = None
        self.has_lengths = False
        self.initial: set[str] = set()

    def network(self) -> Saved:
        """Follow the graph, and return what it computes."""
        for value in self.file.graph.input:
            if value.name not in self.file.initializers:
                self.values[value.name] = Given(value.name, _axes_of(value))
        for node in self.file.graph.node:
            self._follow(node)
        if not self.layers:
            ops = sorted({node.op_type for node in self.file.graph.node})
            raise ValueError(f"it has no node RNN, GRU or LSTM, but {', '.join(ops[:12])}")
        return assembled(
            self.layers, self.embedding, self.weight, self.bias, returns=self._returns()
        )

    def _returns(self) -> str:
        """Return what the outputs are, ``"sequence"`` or ``"last"``."""
        found: dict[Read | Hidden, str] = {}
        for output in self.file.graph.output:
            value = self._value(output.name)
            last = len(self.layers)
            if isinstance(value, Hidden) and (self._reads or value.layer != last):
                raise ValueError(
                    f"the output {quoted(output.name)} is that of a layer, behind which there is "
                    "more: expected the whole network's output"
                )
            if isinstance(value, Read | Hidden):
                rank, declared = len(value.axes), len(_axes_of(output))
                if declared not in (0, rank):
                    raise ValueError(
                        f"the output {quoted(output.name)} has {declared} axes: expected {rank}"
                    )
                found[value] = output.name
            elif not isinstance(value, Final):
                raise ValueError(
                    f"the output {quoted(output.name)} is neither the last layer's output, nor its "
                    "readout, nor a final state"
                )
        if len(found) > 1:
            raise ValueError(
                f"there are {len(found)} outputs besides final states, "
                f"{', '.join(map(quoted, found.values()))}: expected one"
            )
        if not found and self._reads:
            raise ValueError("its readout is no output")
        return "sequence" if any("T" in value.axes for value in found) else "last"

    @property
    def _reads(self) -> bool:
        return self.weight is not None

    def _value(self, name: str) -> Value:
        if name not in self.values:
            if name not in self.file.initializers:
                raise ValueError(f"the value {quoted(name)} is used before a node computes it")
            self.values[name] = Constant(self.file.array(name))
        return self.values[name]

    def _follow(self, node: onnx.NodeProto) -> None:
        where = f"the node {node.op_type}" + (f" {quoted(node.name)}" if node.name else "")
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"{where} is of the domain {quoted(node.domain)}: expected ONNX's own")
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type in GATES:
            self._layer(node, attributes, where)
            return
        inputs = [self._value(name) for name in node.input if name]
        results = self._results(node, attributes, inputs)
        if results is None:
            raise ValueError(
                f"{where} has no place in a network of xprnn, which is an embedding (Gather), "
                "layers RNN, GRU or LSTM, and a readout (Gemm, or MatMul and Add)"
            )
        self.values.update(zip(node.output, results, strict=False))

    def _results(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: list[Value]
    ) -> list[Value] | None:
        """Return what a node's results are; None if it has no place here."""
        op = node.op_type
        if op == "Constant":
            return [Constant(np.asarray(self._constant(attributes)))]
        if op in ("Shape", "Size"):
            return [Sizes()]
        if all(isinstance(value, Constant) for value in inputs):
            if op == "ConstantOfShape":
                return [_filled(attributes)]
            if op == "Expand":
                return [_zeros_if(inputs[0])]
            return self._moved(node, attributes, inputs) if op in MOVING | {"Cast"} else None
        if all(isinstance(value, Constant | Sizes | Zeros) for value in inputs):
            if op == "ConstantOfShape":
                return [_filled(attributes)]
            if op == "Expand":
                return [_zeros_if(inputs[0])]
            moves = isinstance(inputs[0], Zeros) and op in MOVING
            return [Zeros() if moves else Sizes()] * len(node.output)
        known: dict[str, Callable[[Mapping[str, Any], list[Value]], Value | None]] = {
            "Identity": lambda _, v: v[0],
            "Dropout": lambda _, v: v[0] if len(v) < 3 or _is(v[2], 0) else None,
            "Cast": lambda _, v: v[0] if isinstance(v[0], Given) and len(v[0].axes) < 3 else None,
            "Transpose": _transposed,
            "Squeeze": self._squeezed,
            "Reshape": self._reshaped,
            "Gather": self._gathered,
            "Slice": self._sliced,
            "Concat": self._concatenated,
            "MatMul": self._multiplied,
            "Gemm": self._gemm,
            "Add": self._added,
        }
        if op == "Split":
            return _split(attributes, inputs, len(node.output))
        if op not in known:
            return None
        result = known[op](attributes, inputs)
        return None if result is None else [result]

    def _constant(self, attributes: Mapping[str, Any]) -> Any:
        ((name, value),) = attributes.items()
        if isinstance(value, onnx.TensorProto):
            return self.file.tensor(value, "of a Constant")
        if name not in ("value_int", "value_ints", "value_float", "value_floats"):
            raise ValueError(f"a node Constant has {quoted(name)}")
        return np.array(value, "int64" if "int" in name else "float32")

    def _moved(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: list[Value]
    ) -> list[Value]:
        """Return weights after a node that only moves them."""
        del attributes
        names = [name for name in node.input if name]
        arrays = {
            name: value.array
            for name, value in zip(names, inputs, strict=True)
            if isinstance(value, Constant)
        }
        # Twice, since a cast may double the bytes.
        self.budget -= 2 * sum(arrays[name].nbytes for name in names)
        if self.budget < 0:
            raise ValueError(f"its weights need more than {MEMORY} times the file's memory")
        graph = helper.make_graph(
            [node],
            "moving",
            [helper.make_value_info(name, onnx.TypeProto()) for name in arrays],
            [helper.make_value_info(name, onnx.TypeProto()) for name in node.output],
        )
        model = helper.make_model(graph, opset_imports=list(self.file.model.opset_import))
        # The reference implementation raises errors of any kind.
        try:
            results = ReferenceEvaluator(model).run(None, arrays)
        except Exception as error:
            raise ValueError(
                f"the node {node.op_type} {quoted(node.name)} can't move its operands: {error}"
            ) from error
        return [Constant(np.asarray(result)) for result in results]

    def _layer(self, node: onnx.NodeProto, attributes: dict[str, Any], where: str) -> None:
        X, W, R, B, lengths, h, c, P = (*node.input, *[""] * 8)[:8]
        operands = {}
        for name, given in zip("WRBP", (W, R, B, P), strict=True):
            if given:
                value = self._value(given)
                if not isinstance(value, Constant):
                    raise ValueError(f"{where}: {name} is no constant of the file")
                operands[name] = value.array
        layer, along = layer_of(node.op_type, attributes, operands, where), attributes.get("layout")
        k, x = len(self.layers), self._value(X)
        axes = ("B", "T", "F") if along else ("T", "B", "F")
        if isinstance(x, Given) and not k:
            fits = len(x.axes) == 3 and x.axes[2] == "F" and not x.start
        else:
            fits = isinstance(x, Hidden) and (x.layer, x.axes) == (k, axes)
        if not fits:
            raise ValueError(
                f"{where} reads {quoted(X)}: expected the input, its embedding or the output of "
                "the layer before, by steps, sequences and features"
            )
        self._check_lengths(lengths, where)
        source = x.name if isinstance(x, Given) else None
        for name in (h, c):
            self._check_initial(name, source, k * layer.directions, where)
        self.layers.append(layer)
        final = ("B", "D", "H") if along else ("D", "B", "H")
        rows = tuple((k, d) for d in range(layer.directions))
        output = ("B", "T", "D", "H") if along else ("T", "D", "B", "H")
        results: Sequence[Value] = (
            Hidden(k + 1, output),
            Final("h", rows, final),
            Final("c", rows, final),
        )
        self.values.update(zip(node.output, results, strict=False))

    def _check_lengths(self, name: str, where: str) -> None:
        if not name:
            return
        value = self._value(name)
        if isinstance(value, Given) and len(value.axes) == 1:
            self.has_lengths = True
        elif not isinstance(value, Sizes):
            raise ValueError(f"{where} has sequence_lens that are fixed or computed")

    def _check_initial(self, name: str, source: str | None, start: int, where: str) -> None:
        if not name:
            return
        value = self._value(name)
        zeros = isinstance(value, Zeros) or (isinstance(value, Constant) and not value.array.any())
        given = isinstance(value, Given) and value.name != source and len(value.axes) == 3
        if given:
            assert isinstance(value, Given)
            # Rows of one input for all layers, or an input for each.
            fits = value.start == start or (value.start == 0 and value.name not in self.initial)
            given = fits and value.axes == ("0", "1", "F") and not value.embedded
            self.initial.add(value.name)
        if not (zeros or given):
            raise ValueError(
                f"{where} has an initial state that is neither zero nor an input of the graph"
            )

    def _squeezed(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        value, axes = inputs[0], _integers(attributes.get("axes"), inputs[1:])
        if not isinstance(value, Hidden | Final) or axes is None:
            return None
        places = {axis % len(value.axes) for axis in axes}
        if {value.axes[p] for p in places} != {"D"} or self._count(value) != 1:
            return None
        left = tuple(name for k, name in enumerate(value.axes) if k not in places)
        return value._replace(axes=_joined(left) if isinstance(value, Hidden) else left)

    def _count(self, value: Hidden | Final) -> int:
        """Return how many directions, or rows of final states, a value has."""
        if isinstance(value, Final):
            return len(value.rows)
        return self.layers[value.layer - 1].directions

    def _reshaped(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        del attributes
        value, shape = inputs
        if not isinstance(value, Hidden) or "D" not in value.axes:
            return None
        place, count = value.axes.index("D"), self._count(value)
        if count > 1 and value.axes[place + 1 : place + 2] != ("H",):
            return None
        left = tuple(name for name in value.axes if name != "D")
        if isinstance(shape, Constant):
            wanted = shape.array.ravel().tolist()
            features = count * self.layers[value.layer - 1].hidden
            if len(wanted) != len(left) or wanted[left.index("H")] not in (-1, features):
                return None
        return value._replace(axes=_joined(left))

    def _gathered(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        value, index = inputs
        axis = attributes.get("axis", 0)
        if isinstance(value, Constant):
            tokens = isinstance(index, Given) and index.axes == ("0", "1")
            if not tokens or axis or value.array.ndim != 2 or self.embedding is not None:
                return None
            assert isinstance(index, Given)
            self.embedding = value.array
            return Given(index.name, ("0", "1", "F"), embedded=True)
        if not isinstance(value, Hidden | Final) or not isinstance(index, Constant):
            return None
        if index.array.ndim or index.array.dtype.kind != "i":
            return None
        axis %= len(value.axes)
        left = value.axes[:axis] + value.axes[axis + 1 :]
        if isinstance(value, Final):
            if value.axes[axis] != "D":
                return None
            return self._last(value._replace(rows=(value.rows[int(index.array)],), axes=left))
        # The last step is the sequence's end in whole sequences that are read forward.
        forward = self.layers[value.layer - 1].direction == "forward" and not self.has_lengths
        if value.axes[axis] == "T" and int(index.array) == -1 and forward:
            return value._replace(axes=left)
        return None

    def _last(self, value: Final) -> Value:
        """Return a final state as the output of its layer, if it is all of that."""
        layer = value.rows[0][0]
        whole = tuple((layer, d) for d in range(self.layers[layer].directions))
        if value.what == "h" and value.rows == whole and value.axes in (("B", "H"), ("B", "F")):
            return Hidden(layer + 1, ("B", "F"))
        return value

    def _sliced(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        del attributes
        value, *rest = inputs
        if not all(isinstance(part, Constant) and part.array.size == 1 for part in rest):
            return None
        numbers = [int(part.array.item()) for part in rest if isinstance(part, Constant)]
        if len(numbers) < 3 or numbers[2] != 0 or numbers[3:] not in ([], [1]):
            return None
        start, stop = numbers[:2]
        if isinstance(value, Given) and value.axes == ("0", "1", "F") and 0 <= start < stop:
            return value._replace(start=value.start + start)
        if isinstance(value, Final) and value.axes[0] == "D" and value.rows[start:stop]:
            return value._replace(rows=value.rows[start:stop])
        return None

    def _concatenated(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        parts = [value for value in inputs if isinstance(value, Final)]
        if len(parts) < len(inputs):
            # One part may be a layer's whole output already.
            return None
        first, axis = parts[0], attributes["axis"]
        if {(part.what, part.axes) for part in parts} != {(first.what, first.axes)}:
            return None
        rows = tuple(row for part in parts for row in part.rows)
        name = first.axes[axis % len(first.axes)]
        if name == "D":
            return first._replace(rows=rows)
        if name == "H" and first.axes == ("B", "H"):
            made = self._last(first._replace(rows=rows, axes=("B", "F")))
            return made if isinstance(made, Hidden) else None
        return None

    def _multiplied(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        del attributes
        h, weight = inputs
        if not isinstance(weight, Constant):
            return None
        return self._read_out(h, weight.array.T, None)

    def _gemm(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        h, weight, *bias = inputs
        factors = {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)}
        if not isinstance(weight, Constant) or factors != {1.0} or attributes.get("transA"):
            return None
        R = weight.array if attributes.get("transB") else weight.array.T
        if not bias:
            return self._read_out(h, R, None)
        return self._read_out(h, R, bias[0].array) if isinstance(bias[0], Constant) else None

    def _read_out(self, h: Value, R: HostArray, r: HostArray | None) -> Value | None:
        if self._reads or R.ndim != 2 or not isinstance(h, Hidden) or h.axes[-1] != "F":
            return None
        if h.layer != len(self.layers):
            return None
        self.weight, self.bias = R, r
        return Read((*h.axes[:-1], "F"))

    def _added(self, attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
        del attributes
        y, r = inputs if isinstance(inputs[0], Read) else inputs[::-1]
        if not isinstance(y, Read) or not isinstance(r, Constant) or self.bias is not None:
            return None
        if self.weight is None or r.array.shape != (len(self.weight),) or y.axes[-1] != "F":
            return None
        self.bias = r.array
        return y


def _axes_of(value: onnx.ValueInfoProto) -> Axes:
    """Return names of an input's axes, as many as it has."""
    rank = len(value.type.tensor_type.shape.dim)
    return ("0", "1", "F", "H")[:rank] if rank < 4 else tuple(map(str, range(rank)))


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value]
    return value


def _filled(attributes: Mapping[str, Any]) -> Value:
    value = attributes.get("value")
    if value is None:
        return Zeros()
    entries = [*value.float_data, *value.double_data, *value.int32_data, *value.int64_data]
    return Sizes() if any(entries) or any(value.raw_data) else Zeros()


def _zeros_if(value: Value) -> Value:
    zero = isinstance(value, Zeros) or (isinstance(value, Constant) and not value.array.any())
    return Zeros() if zero else Sizes()


def _is(value: Value, number: int) -> bool:
    return isinstance(value, Constant) and bool((value.array == number).all())


def _integers(attribute: Any, operand: list[Value]) -> list[int] | None:
    """Return a list that is an attribute in older operator sets, and an operand in newer ones."""
    if operand:
        found = operand[0].array if isinstance(operand[0], Constant) else None
        return None if found is None else [int(k) for k in found.ravel()]
    return None if attribute is None else list(attribute)


def _transposed(attributes: Mapping[str, Any], inputs: list[Value]) -> Value | None:
    (value,) = inputs
    if not isinstance(value, Given | Hidden | Final | Read):
        return None
    perm = attributes.get("perm") or range(len(value.axes))[::-1]
    if sorted(perm) != list(range(len(value.axes))):
        return None
    return value._replace(axes=tuple(value.axes[p] for p in perm))


def _joined(axes: Axes) -> Axes:
    """Return axes without D: the units of all directions are the features."""
    return tuple("F" if name == "H" else name for name in axes)


def _split(attributes: Mapping[str, Any], inputs: list[Value], count: int) -> list[Value] | None:
    """Return the parts of an initial state, one for each layer."""
    value = inputs[0]
    if not isinstance(value, Given) or value.axes != ("0", "1", "F") or attributes.get("axis", 0):
        return None
    sizes = _integers(attributes.get("split"), inputs[1:])
    if sizes is None or len(sizes) != count:
        return None
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return [value._replace(start=value.start + start) for start in starts]
