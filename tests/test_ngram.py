"""The n-gram model."""

import math
from collections import Counter

import numpy as np
import pytest

from xprnn.data import NGram

TEXT = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 2])


def by_hand(text, size, history, token, length):
    """P(token | the last ``length`` tokens of history), by the formula."""
    if length < 0:
        return 1 / size
    lower = by_hand(text, size, history, token, length - 1)
    context = tuple(history[len(history) - length :])
    grams = Counter(tuple(text[k : k + length + 1]) for k in range(len(text) - length))
    after = {gram[-1]: n for gram, n in grams.items() if gram[:-1] == context}
    if not after:
        return lower
    total, kinds = sum(after.values()), len(after)
    return (after.get(token, 0) + kinds * lower) / (total + kinds)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_the_formula_s(order):
    model = NGram.fitted([TEXT], order, 5)
    text = np.array([0, 1, 2, 4, 0, 3])
    found = np.exp(model.log_probability(text))
    for k in range(1, len(text)):
        length = min(order - 1, k)
        expected = by_hand(TEXT.tolist(), 5, text[:k].tolist(), int(text[k]), length)
        assert found[k - 1] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order):
    model = NGram.fitted([TEXT, TEXT[::-1]], order, 5)
    for history in ([0, 1], [4, 4], [3, 0]):
        each = [model.log_probability(np.array([*history, token]))[-1] for token in range(5)]
        assert np.sum(np.exp(each)) == pytest.approx(1, rel=1e-13)


def test_loss_is_the_mean_over_all_texts():
    model = NGram.fitted([TEXT], 2, 5)
    parts = [TEXT[:4], TEXT[4:]]
    logs = np.concatenate([model.log_probability(part) for part in parts])
    assert model.loss(parts) == pytest.approx(-np.mean(logs), rel=1e-15)
    assert len(logs) == len(TEXT) - 2


def test_grams_do_not_reach_across_texts():
    apart = NGram.fitted([np.array([0, 1]), np.array([2, 3])], 2, 4)
    p = math.exp(apart.log_probability(np.array([1, 2]))[0])
    assert p == pytest.approx((1 + 4 / 4) / (4 + 4))  # 1 was never a context


def test_too_many_combinations():
    with pytest.raises(ValueError, match="9-grams of 8000 tokens do not fit in 64 bits"):
        NGram.fitted([TEXT], 9, 8000)


def test_texts_too_short_for_the_longest_grams():
    model = NGram.fitted([np.array([0, 1])], 3, 2)
    text = np.array([0, 1, 1])
    expected = [by_hand([0, 1], 2, text[:k].tolist(), int(text[k]), 1) for k in (1, 2)]
    assert model.loss([text]) == pytest.approx(-np.mean(np.log(expected)), rel=1e-13)


def test_bad_texts():
    model = NGram.fitted([np.arange(3)], 2, 4)
    with pytest.raises(ValueError, match="texts is empty"):
        NGram.fitted([], 2, 4)
    with pytest.raises(ValueError, match=r"texts\[1\]\[2\] is 4: expected 0 to 3"):
        NGram.fitted([np.arange(3), np.array([0, 1, 4])], 2, 4)
    with pytest.raises(ValueError, match=r"texts\[0\]\[1\] is -1: expected 0 to 3"):
        model.loss([np.array([0, -1])])
    for nothing in ([], [np.arange(1)], [np.arange(0)]):
        with pytest.raises(ValueError, match="no text has two tokens"):
            model.loss(nothing)
