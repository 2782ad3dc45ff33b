"""ONNX files of other programs as networks: torch's, the standard's cases, and hostile ones."""

import os
import warnings
from contextlib import suppress

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_nodes import ACTIVATIONS
from tests.test_onnx import PUBLISHED, ROWS, by_reference, published
from xprnn import RNN
from xprnn.cells import GRU, Elman
from xprnn.interop.onnx import export, load

T, B = 5, 2
FILES = 5000 if os.environ.get("FULL") == "1" else 200


class Model(torch.nn.Module):
    """Embedding, layers and readout; what is None is left out."""

    def __init__(self, kind, *, embedding=False, head=True, last=None, **options):
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 3) if embedding else None
        self.rnn = getattr(torch.nn, kind)(3, 4, **options)
        features = 8 if self.rnn.bidirectional else 4
        self.head = torch.nn.Linear(features, 2) if head else None
        self.last = last

    def forward(self, x, *state):
        if self.embedding is not None:
            x = self.embedding(x)
        y, final = self.rnn(x, *[state if len(state) > 1 else state[0]] if state else [])
        h = final[0] if isinstance(final, tuple) else final
        if self.last == "step":
            y = y[:, -1] if self.rnn.batch_first else y[-1]
        if self.last == "state":
            y = torch.cat([h[-2], h[-1]], 1) if self.rnn.bidirectional else h[-1]
        return (y if self.head is None else self.head(y)), final


OF_TORCH = {
    "lstm": ("LSTM", {}, 0),
    "lstm, 2 layers, both directions, batch first": (
        "LSTM",
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        0,
    ),
    "lstm, 2 layers, both directions, states": (
        "LSTM",
        {"num_layers": 2, "bidirectional": True},
        2,
    ),
    "gru, 2 layers, state": ("GRU", {"num_layers": 2}, 1),
    "gru, last step": ("GRU", {"last": "step", "batch_first": True}, 0),
    "gru, last state": ("GRU", {"last": "state", "num_layers": 2}, 0),
    "lstm, last states of both directions": (
        "LSTM",
        {"last": "state", "num_layers": 2, "bidirectional": True},
        0,
    ),
    "relu, embedding": ("RNN", {"embedding": True, "nonlinearity": "relu"}, 0),
    "tanh, no head": ("RNN", {"num_layers": 2, "bidirectional": True, "head": False}, 0),
    "lstm, no biases": ("LSTM", {"bias": False, "head": False}, 0),
}


