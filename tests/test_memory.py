"""What a training step of a language model may hold in memory."""

import tracemalloc

import numpy as np
import pytest

from xprnn import RNN, evaluate
from xprnn.cells import CELLS
from xprnn.data import Batch
from xprnn.engine.gradients import SparseGradient
from xprnn.optim import SGD

pytestmark = pytest.mark.usefixtures("without_pool")

V, H, T, B = 4000, 16, 32, 8
FLOAT = 4


def peak_of(work):
    """Return the most bytes that a call holds at once, beyond what was held before."""
    work()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lengths", [None, [T] * (B // 2) + [5] * (B // 2)])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_one_array_of_words_times_vocabulary_and_no_dense_one_hot_gradient(
    cell, window, lengths, monkeypatch
):
    # Blocks of a sixteenth of the logits, so that temporaries of a block don't hide a whole array.
    monkeypatch.setattr("xprnn.losses.cross_entropy.BLOCK", T * B * V // 16)
    tokens = np.random.default_rng(0).integers(0, V, (T + 1, B))
    net = RNN(V, H, V, cell=cell, rng=0)

    def gradient():
        x, target = tokens[:-1], tokens[1:]
        return net.value_and_grad(x, target, "cross_entropy", lengths=lengths, window=window)[1]

    logits, weights = FLOAT * T * B * V, FLOAT * V * H
    # The logits, a few temporaries of a block, the readout's gradient, and small things.
    assert peak_of(gradient) < 1.5 * logits + weights
    g = gradient().parameters["weight_ih_l0"]
    assert isinstance(g, SparseGradient)
    read = tokens[:-1] if lengths is None else [tokens[:n, k] for k, n in enumerate(lengths)]
    assert set(g.indices) >= set(np.concatenate(read))
    assert g.values.shape == (net.parameters["weight_ih_l0"].shape[0], len(g.indices))
    assert len(g.indices) <= T * B


def test_evaluating_holds_the_logits_once(monkeypatch):
    monkeypatch.setattr("xprnn.losses.cross_entropy.BLOCK", T * B * V // 16)
    tokens = np.random.default_rng(0).integers(0, V, (T + 1, B))
    net, lengths = RNN(V, H, V, rng=0), [T] * (B // 2) + [5] * (B // 2)
    batch = Batch(tokens[:-1], tokens[1:], lengths=lengths)
    assert peak_of(lambda: evaluate(net, batch, loss="cross_entropy")) < 1.5 * FLOAT * T * B * V


def test_an_update_copies_the_weights_once():
    tokens = np.random.default_rng(0).integers(0, V, (3, 1))
    net = RNN(V, H, 1, returns="last", rng=0)
    target = np.zeros((1, 1), dtype=np.float32)
    _, gradient = net.value_and_grad(tokens, target)
    sgd = SGD(0.1)
    state = sgd.init(net.parameters)
    peak = peak_of(lambda: sgd.update(gradient.parameters, state, net.parameters))
    assert peak < 1.2 * FLOAT * V * H
