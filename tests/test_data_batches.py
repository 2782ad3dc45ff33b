"""Batches: every sequence once per epoch, in seeded random order; chunks in their own order."""

import numpy as np
import pytest

from tests.optional import optional
from xprnn import RNN
from xprnn.data import Batch, chunks, minibatches, sine

torch = optional("torch")

X = np.arange(3 * 7 * 2.0).reshape(3, 7, 2)
TARGET = -X[..., :1]
LAST = TARGET[-1]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("target", [TARGET, LAST], ids=["sequence", "last"])
@pytest.mark.parametrize("size", [1, 3, 7, 99])
def test_every_sequence_comes_once_with_its_target(harness, size, target, shuffle):
    x, theirs = harness.array(X), harness.array(target)
    batches = minibatches(x, theirs, size, shuffle=shuffle, rng=0)
    found = list(batches)
    assert len(found) == len(batches) == -(-7 // size)
    assert all(isinstance(batch, Batch) and not batch.carry for batch in found)
    assert [batch.x.shape[1] for batch in found[:-1]] == [size] * (len(found) - 1)
    xs = np.concatenate([harness.host(batch.x) for batch in found], axis=1)
    targets = np.concatenate([harness.host(batch.target) for batch in found], axis=-2)
    order = np.argsort(xs[0, :, 0])
    assert np.array_equal(xs[:, order], X)
    assert np.array_equal(targets[..., order, :], target)
    if not shuffle:
        assert np.array_equal(order, range(7))


TOKENS = np.arange(21).reshape(3, 7)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("x", "target"),
    [(TOKENS, -TOKENS), (TOKENS, -TOKENS[-1]), (TOKENS, TARGET), (TOKENS, LAST), (X, TOKENS)],
    ids=["tokens", "last token", "floats", "last float", "tokens of floats"],
)
def test_integers_have_no_axis_of_features(harness, x, target, shuffle):
    batches = minibatches(harness.array(x), harness.array(target), 3, shuffle=shuffle, rng=0)
    found, to_numpy = list(batches), harness.backend.to_numpy
    xs = np.concatenate([to_numpy(batch.x) for batch in found], axis=1)
    order = np.argsort(xs[0].reshape(7, -1)[:, 0])
    assert np.array_equal(xs[:, order], x)
    axis = 1 if target.shape[0] == 3 else 0
    targets = np.concatenate([to_numpy(batch.target) for batch in found], axis=axis)
    assert np.array_equal(np.take(targets, order, axis=axis), target)
    assert shuffle == (order.tolist() != list(range(7)))


def test_chunks_of_integers(harness):
    pieces = list(chunks(harness.array(TOKENS), harness.array(-TOKENS), 2))
    to_numpy = harness.backend.to_numpy
    assert [to_numpy(piece.x).tolist() for piece in pieces] == [
        TOKENS[:2].tolist(),
        TOKENS[2:].tolist(),
    ]
    assert [to_numpy(piece.target).tolist() for piece in pieces] == [
        (-TOKENS[:2]).tolist(),
        (-TOKENS[2:]).tolist(),
    ]
    assert [piece.carry for piece in pieces] == [False, True]


def order_of(batches) -> list[float]:
    return [float(v) for batch in batches for v in batch.x[0, :, 0]]


def test_a_seed_decides_the_order():
    first, again = (minibatches(X, TARGET, 2, rng=5) for _ in range(2))
    epochs = [order_of(first) for _ in range(3)]
    assert [order_of(again) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1] != epochs[2]
    assert order_of(minibatches(X, TARGET, 2, rng=6)) != epochs[0]


def test_the_order_is_the_same_on_every_backend(harness):
    theirs = minibatches(harness.array(X), harness.array(TARGET), 2, rng=5)
    got = [harness.host(batch.x) for batch in theirs]
    want = [batch.x for batch in minibatches(X, TARGET, 2, rng=5)]
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_can_be_had_again(shuffle):
    batches = minibatches(X, TARGET, 2, rng=5, shuffle=shuffle)
    order_of(batches)
    state = batches.state()
    epochs = [order_of(batches) for _ in range(2)]
    other = minibatches(X, TARGET, 2, rng=6, shuffle=shuffle)
    for again in (batches, other):
        again.restore(state)
        assert [order_of(again) for _ in range(2)] == epochs
    assert (epochs[0] == epochs[1]) is not shuffle


def test_a_generator_of_another_kind_can_not_go_on():
    state = minibatches(X, TARGET, 2, rng=5).state()
    other = minibatches(X, TARGET, 2, rng=np.random.Generator(np.random.SFC64(0)))
    with pytest.raises(ValueError, match="the random generator is a SFC64: expected a PCG64"):
        other.restore(state)


def test_every_epoch_of_chunks_is_the_same():
    pieces = chunks(X, TARGET, 2)
    pieces.restore(pieces.state())
    assert len(list(pieces)) == 2


def test_a_generator_is_used_as_it_is():
    rng = np.random.default_rng(5)
    assert order_of(minibatches(X, TARGET, 2, rng=rng)) == order_of(
        minibatches(X, TARGET, 2, rng=5)
    )
    assert rng.bit_generator.state != np.random.default_rng(5).bit_generator.state


