"""Sequences of unequal lengths: `pad` and `buckets`."""

import numpy as np
import pytest

from xprnn import RNN, fit
from xprnn.data import buckets, pad
from xprnn.losses import CrossEntropy

LENGTHS = [3, 9, 1, 4, 4, 8, 2]
RNG = np.random.default_rng(0)
REAL = [RNG.normal(size=(n, 2)) for n in LENGTHS]
TOKENS = [RNG.integers(0, 5, size=n) for n in LENGTHS]


def test_padding(harness):
    x, lengths = pad([harness.array(a) for a in REAL])
    assert lengths == tuple(LENGTHS)
    got = harness.host(x)
    assert got.shape == (9, 7, 2)
    for k, a in enumerate(REAL):
        assert np.array_equal(got[: len(a), k], a)
        assert not got[len(a) :, k].any()


def test_what_a_network_makes_of_it_is_what_it_makes_of_each():
    net = RNN(2, 3, cell="lstm", bidirectional=True, dtype="float64", rng=0)
    x, lengths = pad(REAL)
    together, _ = net(x, lengths=lengths)
    for k, a in enumerate(REAL):
        alone, _ = net(a[:, None])
        assert np.allclose(together[: len(a), k], alone[:, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["steps", "one each", "tokens", "labels"])
def test_every_sequence_once_an_epoch_with_its_target(harness, kind):
    host = harness.backend.to_numpy
    real = kind in ("steps", "one each")
    sequences = [harness.array(a) if real else harness.backend.asarray(a) for a in REAL]
    if not real:
        sequences = [harness.backend.asarray(a) for a in TOKENS]
    targets = {
        "steps": [a + a for a in sequences],
        "one each": [harness.array(a[0]) for a in REAL],
        "tokens": sequences,
        "labels": list(range(7)),
    }[kind]
    weights = [float(k) for k in range(7)]
    batches = buckets(sequences, targets, 3, weights=weights, rng=1)
    assert len(batches) == 3
    for _ in range(2):
        seen = []
        for x, target, _, lengths, w, _ in batches:
            assert max(lengths) == x.shape[0]
            for b, (steps, number) in enumerate(zip(lengths, host(w), strict=True)):
                k = int(number)
                seen.append(k)
                assert np.array_equal(host(x)[:steps, b], host(sequences[k]))
                got = host(target)
                want = targets[k] if kind == "labels" else host(targets[k])
                by_step = kind in ("steps", "tokens")
                assert np.array_equal(got[:steps, b] if by_step else got[b], want)
        assert sorted(seen) == list(range(7))


def test_little_padding():
    rng = np.random.default_rng(0)
    sequences = [np.zeros((n, 1)) for n in rng.integers(1, 100, size=500)]
    batches = buckets(sequences, [0] * 500, 20, rng=0)
    real = sum(sum(batch.lengths) for batch in batches)
    stored = sum(batch.x.shape[0] * batch.x.shape[1] for batch in batches)
    assert real / stored > 0.95


def test_the_order_is_seeded_and_goes_on_from_a_state():
    def epochs(batches, count):
        return [[batch.lengths for batch in batches] for _ in range(count)]

    first = buckets(REAL, [0] * 7, 2, rng=3)
    two = epochs(first, 2)
    assert two[0] != two[1]
    assert epochs(buckets(REAL, [0] * 7, 2, rng=3), 2) == two
    state = first.state()
    third = epochs(first, 1)
    first.restore(state)
    assert epochs(first, 1) == third
    plain = buckets(REAL, [0] * 7, 2, shuffle=False)
    assert [batch.lengths for batch in plain] == [(1, 2), (3, 4), (4, 8), (9,)]


def test_a_training_with_them():
    net = RNN(2, 8, 2, cell="gru", returns="last", dtype="float64", rng=0)
    labels = [int(a[:, 0].sum() > 0) for a in REAL]
    history = fit(net, buckets(REAL, labels, 3, rng=0), loss=CrossEntropy(), epochs=3)
    assert len(history.loss) == 3


BAD = [
    (lambda: pad([]), ValueError, "sequences is empty"),
    (
        lambda: pad([np.zeros((2, 2)), np.zeros((2, 3))]),
        ValueError,
        r"sequences\[1\] has shape \(2, 3\)",
    ),
    (
        lambda: pad([np.zeros((2, 2)), np.zeros((2, 2), "float32")]),
        TypeError,
        r"sequences\[1\] is .*float32.*one library and dtype",
    ),
    (lambda: pad([[1.0, 2.0]]), TypeError, "list"),
    (lambda: buckets(REAL, [0], 2), ValueError, "targets has 1 entries: expected .*7"),
    (lambda: buckets(REAL, [0] * 7, 0), ValueError, "size is 0"),
    (lambda: buckets(REAL, [0] * 7, 2, weights=[1]), ValueError, "weights has 1 entries"),
    (lambda: buckets(REAL, [0] * 7, 2, weights=[-1] * 7), ValueError, r"weights\[0\] is -1"),
    (
        lambda: buckets(REAL, REAL[::-1], 2),
        ValueError,
        r"targets\[0\] has shape \(2, 2\), and sequences\[0\] 3 steps",
    ),
]


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()
