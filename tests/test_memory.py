"""What a training step of a language model may hold in memory."""

import tracemalloc

import numpy as np

from xprnn import RNN
from xprnn.optim import SGD
from xprnn.sparse import SparseGradient

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


def test_one_array_of_words_times_vocabulary_and_no_dense_one_hot_gradient(monkeypatch):
    # Blocks of a sixteenth of the logits, so that temporaries of a block don't hide a whole array.
    monkeypatch.setattr("xprnn.losses.cross_entropy.BLOCK", T * B * V // 16)
    tokens = np.random.default_rng(0).integers(0, V, (T + 1, B))
    net = RNN(V, H, V, rng=0)

    def gradient():
        return net.value_and_grad(tokens[:-1], tokens[1:], loss="cross_entropy", window=4)[1]

    logits, weights = FLOAT * T * B * V, FLOAT * V * H
    # The logits, a few temporaries of a block, the readout's gradient, and small things.
    assert peak_of(gradient) < 1.5 * logits + weights
    g = gradient().parameters["weight_ih_l0"]
    assert isinstance(g, SparseGradient)
    assert g.values.shape == (H, len(np.unique(tokens[:-1])))


def test_an_update_copies_the_weights_once():
    tokens = np.random.default_rng(0).integers(0, V, (3, 1))
    net = RNN(V, H, 1, returns="last", rng=0)
    target = np.zeros((1, 1), dtype=np.float32)
    _, gradient = net.value_and_grad(tokens, target)
    sgd = SGD(0.1)
    state = sgd.init(net.parameters)
    peak = peak_of(lambda: sgd.update(gradient.parameters, state, net.parameters))
    assert peak < 1.2 * FLOAT * V * H
