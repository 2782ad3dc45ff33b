"""Long sequences: segments of time, and gradient checkpointing, which recomputes them."""

import math

import numpy as np
import pytest

import xprnn.engine.layer.layer
from tests.cases import CELLS, each_cell, row_of
from tests.closeness import (
    DIFFERENCES,
    DIFFERENCES_FLOOR,
    FLOAT64,
    assert_all_close,
)
from tests.harness import on_every_backend
from tests.judge import central_differences
from tests.passes import gradients_of, on_backend, on_numpy
from tests.stacks import DROPOUT, LENGTHS, SIZES, SOME, STACKS
from tests.test_memory import peak_of
from xprnn import RNN, fit, unroll, unroll_backward
from xprnn.engine.gradients import SparseGradient, dense
from xprnn.engine.layer import segments
from xprnn.engine.layer.segments import cut
from xprnn.optim import SGD

GRU, LSTM = (next(case for case in CELLS if case.id == name) for name in ("gru", "lstm"))


def pieces_of(length: int):
    """Return a `cut` into segments of this length; the last may be shorter."""

    def cut(steps, batch):
        return tuple(slice(k, min(k + length, steps)) for k in range(0, steps, length))

    return cut


@pytest.fixture
def short(monkeypatch):
    """Make every segment two steps long."""
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(2))


def bits(named):
    return {name: (np.shape(a), np.asarray(a).tobytes()) for name, a in named.items()}


def everything(run, gradients, host=np.asarray):
    """Return the bits of all results of a forward and a backward pass."""
    forward = {"output": host(run.output)}
    forward |= {f"final {k}": host(part) for k, part in enumerate(run.state)}
    return bits(forward | gradients)


@pytest.mark.parametrize("case", STACKS, ids=lambda case: case.id)
def test_every_bit_is_the_same(case, short):
    kept, again = (on_numpy(case, rng=1, recompute=recompute) for recompute in (False, True))
    layers = again[0].tape.layers
    assert all(len(tape.segments) == 3 and tape.recomputes for tape in layers)
    assert not any(tape.recomputes for tape in kept[0].tape.layers)
    assert everything(*again) == everything(*kept)


@on_every_backend(["elman-tanh", "lstm-everything"], on_jax=["lstm-everything"], argument="name")
def test_every_bit_is_the_same_on_every_backend(name, harness, short):
    dtype = "float32" if name == "elman-tanh" else "float64"
    case = row_of(name).but(**SIZES, **DROPOUT, layers=2, bidirectional=True, lengths=LENGTHS)
    at = harness.at(dtype)
    kept, again = (on_backend(case, at, rng=1, recompute=recompute) for recompute in (False, True))
    if harness.backend.library.segments:
        assert everything(*again, host=at.host) == everything(*kept, host=at.host)
    else:
        # Sums over all steps are in one piece there, unless the pieces are computed again.
        assert_all_close(again[1], kept[1], 1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_segments_change_nothing_but_roundings(case, monkeypatch):
    _, whole = on_numpy(case, rng=1)
    _, truncated = on_numpy(case, window=1, rng=1)
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(2))
    assert_all_close(on_numpy(case, rng=1)[1], whole, FLOAT64)
    assert_all_close(on_numpy(case, rng=1, window=1)[1], truncated, FLOAT64)


@each_cell
def test_against_finite_differences(case, short):
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = {name: array.copy() for name, array in case.parameters().items()}

    def goal() -> float:
        y, state = net(problem.x, problem.state)
        ends = zip(state, problem.d_state, strict=True)
        return float(np.sum(y * problem.d_output) + sum(np.sum(s * d) for s, d in ends))

    names = [*net.parameters, "input", *(f"state {name}" for name in case.cell.state)]
    moved = [*net.parameters.values(), problem.x, *problem.state]
    want = dict(zip(names, central_differences(goal, moved), strict=True))
    assert_all_close(on_numpy(case, recompute=True)[1], want, DIFFERENCES, DIFFERENCES_FLOOR)