def test_the_data_stay_as_they_are():
    x, target = X.copy(), TARGET.copy()
    for batch in minibatches(x, target, 2, rng=0):
        assert not np.shares_memory(batch.x, x)
    assert np.array_equal(x, X)
    assert np.array_equal(target, TARGET)


@pytest.mark.parametrize(("steps", "lengths"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (9, [3])])
def test_chunks_follow_each_other(harness, steps, lengths):
    pieces = chunks(harness.array(X), harness.array(TARGET), steps)
    for _ in range(2):
        found = list(pieces)
        assert len(pieces) == len(found) == len(lengths)
        assert [piece.x.shape[0] for piece in found] == lengths
        assert [piece.carry for piece in found] == [False] + [True] * (len(lengths) - 1)
        assert np.array_equal(np.concatenate([harness.host(p.x) for p in found]), X)
        assert np.array_equal(np.concatenate([harness.host(p.target) for p in found]), TARGET)


def test_chunks_by_hand_are_the_whole():
    net, state, outputs = RNN(2, 4, dtype="float64", rng=0), None, []
    for piece in chunks(X / 40, TARGET, 2):
        output, state = net(piece.x, state if piece.carry else None)
        outputs.append(output)
    assert np.allclose(np.concatenate(outputs), net(X / 40)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: minibatches(X, TARGET, 0), ValueError, "size is 0: expected an int of at least 1"),
        (
            lambda: minibatches(X, TARGET, 2.0),
            TypeError,
            r"size is 2\.0 \(float\): expected",
        ),
        (lambda: minibatches(X, TARGET, 2, rng="1"), TypeError, r"rng is '1' \(str\): expected an"),
        (lambda: minibatches(X.tolist(), TARGET, 2), TypeError, "got an object of type list"),
        (lambda: minibatches(X, TARGET.tolist(), 2), TypeError, "got an object of type list"),
        (
            lambda: minibatches(X, torch.tensor(TARGET), 2),
            TypeError,
            r"x is numpy.ndarray of shape .*, target is torch.Tensor .*: expected one backend's",
        ),
        (
            lambda: minibatches(X[0], TARGET, 2),
            ValueError,
            r"x has shape \(7, 2\) and target \(3, 7, 1\): expected \(T, N, I\), and \(T, N, O\)",
        ),
        (lambda: minibatches(X, TARGET[0, 0], 2), ValueError, r"target \(1,\): expected \(T, N, I"),
        (
            lambda: minibatches(X, TARGET[:, 1:], 2),
            ValueError,
            r"x has shape \(3, 7, 2\) and target \(3, 6, 1\): expected the same numbers of steps T",
        ),
        (lambda: minibatches(X, TARGET[1:], 2), ValueError, r"target \(2, 7, 1\): expected the sa"),
        (
            lambda: minibatches(X, LAST[1:], 2),
            ValueError,
            r"target \(6, 1\): expected the same",
        ),
        (
            lambda: minibatches(X[:, :0], TARGET[:, :0], 2),
            ValueError,
            r"x has shape \(3, 0, 2\): expected at least one sequence",
        ),
        (lambda: minibatches(TOKENS[0], TOKENS, 2), ValueError, "integers without the last axis"),
        (lambda: minibatches(X.astype(int), TARGET, 2), ValueError, "integers without the last"),
        (lambda: minibatches(TOKENS, TOKENS[:, 1:], 2), ValueError, "the same numbers of steps T"),
        (lambda: chunks(TOKENS, TOKENS[0], 2), ValueError, r"target \(7,\): expected \(T, B, I\)"),
        (lambda: chunks(X, TARGET, -1), ValueError, "steps is -1: expected an int of at least 1"),
        (
            lambda: chunks(X, LAST, 2),
            ValueError,
            r"x has shape \(3, 7, 2\) and target \(7, 1\): expected \(T, B, I\) and \(T, B, O\)",
        ),
        (lambda: chunks(X[:0], TARGET[:0], 2), ValueError, r"x has shape \(0, 7, 2\) and target"),
    ],
)
def test_what_does_not_belong_together(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_sine_of_the_lecture():
    x, y = sine(rng=0)
    assert x.shape == y.shape == (200, 1, 1)
    assert x.ravel() == pytest.approx(-10 + 0.1 * np.arange(200), abs=1e-12)
    noise = (y - np.sin(x)).ravel()
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    want = 0.1 * np.random.default_rng(0).normal(size=200)
    assert np.allclose(noise, want, rtol=0, atol=1e-15)


def test_a_sine_without_noise():
    x, y = sine(0, 2, 0.5, noise=0)
    assert x.ravel().tolist() == [0, 0.5, 1, 1.5]
    assert np.array_equal(y, np.sin(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 0}, ValueError, r"step is 0\.0: expected a number above 0"),
        ({"step": "1"}, TypeError, r"step is '1' \(str\): expected a number"),
        (
            {"start": 3, "stop": 3},
            ValueError,
            "start is 3 and stop is 3: expected start below",
        ),
        ({"stop": float("inf")}, ValueError, "stop is inf: expected a finite number"),
        ({"noise": -1}, ValueError, r"noise is -1\.0: expected a number at least 0"),
    ],
)
def test_what_is_no_sine(options, error, message):
    with pytest.raises(error, match=message):
        sine(**options)
