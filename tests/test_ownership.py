"""What the library hands out is the caller's: nothing else changes when it is written to."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xprnn
from tests.harness import Harness, on_flavours
from xprnn import RNN, data, unroll, unroll_backward
from xprnn.engine.gradients import FactoredGradient, SparseGradient
from xprnn.optim import OPTIMIZERS, Averaged, ParameterGroups, clip_by_norm, clip_by_value

T, B, I, H, O = 5, 4, 3, 6, 2  # noqa: E741

CELLS = ("elman", "gru", "lstm", "minimal_gated")
NETWORKS = {
    "plain": {},
    "layers": {"layers": 2},
    "both": {"bidirectional": True},
    "both-layers": {"bidirectional": True, "layers": 2},
    "last": {"returns": "last"},
    "last-both": {"returns": "last", "bidirectional": True},
    "dropout": {"layers": 2, "dropout": 0.5, "recurrent_dropout": 0.5},
}

everywhere = on_flavours("numpy", "strict", "torch")


def host(harness: Harness, a: Any) -> np.ndarray:
    """Return the memory of an array, not a copy of it."""
    if harness.backend.name == "array_api_strict":
        return a._array
    return a.numpy() if harness.backend.name == "torch" else a


def arrays(name: str, a: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a nested result, each with its place."""
    if isinstance(a, dict):
        for key, value in a.items():
            yield from arrays(f"{name}[{key!r}]", value)
    elif isinstance(a, SparseGradient):
        yield from arrays(name, {"indices": a.indices, "values": a.values})
    elif isinstance(a, FactoredGradient):
        yield from arrays(name, {"left": a.left, "right": a.right})
    elif isinstance(a, xprnn.engine.results.NetworkTape | xprnn.Tape):
        inside = [a.x, a.layers] if hasattr(a, "layers") else [a.x, a.segments, a.recurrent]
        yield from arrays(f"{name}", inside)
    elif isinstance(a, tuple | list):
        names = getattr(a, "_fields", range(len(a)))
        for key, value in zip(names, a, strict=True):
            yield from arrays(f"{name}.{key}", value)
    elif hasattr(a, "shape") and getattr(a, "ndim", 0) and not isinstance(a, slice):
        yield name, a


def shared(harness: Harness, given: Any, results: Any) -> list[str]:
    """Return which arrays of a result share memory that can be written to with other arrays."""
    others = [(name, host(harness, a)) for name, a in arrays("given", given)]
    found = []
    for name, a in arrays("result", results):
        mine = host(harness, a)
        if mine.flags.writeable:
            found += [f"{name} is {other}" for other, b in others if np.shares_memory(mine, b)]
        others.append((name, mine))
    return found


def networks(harness: Harness, **options: Any) -> RNN:
    return RNN(I, H, backend=harness.backend, rng=0, **options)


@everywhere
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 3, 1, 5]])
@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_passes_of_a_network(harness, cell, options, outputs, lengths, recompute):
    net = networks(harness, cell=cell, output_size=outputs, **options)
    rng = np.random.default_rng(0)
    x = harness.array(rng.normal(size=(T, B, I)))
    state = tuple(
        harness.array(rng.normal(size=net.architecture.state_shape(B))) for _ in net.cell.state
    )
    given = [x, state, net.parameters]
    y, final = net(x, state, lengths)
    assert shared(harness, given, [y, final]) == []
    run = net.forward(x, state, lengths, rng=1, recompute=recompute)
    given.append(run.tape)
    assert shared(harness, given, [run.output, run.state]) == []
    d_output = harness.array(rng.normal(size=tuple(run.output.shape)))
    given += [d_output, run.output, run.state]
    for window in (None,) if recompute else (None, 1):
        gradient = net.backward(run, d_output, state, window)
        assert shared(harness, given, gradient) == []
    target = harness.array(rng.normal(size=tuple(run.output.shape)))
    result = net.value_and_grad(x, target, "squared_error", state, lengths, recompute=recompute)
    assert shared(harness, [*given, target], result) == []