@pytest.mark.parametrize("name", OF_TORCH)
def test_files_that_torch_has_exported(name, tmp_path):
    kind, options, states = OF_TORCH[name]
    torch.manual_seed(0)
    model = Model(kind, **options).eval()
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch_first = options.get("batch_first", False)
    shape = (B, T) if batch_first else (T, B)
    x = torch.randint(0, 7, shape) if options.get("embedding") else torch.randn(*shape, 3)
    state = tuple(torch.randn(layers, B, 4) for _ in range(states))
    file = tmp_path / "torch.onnx"
    with warnings.catch_warnings():
        # The exporter that needs no other package is the older one, and says so.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x, *state), file, dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "first", 1: "second"}}, opset_version=17,
        )  # fmt: skip
        wanted, final = model(x, *state)
    net = load(file)
    given = x.numpy().swapaxes(0, 1) if batch_first else x.numpy()
    output, ours = net(given, tuple(part.numpy() for part in state) or None)
    if batch_first and not options.get("last"):
        output = output.swapaxes(0, 1)
    theirs = final if isinstance(final, tuple) else (final,)
    for a, b in zip((output, *ours), (wanted, *theirs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=2e-6)


def frozen(node, outputs=None):
    """Return a node's model whose weights are of the file, and not inputs."""
    model = node.model()
    weights = {name: node.operands[name] for name in ("W", "R", "B", "P") if name in node.operands}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    if outputs is not None:
        named = [value for value in model.graph.output if value.name in outputs]
        del model.graph.output[:]
        model.graph.output.extend(named)
    return model


def saved(model, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def compare(net, node, wanted):
    """Compare a network's results with those of a node, by the node's names."""
    along = node.attributes.get("layout", 0)
    x = node.operands["X"]
    x = x.swapaxes(0, 1) if along else x
    states = [node.operands[n] for n in ("initial_h", "initial_c") if n in node.operands]
    if node.attributes.get("direction") == "reverse":
        states = [np.concatenate([np.zeros_like(a), a]) for a in states]
    lengths = node.operands.get("sequence_lens")
    y, final = net(x, tuple(states) or None, None if lengths is None else lengths.tolist())
    for name, part in zip(("Y_h", "Y_c"), final, strict=False):
        D = len(node.operands["W"])
        theirs = wanted[name].swapaxes(0, 1) if along else wanted[name]
        np.testing.assert_allclose(part[-D:], theirs, rtol=0, atol=1e-6)
    if "Y" in wanted and net.returns == "sequence":
        Y = np.moveaxis(wanted["Y"], 0, 2) if along else wanted["Y"]
        Y = np.concatenate(list(Y.swapaxes(0, 1)), axis=-1)
        np.testing.assert_allclose(y, Y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name.removeprefix("test_"))
def test_published_cases_as_models(case, tmp_path):
    node, _ = published(case)
    wanted = dict(zip(node.outputs, by_reference(node), strict=True))
    compare(load(saved(frozen(node), tmp_path)), node, wanted)
    net = load(saved(frozen(node, ["Y_h"]), tmp_path))
    assert net.returns == "last"
    compare(net, node, wanted)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_nodes_in_float64(row, tmp_path):
    """Of all kinds and directions; the reference implementation is the judge."""
    node = row.node("float64", lengths=False)
    net = load(saved(frozen(node), tmp_path))
    assert net.backend.dtype_name == "float64"
    compare(net, node, dict(zip(node.outputs, by_reference(node), strict=True)))


def test_an_export_that_was_changed_since(tmp_path):
    file = tmp_path / "net.onnx"
    export(RNN(3, 4, 2, rng=0), file)
    model = onnx.load(file)
    tensor = next(t for t in model.graph.initializer if t.name == "readout.bias")
    tensor.CopyFrom(numpy_helper.from_array(np.ones(2, "f"), "readout.bias"))
    with pytest.raises(ValueError, match="was changed since xprnn exported it"):
        load(saved(model, tmp_path))


def lstm(**changes):
    """Return a small model of one LSTM, with changes to the node's attributes."""
    rng = np.random.default_rng(0)
    kind = changes.pop("kind", "LSTM")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    weights = {"W": rng.normal(size=(1, 4 * gates, 3)), "R": rng.normal(size=(1, 4 * gates, 4))}
    weights |= changes.pop("weights", {})
    node = helper.make_node(
        kind, ["x", "W", "R"], ["Y", "h"], name="it", **{"hidden_size": 4} | changes
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, "B", 4])],
        [numpy_helper.from_array(a.astype("f"), n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def following(*nodes, **weights):
    """Return the same with more nodes behind it."""
    model = lstm()
    squeeze = helper.make_node("Squeeze", ["Y", "one"], ["y"])
    weights["one"] = np.array([1])
    model.graph.node.extend([squeeze, *nodes])
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, None))
    return model


def without_opset():
    model = lstm()
    del model.opset_import[:]
    return model


def with_opset(version):
    model = lstm()
    model.opset_import[0].version = version
    return model


def external():
    model = lstm()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def damaged():
    model = lstm()
    model.graph.initializer[0].dims[1] = 17
    return model


def doubling():
    nodes = [helper.make_node("Concat", ["W2", "W2"], ["c0"], axis=0)]
    nodes += [helper.make_node("Concat", [f"c{k}"] * 2, [f"c{k + 1}"], axis=0) for k in range(60)]
    return following(*nodes, W2=np.ones(1000, "f"))


def other_domain():
    return following(helper.make_node("Relu", ["y"], ["out"], domain="com.microsoft"))