@pytest.mark.parametrize("embedding", [None, 3])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_integers(embedding, lengths, monkeypatch):
    net = RNN(40, 4, 6, cell="gru", embedding_size=embedding, dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    # Some tokens come in several segments, a few only once.
    tokens = rng.integers(0, 9, (7, 3)) * rng.integers(1, 5, (7, 3))
    d_output = rng.normal(size=(7, 3, 6))
    lengths = lengths and (5, 7, 1)

    def gradients(recompute):
        run = net.forward(tokens, lengths=lengths, recompute=recompute)
        return net.backward(run, d_output).parameters

    whole = gradients(recompute=False)
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(2))
    kept, again = gradients(recompute=False), gradients(recompute=True)
    name = "embedding.weight" if embedding else "weight_ih_l0"
    assert isinstance(again[name], SparseGradient)
    assert again[name].indices.tolist() == whole[name].indices.tolist()
    hosts = [{key: dense(g) for key, g in found.items()} for found in (whole, kept, again)]
    assert bits(hosts[2]) == bits(hosts[1])
    assert_all_close(hosts[1], hosts[0], FLOAT64)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_long_sequences_as_they_are_cut(cell):
    """With the real segments, and odd sizes, for which products have the most kernels."""
    steps, batch = 2 * segments.ROWS // 3 + 5, 3
    assert len(cut(steps, batch)) == 2
    net = RNN(3, 7, 2, cell=cell, dtype="float32", rng=0)
    rng = np.random.default_rng(0)
    x, d_output = (rng.normal(size=(steps, batch, n)).astype("float32") for n in (3, 2))
    found = []
    for recompute in (False, True):
        run = net.forward(x, recompute=recompute)
        found.append(everything(run, gradients_of(net, run, d_output, None)))
    assert found[0] == found[1]


def test_how_a_sequence_is_cut():
    for steps, batch in [(1, 1), (5, 0), (4096, 1), (8191, 1), (8192, 1), (20, 5000), (10**5, 1)]:
        parts = cut(steps, batch)
        sizes = [part.stop - part.start for part in parts]
        borders = [0, *(part.stop for part in parts)]
        assert borders[-1] == steps
        assert [part.start for part in parts] == borders[:-1]
        assert max(sizes) - min(sizes) <= 1
        # Enough rows for the products, enough steps for what each loop copies once, and √T.
        least = max(math.sqrt(steps), segments.STEPS, segments.ROWS / max(batch, 1))
        assert len(parts) == 1 or min(sizes) >= least
        assert max(sizes) < 2 * least + 2
    assert [len(cut(steps, 1)) for steps in (8191, 8192)] == [1, 2]
    assert len(cut(10**6, 1000)) == 1000


@pytest.mark.usefixtures("without_pool")
@pytest.mark.parametrize(("cell", "kept"), [("elman", 2), ("lstm", 8)])
def test_memory(cell, kept, monkeypatch):
    steps, hidden = 2000, 64
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(50))
    net = RNN(2, hidden, 1, cell=cell, dtype="float32", rng=0)
    x = np.ones((steps, 1, 2), "float32")
    target = np.zeros((steps, 1, 1), "float32")
    one = 4 * steps * hidden  # bytes of all h
    peaks = [peak_of(lambda r=r: net.value_and_grad(x, target, recompute=r)) for r in (False, True)]
    # The h of all steps, and their gradient from the readout.
    assert peaks[1] < 3 * one
    assert peaks[0] > (kept + 1) * one
    tapes = [peak_of(lambda r=r: net.forward(x, recompute=r)) for r in (False, True)]
    assert tapes[1] < 2 * one
    assert tapes[0] > kept * one


def test_memory_of_layers(monkeypatch):
    """Every layer's h is in memory, but the gradient of only one layer's output at a time."""
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(50))
    net = RNN(2, 64, 1, layers=6, dtype="float32", rng=0)
    x, target = np.ones((2000, 1, 2), "float32"), np.zeros((2000, 1, 1), "float32")
    peak = peak_of(lambda: net.value_and_grad(x, target, recompute=True))
    assert peak < (6 + 4) * 4 * 2000 * 64


def test_inference_keeps_no_more_than_the_outputs(monkeypatch):
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(50))
    net = RNN(2, 64, 1, cell="lstm", dtype="float32", rng=0)
    x = np.ones((2000, 1, 2), "float32")
    assert peak_of(lambda: net(x)) < 1.5 * 4 * 2000 * 64