@everywhere
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_sparse_gradients(harness, options):
    rng = np.random.default_rng(0)
    tokens = harness.backend.asarray(rng.integers(0, I, (T, B)))
    for embedding in (None, 2):
        net = networks(harness, embedding_size=embedding, **options)
        run = net.forward(tokens)
        d_output = harness.array(rng.normal(size=tuple(run.output.shape)))
        gradient = net.backward(run, d_output)
        assert shared(harness, [tokens, run.tape, d_output, net.parameters], gradient) == []


@everywhere
@pytest.mark.parametrize("lengths", [None, [5, 3, 1, 5]])
@pytest.mark.parametrize("cell", CELLS)
def test_the_functional_core(harness, cell, lengths):
    net, rng = networks(harness, cell=cell), np.random.default_rng(0)
    p = net.parameters
    units = (p["bias_hn_l0"],) if cell == "gru" else ()
    weights = xprnn.Weights(p["weight_ih_l0"], p["weight_hh_l0"], p["bias_l0"], units)
    x, dh = (harness.array(rng.normal(size=(T, B, n))) for n in (I, H))
    state = tuple(harness.array(rng.normal(size=(B, H))) for _ in net.cell.state)
    for recompute in (False, True):
        h, final, tape = unroll(cell, weights, x, state, lengths=lengths, recompute=recompute)
        assert shared(harness, [x, state, weights, tape], [h, final]) == []
        for window in (None,) if recompute else (None, 1):
            gradient = unroll_backward(cell, weights, tape, dh, state, window=window)
            assert shared(harness, [x, state, weights, tape, dh, h, final], gradient) == []


@everywhere
def test_optimizers_and_clipping(harness):
    net, rng = networks(harness, output_size=O), np.random.default_rng(0)
    x, target = (harness.array(rng.normal(size=(T, B, n))) for n in (I, O))
    dense = net.value_and_grad(x, target)[1].parameters
    tokens = harness.backend.asarray(rng.integers(0, I, (T, B)))
    sparse = net.value_and_grad(tokens, target)[1].parameters
    factored = dict(dense)
    d, h = (harness.array(rng.normal(size=(2, n))) for n in (O, H))
    factored["readout.weight"] = FactoredGradient(d, h)
    rules = [rule() for rule in OPTIMIZERS.values()]
    rules += [OPTIMIZERS["sgd"](momentum=0.5), OPTIMIZERS["rmsprop"](momentum=0.5, centered=True)]
    rules += [OPTIMIZERS["adam"](amsgrad=True), OPTIMIZERS["sgd"](weight_decay=0.1)]
    rules += [Averaged("adam"), ParameterGroups({"*_hh_*": "sgd"}, otherwise="adam")]
    for gradients in (dense, sparse, factored):
        for rule in rules:
            state = rule.init(net.parameters)
            assert shared(harness, net.parameters, state) == []
            first = rule.update(gradients, state, net.parameters)
            assert shared(harness, [gradients, state, net.parameters], first) == []
            second = rule.update(gradients, first[1], first[0])
            assert shared(harness, [gradients, first, state], second) == []
        for limit in (1e-3, 1e6):
            assert shared(harness, gradients, clip_by_norm(gradients, limit)) == []
            assert shared(harness, gradients, clip_by_value(gradients, limit)) == []


@everywhere
def test_networks(harness, tmp_path):
    net = networks(harness, output_size=O)
    net.save(tmp_path / "m.safetensors")
    loaded = RNN.load(tmp_path / "m.safetensors", backend=harness.backend)
    same = [loaded.parameters, net.to(harness.backend).parameters, xprnn.merge([net]).parameters]
    assert shared(harness, net.parameters, same) == []
    assert shared(harness, net.parameters, xprnn.merge([net, net]).parameters) == []
    assert all(host(harness, p).flags.writeable for p in loaded.parameters.values())


@everywhere
def test_state_dicts(harness):
    net = networks(harness, cell="gru", output_size=O)
    there = xprnn.interop.torch.to_state_dict(net)
    back = xprnn.interop.torch.from_state_dict(there, backend=harness.backend)
    memory = {k: host(harness, p) for k, p in net.parameters.items()}
    for a in there.values():
        assert not any(np.shares_memory(a, p) for p in memory.values())
        assert not any(np.shares_memory(a, host(harness, p)) for p in back.parameters.values())


