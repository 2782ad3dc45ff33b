"""Gradient accumulation: several batches make one update, as one large batch would."""

import numpy as np
import pytest

from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import RNN, NonFiniteLossError, fit
from xprnn.data import Batch, chunks
from xprnn.engine.gradients import SparseGradient, trimmed
from xprnn.engine.network import loss_and_grad
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.optim import SGD, AdamW, Rprop, clip_by_norm, clip_by_value
from xprnn.training.accumulation import Accumulation

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 5, 9, 2))
TOKENS = RNG.integers(0, 12, (6, 9))
PADDED = TOKENS[1:].copy()
PADDED[3:, ::2] = -1
PADDED[:, 4] = -1
SIZES = [slice(0, 4), slice(4, 5), slice(5, 9)]
"""Sequences in batches of 4, 1 and 4; the single one consists of padding only."""


def floats():
    return RNN(2, 4, 2, cell="gru", dtype="float64", rng=0), X, Y, SquaredError


def tokens():
    return RNN(12, 4, 12, dtype="float64", rng=0), TOKENS[:-1], PADDED, CrossEntropy


@pytest.mark.parametrize("make", [floats, tokens])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_update_is_that_of_the_joined_batch(make, reduction):
    net, x, target, loss = make()
    twin = make()[0]
    pieces = [(x[:, these], target[:, these]) for these in SIZES]
    options = {"loss": loss(reduction), "optimizer": SGD(0.1, momentum=0.9), "epochs": 3}
    history = fit(net, pieces, accumulate=3, clip_value=0.05, clip_norm=0.1, **options)
    want = fit(twin, (x, target), clip_value=0.05, clip_norm=0.1, **options)
    assert_all_close(dict(net.parameters), dict(twin.parameters), FLOAT64)
    assert history.loss == pytest.approx(want.loss, rel=FLOAT64)
    for mine, theirs in zip(history.records, want.records, strict=True):
        assert mine.gradient_norm == pytest.approx(theirs.gradient_norm, rel=FLOAT64)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_dense_and_sparse_gradients_on_every_backend(harness, reduction):
    entries, rng = (7, 0, 2, 5), np.random.default_rng(3)
    columns = ([0, 3], [], [1, 3], [0])
    dense = rng.normal(size=(4, 2, 3)) * (np.array(entries) > 0)[:, None, None]
    sparse = [rng.normal(size=(2, len(these))) for these in columns]
    joined = Accumulation(SquaredError(reduction))
    for k, these in enumerate(columns):
        index = harness.backend.asarray(np.array(these, dtype="int64"))
        part = SparseGradient(index, harness.array(sparse[k]), (2, 5), axis=1)
        joined.add({"dense": harness.array(dense[k]), "sparse": part}, entries[k])
    assert (joined.batches, joined.entries) == (4, 14)
    weights = np.array(entries) / 14 if reduction == "mean" else np.ones(4)
    want = np.zeros((2, 5))
    for k, these in enumerate(columns):
        want[:, these] += weights[k] * sparse[k]
    total = joined.gradients["sparse"]
    assert isinstance(total, SparseGradient)
    assert harness.backend.to_numpy(trimmed(total).indices).tolist() == [0, 1, 3]
    assert_close(harness.host(total.to_dense()), want, FLOAT64)
    want = np.tensordot(weights, dense, 1)
    assert_close(harness.host(joined.gradients["dense"]), want, FLOAT64)


def test_what_is_left_over_at_the_end_of_an_epoch_is_used():
    x, y = X[:, :8], Y[:, :8]
    pairs = [(x[:, k : k + 1], y[:, k : k + 1]) for k in range(8)]
    net, twin = (RNN(2, 4, 2, dtype="float64", rng=0) for _ in range(2))
    fit(net, pairs, optimizer=SGD(0.1), accumulate=3, epochs=2)
    groups = [(x[:, a:b], y[:, a:b]) for a, b in ((0, 3), (3, 6), (6, 8))]
    fit(twin, groups, optimizer=SGD(0.1), epochs=2)
    assert_all_close(dict(net.parameters), dict(twin.parameters), FLOAT64)


def test_more_batches_than_there_are():
    net, twin = (RNN(2, 4, 2, dtype="float64", rng=0) for _ in range(2))
    pairs = [(X[:, k : k + 3], Y[:, k : k + 3]) for k in (0, 3, 6)]
    fit(net, pairs, optimizer=SGD(0.1), accumulate=99, epochs=2, clip_norm=0.1)
    fit(twin, (X, Y), optimizer=SGD(0.1), epochs=2, clip_norm=0.1)
    assert_all_close(dict(net.parameters), dict(twin.parameters), FLOAT64)


