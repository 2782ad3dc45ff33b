"""Training and evaluating with sequences of unequal lengths."""

import numpy as np
import pytest
import torch

from tests.closeness import FLOAT64, assert_close
from xprnn import RNN, Backend, evaluate, fit, get_backend
from xprnn.data import Batch, minibatches
from xprnn.optim import SGD

LENGTHS = [5, 2, 4, 1, 3, 5, 2]
BACKEND: Backend = get_backend("numpy", dtype="float64")


def problem(returns: str) -> tuple[RNN, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    net = RNN(2, 4, 3, cell="lstm", returns=returns, dtype="float64", rng=1)
    shape = (7, 3) if returns == "last" else (5, 7, 3)
    return net, rng.normal(size=(5, 7, 2)), rng.normal(size=shape)


@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_the_loss_is_over_the_steps_that_exist(returns):
    net, x, target = problem(returns)
    losses, counts = [], []
    for k, n in enumerate(LENGTHS):
        part = target[k : k + 1] if returns == "last" else target[:n, k : k + 1]
        losses.append(evaluate(net, (x[:n, k : k + 1], part)))
        counts.append(1 if returns == "last" else n)
    want = np.average(losses, weights=counts)
    whole = evaluate(net, [Batch(x, target, lengths=LENGTHS)])
    parts = evaluate(net, minibatches(x, target, 3, lengths=LENGTHS, shuffle=False))
    assert [whole, parts] == pytest.approx([want, want], rel=1e-12)


@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_accumulated_like_the_joined_batch(returns):
    found = []
    for accumulate, size in ((1, 7), (3, 3)):
        net, x, target = problem(returns)
        batches = minibatches(x, target, size, lengths=LENGTHS, shuffle=False)
        history = fit(net, batches, optimizer=SGD(0.1), epochs=2, accumulate=accumulate)
        found.append((net, history))
    (one, first), (other, second) = found
    for name, parameter in one.parameters.items():
        assert_close(other.parameters[name], parameter, FLOAT64, name)
    assert first.loss == pytest.approx(second.loss, rel=1e-12)


def test_shuffled_lengths_stay_with_their_sequences():
    x = np.broadcast_to(np.array(LENGTHS, dtype="float64")[:, None], (5, 7, 1))
    for batch in minibatches(x, x, 2, lengths=LENGTHS, rng=0):
        assert batch.lengths == batch.x[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 2], ValueError, "lengths has 2 entries: expected one per sequence, 7"),
        ([5, 5, 5, -1, 5, 5, 5], ValueError, r"lengths\[3\] is -1: expected 0 to 5"),
        ([5, 5, 5, 5, 5, 5, 6], ValueError, r"lengths\[6\] is 6: expected 0 to 5"),
        ([2.5] * 7, TypeError, r"lengths is \[2\.5, .*: expected integers"),
        (torch.tensor(LENGTHS) * 1.0, TypeError, "lengths is tensor.*: expected integers"),
    ],
    ids=str,
)
def test_lengths_are_checked_before_the_first_batch(lengths, error, message):
    x = np.zeros((5, 7, 1))
    with pytest.raises(error, match=message):
        minibatches(x, x, 2, lengths=lengths)


def test_whole_sequences_need_no_lengths():
    x = np.zeros((5, 7, 1))
    assert {batch.lengths for batch in minibatches(x, x, 2, lengths=[5] * 7)} == {None}


def test_lengths_are_part_of_a_batch():
    net, x, target = problem("sequence")
    message = r"batch 1 is tuple of 3: expected \(x, target\) or a Batch\(x, target, lengths="
    with pytest.raises(TypeError, match=message):
        fit(net, [(x, target, LENGTHS)])


def test_the_batch_that_does_not_fit_is_named():
    net, x, target = problem("sequence")
    good, bad = Batch(x, target), Batch(x, target, lengths=[9] * 7)
    with pytest.raises(ValueError, match=r"lengths\[0\] is 9") as caught:
        fit(net, [good, good, bad], epochs=2)
    assert caught.value.__notes__ == ["in epoch 1, batch 3"]