HOSTILE = {
    "relu": (
        lambda: following(helper.make_node("Relu", ["y"], ["out"], name="act")),
        "the node Relu 'act' has no place in a network of xprnn",
    ),
    "other domain": (other_domain, "the node Relu is of the domain 'com.microsoft'"),
    "old": (lambda: with_opset(6), "operator set 6, which is too old: expected 7 to "),
    "new": (lambda: with_opset(999), "operator set 999, which is newer than onnx "),
    "none": (without_opset, "names no operator set"),
    "external": (external, "the tensor 'W' is in another file"),
    "damaged": (damaged, "the tensor 'W' is damaged"),
    "doubling": (doubling, "need more than 4 times the file's memory"),
    "clip": (lambda: lstm(clip=3.0), "the node LSTM 'it' has clip = 3.0"),
    "coupled": (lambda: lstm(input_forget=1), "has input_forget = 1"),
    "activations": (
        lambda: lstm(activations=["HardSigmoid", "Tanh", "Tanh"]),
        "activations .*'HardSigmoid'.*: expected Sigmoid, Tanh, Tanh",
    ),
    "activation": (
        lambda: lstm(kind="RNN", activations=["Softsign"]),
        "activations .*'Softsign'.*: expected Tanh, Sigmoid, Relu",
    ),
    "direction": (lambda: lstm(direction="sideways"), "direction 'sideways': expected forward"),
    "shape": (
        lambda: lstm(hidden_size=5),
        r"W has shape \(1, 16, 3\): expected \(1, 20, 3\)",
    ),
    "two readouts": (
        lambda: following(
            helper.make_node("MatMul", ["y", "A"], ["z"]),
            helper.make_node("MatMul", ["z", "A"], ["out"], name="second"),
            A=np.eye(4, dtype="f"),
        ),
        "the node MatMul 'second' has no place",
    ),
    "readout's inputs": (
        lambda: following(helper.make_node("MatMul", ["y", "A"], ["out"]), A=np.ones((5, 2), "f")),
        "the readout has 5 inputs: expected 4",
    ),
    "out of order": (
        lambda: following(helper.make_node("MatMul", ["y", "A"], ["out"])),
        "the value 'A' is used before a node computes it",
    ),
    "no recurrent node": (
        lambda: helper.make_model(
            helper.make_graph(
                [helper.make_node("Identity", ["x"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3])],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
        ),
        "it has no node RNN, GRU or LSTM, but Identity",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_network(name, tmp_path):
    make, message = HOSTILE[name]
    file = saved(make(), tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        load(file)
    assert "model.onnx" in str(caught.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.onnx")
    for content in (b"", b"hello", b"\x08\x08", bytes(1000)):
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"a.onnx' is no ONNX file"):
            load(tmp_path / "a.onnx")


def test_arguments(tmp_path):
    file = saved(lstm(), tmp_path)
    with pytest.raises(ValueError, match="was not exported by xprnn"):
        load(file, cell=GRU())
    nan = saved(lstm(weights={"R": np.full((1, 16, 4), np.nan)}), tmp_path)
    with pytest.raises(ValueError, match="allow_nonfinite=True"):
        load(nan)
    assert np.isnan(load(nan, allow_nonfinite=True).parameters["weight_hh_l0"]).all()
    net = load(saved(lstm(), tmp_path), backend="array_api_strict", dtype="float64")
    assert (net.backend.name, net.backend.dtype_name) == ("array_api_strict", "float64")


def test_every_activation_of_ours(tmp_path):
    for theirs, ours in ACTIVATIONS.items():
        model = lstm(kind="RNN", activations=[theirs.lower()])
        assert load(saved(model, tmp_path)).cell == Elman(ours)


def test_changed_bytes_never_give_another_error(tmp_path):
    """A file in which something was changed is a network, or a ValueError."""
    file, rng = tmp_path / "net.onnx", np.random.default_rng(0)
    export(RNN(3, 4, 2, cell="gru", rng=0), file)
    for content in (file.read_bytes(), lstm().SerializeToString()):
        for _ in range(FILES):
            changed = bytearray(content)
            for place in rng.integers(len(content), size=rng.integers(1, 4)):
                changed[place] = rng.integers(256)
            end = len(changed) if rng.random() < 0.8 else rng.integers(len(changed))
            file.write_bytes(bytes(changed[:end]))
            with suppress(ValueError):
                load(file, allow_nonfinite=True)