def test_one_batch_an_update_is_the_default_to_the_bit():
    nets = [RNN(2, 4, 2, dtype="float64", rng=0) for _ in range(2)]
    pairs = [(X[:, :4], Y[:, :4]), (X[:, 4:], Y[:, 4:])]
    fit(nets[0], pairs, optimizer=SGD(0.1), epochs=2)
    fit(nets[1], pairs, optimizer=SGD(0.1), epochs=2, accumulate=1)
    assert_all_close(dict(nets[0].parameters), dict(nets[1].parameters), 0.0)


def test_the_loop_written_out():
    net, twin = (RNN(2, 4, 2, dtype="float64", rng=0) for _ in range(2))
    pieces, rule = chunks(X, Y, 2), Rprop()
    history = fit(net, pieces, optimizer=rule, accumulate=2, clip_value=0.02, clip_norm=0.03)
    memory, state, norms = rule.init(twin.parameters), None, []
    group = []
    for k, piece in enumerate(pieces):
        _, gradient, state = loss_and_grad(twin, piece.x, piece.target, SquaredError(), state=state)
        group.append((gradient.parameters, piece.target.size))
        if k in (1, 2):
            entries = sum(size for _, size in group)
            total = {
                name: sum(g[name] * size for g, size in group) / entries for name in group[0][0]
            }
            clipped, norm = clip_by_norm(clip_by_value(total, 0.02), 0.03)
            twin.parameters, memory = rule.update(clipped, memory, twin.parameters)
            norms.append(float(norm))
            group = []
    assert_all_close(dict(net.parameters), dict(twin.parameters), FLOAT64)
    assert history.records[0].gradient_norm == pytest.approx(max(norms), rel=FLOAT64)


def test_half_precision_does_not_overflow():
    x, y = X.astype("float16"), (1e3 * Y).astype("float16")
    net = RNN(2, 4, 2, dtype="float16", rng=0)
    joined = Accumulation(SquaredError())
    for _ in range(3):
        _, gradient = net.value_and_grad(x, y)
        joined.add(gradient.parameters, 60_000)
    for name, g in gradient.parameters.items():
        np.testing.assert_allclose(joined.gradients[name], g, rtol=1e-2, atol=1e-3)


def test_batches_without_entries():
    none = Batch(np.ones((1, 0, 1)), np.zeros((1, 0, 1)))
    for pairs, wanted in (
        ([none, none, (ONE, ZERO)], 0.5),
        ([(ONE, ZERO), none], 0.5),
    ):
        net = scalar_net(1.0)
        fit(net, pairs, optimizer=SGD(0.5), accumulate=3)
        assert weight(net) == wanted


def test_a_batch_without_entries_adds_no_token():
    tokens = np.array([[2, 1]])
    part = {"lengths": [1]}, {"lengths": [0]}
    pieces = [Batch(tokens[:, :1], tokens[:, :1], **options) for options in part]
    rule = AdamW(0.1, weight_decay=0.5)
    nets = [RNN(3, 2, 3, embedding_size=2, dtype="float64", rng=0) for _ in range(3)]
    for net, order in zip(nets, ([0, 1], [1, 0], [0]), strict=True):
        given = [pieces[k] for k in order]
        fit(net, given, loss="cross_entropy", optimizer=rule, accumulate=len(order))
    for name, p in nets[2].parameters.items():
        assert np.array_equal(nets[0].parameters[name], p), name
        assert np.array_equal(nets[1].parameters[name], p), name


def test_a_loss_that_is_not_finite_is_still_where_it_was():
    net = scalar_net(1.0)
    pairs = [(ONE, ZERO), (ONE, ZERO), (1e200 * ONE, ZERO), (ONE, ZERO)]
    with np.errstate(over="ignore"), pytest.raises(NonFiniteLossError, match="epoch 1, batch 3: "):
        fit(net, pairs, optimizer=Scripted(2.0, 3.0), accumulate=2)
    assert weight(net) == 1.0


@pytest.mark.parametrize(
    ("accumulate", "error", "message"),
    [
        (0, ValueError, "accumulate is 0: expected an int of at least 1"),
        (1.5, TypeError, r"accumulate is 1\.5 \(float\): expected an int"),
    ],
)
def test_what_is_no_number_of_batches(accumulate, error, message):
    with pytest.raises(error, match=message):
        fit(scalar_net(1.0), (ONE, ZERO), accumulate=accumulate)
