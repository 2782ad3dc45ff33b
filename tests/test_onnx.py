"""Judges from ONNX: its standard's test cases, its reference implementation, and ONNX Runtime."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.backend.test.case import node as standard
from onnx.backend.test.case.node import gru, lstm, rnn
from onnx.reference import ReferenceEvaluator

from tests.closeness import AUTOGRAD, assert_close, between_backends
from tests.onnx_nodes import Node

KINDS = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""The number of gates of each kind of node."""

MODULES = (rnn, gru, lstm)
"""Whose import enters their cases into the list."""

PUBLISHED = [case for case in standard._NodeTestCases if case.model.graph.node[0].op_type in KINDS]


def published(case) -> tuple[Node, dict[str, np.ndarray]]:
    """Return a case's node, and the outputs that it expects."""
    node, ((inputs, outputs),) = case.model.graph.node[0], case.data_sets
    given = [name for name in node.input if name]
    wanted = [name for name in node.output if name]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in attributes.items()
    }
    return (
        Node(node.op_type, dict(zip(given, inputs, strict=True)), attributes),
        dict(zip(wanted, outputs, strict=True)),
    )


def test_all_published_cases_are_here():
    assert len(PUBLISHED) >= 18
    names = {case.name for case in PUBLISHED}
    assert "test_gru_seq_length" in names
    for kind in ("simple_rnn", "gru", "lstm"):
        for what in ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional"):
            assert f"test_{kind}_{what}" in names
    assert {"test_rnn_seq_length", "test_lstm_with_peepholes"} <= names


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name.removeprefix("test_"))
def test_published_case(case):
    node, wanted = published(case)
    got = node.run()
    for name, array in wanted.items():
        assert_close(got[name], array, between_backends("float32", len(node.operands["X"])), name)


@dataclass(frozen=True)
class Row:
    """A kind of node, with random operands."""

    kind: str
    direction: str
    peepholes: bool = False
    activation: str = "Tanh"
    reset_before: bool = False

    @property
    def id(self) -> str:
        words = [self.kind, self.direction, "peepholes" if self.peepholes else ""]
        words.append("reset-before" if self.reset_before else "")
        return "-".join(word for word in [*words, self.activation] if word)

    def node(self, dtype: str, *, lengths: bool) -> Node:
        """Return the node; no two of its gates, units, directions or sequences are alike."""
        T, B, inputs, H, G = 5, 4, 2, 3, KINDS[self.kind]
        D = 2 if self.direction == "bidirectional" else 1
        shapes = {
            "X": (T, B, inputs),
            "W": (D, G * H, inputs),
            "R": (D, G * H, H),
            "B": (D, 2 * G * H),
            "initial_h": (D, B, H),
        }
        if self.kind == "LSTM":
            shapes["initial_c"] = (D, B, H)
        if self.peepholes:
            shapes["P"] = (D, 3 * H)
        rng = np.random.default_rng(0)
        operands = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        steps = [T, 2, 1, 4] if lengths else [T] * B
        operands["sequence_lens"] = np.array(steps, "int32")
        attributes = {"hidden_size": H, "direction": self.direction}
        if self.kind == "GRU":
            attributes["linear_before_reset"] = 0 if self.reset_before else 1
        if self.activation != "Tanh":
            attributes["activations"] = [self.activation] * D
        return Node(self.kind, {k: operands[k] for k in order if k in operands}, attributes)


ROWS = [
    Row(kind, direction, peepholes)
    for kind in KINDS
    for direction in ("forward", "reverse", "bidirectional")
    for peepholes in ((False, True) if kind == "LSTM" else (False,))
] + [Row("GRU", way, reset_before=True) for way in ("forward", "reverse", "bidirectional")]
OF_RUNTIME = [
    *ROWS,
    Row("RNN", "bidirectional", activation="Sigmoid"),
    Row("RNN", "bidirectional", activation="Relu"),
]


def by_reference(node: Node) -> list[np.ndarray]:
    return ReferenceEvaluator(node.model()).run(None, node.operands)


def by_runtime(node: Node) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        node.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, node.operands)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_against_the_reference_implementation(row):
    """In float64; it takes no notice of lengths."""
    node = row.node("float64", lengths=False)
    for (name, got), want in zip(node.run().items(), by_reference(node), strict=True):
        assert_close(got, want, AUTOGRAD, name)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("row", OF_RUNTIME, ids=lambda row: row.id)
def test_against_onnx_runtime(row, lengths):
    """In float32, the only precision that it has here."""
    node = row.node("float32", lengths=lengths)
    for (name, got), want in zip(node.run().items(), by_runtime(node), strict=True):
        assert_close(got, want, between_backends("float32", len(node.operands["X"])), name)