@everywhere
def test_data(harness):
    rng = np.random.default_rng(0)
    x, target = (harness.array(rng.normal(size=(T, B, n))) for n in (I, O))
    for batches in (
        data.chunks(x, target, 2),
        data.chunks(x, target, T),
        data.minibatches(x, target, 3, shuffle=False),
        data.minibatches(x, target, B, shuffle=False),
        data.minibatches(x, target[-1, ...], B, shuffle=False),
        data.minibatches(x, target, 3, rng=0),
    ):
        assert shared(harness, [x, target], [batch[:2] for batch in batches]) == []


def test_data_on_the_host():
    values = np.arange(10.0)
    found = [*data.windows(values, 3), data.persistence(values)]
    found += data.text.streams(np.arange(10), 1)
    found += data.text.streams(np.arange(10), 2)
    for k, a in enumerate(found):
        assert not np.shares_memory(a, values)
        assert not any(np.shares_memory(a, b) for b in found[:k])


@everywhere
def test_a_training(harness):
    """Callbacks write into the weights; the best ones stay."""
    rng = np.random.default_rng(0)
    x, target = (harness.array(rng.normal(size=(T, B, n))) for n in (I, O))
    net, best = networks(harness, output_size=O), {}

    def spoil(net: RNN, record: Any) -> None:
        if record.epoch == 1:
            best.update({k: host(harness, p).copy() for k, p in net.parameters.items()})
        for p in net.parameters.values():
            p *= 3  # noqa: PLW2901

    for rule in ("sgd", Averaged("adam")):
        history = xprnn.fit(
            net,
            (x, target),
            validation=(x, target),
            patience=2,
            epochs=3,
            callbacks=[spoil],
            optimizer=rule,
        )
        assert history.best_epoch == 1
        for name, p in net.parameters.items():
            assert np.array_equal(host(harness, p), best[name])
        assert shared(harness, net.parameters, history.optimizer_state) == []
        best.clear()


@on_flavours("numpy", "strict", "torch", "jax")
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("cell", CELLS)
def test_writing_into_a_run_spoils_no_gradient(harness, cell, options):
    net = networks(harness, cell=cell, **options)
    rng = np.random.default_rng(0)
    x = harness.array(rng.normal(size=(T, B, I)))
    run = net.forward(x, rng=1)
    target = harness.array(rng.normal(size=tuple(run.output.shape)))
    d = run.output - target
    right = net.backward(run, d)
    for part in (run.output, *run.state):
        try:
            part -= part  # noqa: PLW2901
        except ValueError as error:
            assert "read-only" in str(error)  # noqa: PT017
    again = net.backward(run, d)
    for name, g in right.parameters.items():
        assert np.array_equal(harness.host(g), harness.host(again.parameters[name])), name


class Careless:
    """A loss of the user's own that writes into the output."""

    reduction = "sum"

    def check(self, shape: Any, target: Any, backend: Any) -> Any:
        return target

    def entries(self, target: Any, valid: Any = None) -> int:
        return int(target.size)

    def __call__(self, output: Any, target: Any, valid: Any = None) -> Any:
        return (output * output).sum()

    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        output -= target
        return (output * output).sum(), 2 * output


def test_a_loss_that_writes_into_the_output_is_refused():
    net, x = RNN(I, H, rng=0), np.ones((T, B, I), "f4")
    with pytest.raises(ValueError, match="read-only"):
        net.value_and_grad(x, np.ones((T, B, H), "f4"), Careless())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_a_kept_state_holds_its_own_numbers_only(cell, layers):
    x, net = np.zeros((1000, 1, 1), "f4"), RNN(1, 64, 1, cell=cell, layers=layers, rng=0)
    last = RNN(1, 64, cell=cell, layers=layers, returns="last", rng=0)
    kept = [*net(x)[1], *net.forward(x).state, *last(x)[1], last(x)[0], last.forward(x).output]
    # The states of all steps are 256,000 bytes.
    assert [held_by(a) for a in kept] == [a.nbytes for a in kept]


def held_by(a: Any) -> int:
    """Return how many bytes of memory an array keeps, those that it is a view of included."""
    found = 0
    while a is not None:
        found = max(found, getattr(a, "nbytes", 0))
        a = a.obj if isinstance(a, memoryview) else getattr(a, "base", None)
    return found