@pytest.mark.parametrize("changed", ["x", "weight_ih_l0", "weight_hh_l0", "bias_l0"])
def test_what_changes_in_between_is_found(changed, short):
    net, problem = LSTM.make(dtype="float64", rng=0), LSTM.problem()
    run = net.forward(problem.x, recompute=True)
    if changed == "x":
        problem.x[1, 2, 0] += 0.1
    else:
        net.parameters[changed] += 0.1  # in place: other arrays are refused anyway
    first = 0 if changed == "x" else 2
    with pytest.raises(
        ValueError,
        match=rf"computed again, steps {first} to {first + 1} end in another state than in the "
        "forward pass: with recompute=True neither x nor the parameters may change",
    ):
        net.backward(run, problem.d_output)


def test_what_changes_in_between_is_found_in_a_layer_alone(short):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    x = rng.normal(size=(5, 2, 2))
    h, _, tape = unroll("elman", weights, x, recompute=True)
    want = unroll_backward("elman", weights, unroll("elman", weights, x).tape, h)
    got = unroll_backward("elman", weights, tape, h)
    assert bits(dict(enumerate((*got.weights[:2], got.x, *got.state)))) == bits(
        dict(enumerate((*want.weights[:2], want.x, *want.state)))
    )
    x *= 2
    with pytest.raises(ValueError, match="steps 4 to 4 end in another state"):  # the first undone
        unroll_backward("elman", weights, tape, h)


def test_the_initial_state_may_change_in_between(short):
    net, problem = GRU.make(dtype="float64", rng=0), GRU.problem()
    want = net.backward(net.forward(problem.x, problem.state), problem.d_output)
    run = net.forward(problem.x, problem.state, recompute=True)
    problem.state[0][...] = 0
    got = net.backward(run, problem.d_output)
    assert bits(got.parameters) == bits(want.parameters)


def test_numbers_that_overflow_are_no_change(short):
    cell, weights = xprnn.cells.Elman("identity"), (np.ones((2, 1)), np.full((2, 2), -1e200))
    weights[1][0, 1] *= -1
    with np.errstate(all="ignore"):
        h, (final,), tape = unroll(cell, weights, np.ones((5, 1, 1)), recompute=True)
        assert np.isinf(h).any()
        assert np.isnan(final).any()
        unroll_backward(cell, weights, tape, h)


def test_training(short):
    case = LSTM.but(**SIZES, **DROPOUT, layers=2)
    problem, trained = case.problem(), []
    for recompute in (False, True):
        net = case.make(dtype="float64", rng=0)
        options = {"optimizer": SGD(0.1), "epochs": 3, "clip_norm": 1.0, "recompute": recompute}
        history = fit(net, (problem.x, problem.target), **options)
        trained.append((bits(net.parameters), history.loss))
    assert trained[0] == trained[1]


def uses(net, weights, x, y, **options):
    """Return every way to recompute."""
    return {
        "unroll": lambda: unroll("elman", weights, x, **options),
        "forward": lambda: net.forward(x, **options),
        "value_and_grad": lambda: net.value_and_grad(x, y, **options),
        "fit": lambda: fit(net, (x, y), **options),
    }


@pytest.fixture
def small():
    net, x, y = RNN(2, 3, 1, dtype="float64", rng=0), np.ones((4, 3, 2)), np.ones((4, 3, 1))
    return net, tuple(net.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0")), x, y


@pytest.mark.parametrize("way", ["unroll", "forward", "value_and_grad", "fit"])
@pytest.mark.parametrize("value", [1, "yes", None])
def test_recompute_is_a_truth_value(way, value, small):
    with pytest.raises(TypeError, match=r"recompute is .*: expected True or False"):
        uses(*small, recompute=value)[way]()


@pytest.mark.parametrize("way", ["value_and_grad", "fit"])
@pytest.mark.parametrize("window", [0, 2, 100])
def test_no_window_together_with_it(way, window, small):
    message = f"recompute is True, and window is {window}: .* expected one of the two"
    with pytest.raises(ValueError, match=message):
        uses(*small, recompute=True, window=window)[way]()


def test_no_window_afterwards(small):
    net, weights, x, y = small
    message = "window is 2, and {} was made with recompute=True: .* need the whole tape"
    with pytest.raises(ValueError, match=message.format("run")):
        net.backward(net.forward(x, recompute=True), y, window=2)
    h, _, tape = unroll("elman", weights, x, recompute=True)
    with pytest.raises(ValueError, match=message.format("tape")):
        unroll_backward("elman", weights, tape, h, window=2)
