"""The language model's example: the original's trial, and the figures on its page."""

import math

import pytest

from tests.test_check_examples import example

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def language():
    return example("language_model")


@pytest.fixture(scope="module")
def data(language):
    return language.read(1500, 1000)


def test_the_trial_begins_and_falls_as_on_the_page(language, data):
    _, training, _ = data
    losses, seconds = language.trial(training[:100], epochs=3)
    assert losses[0] == pytest.approx(math.log(8000), abs=1e-3)
    assert losses[0] == pytest.approx(language.PUBLISHED[0], abs=1e-3)
    assert losses == pytest.approx([8.987, 8.934, 8.457, 6.267], abs=0.02)
    assert seconds > 0


@pytest.mark.full
def test_the_network_overtakes_the_3_gram(language, data):
    vocabulary, training, held_out = data
    _, history = language.train(vocabulary, training, held_out, hidden=100, epochs=4)
    counted = language.xprnn.data.NGram.fitted(training, 3, len(vocabulary))
    assert counted.loss(held_out) == pytest.approx(4.009, abs=5e-4)
    assert min(history.validation_loss) == pytest.approx(3.965, abs=0.05)
    assert min(history.validation_loss) < counted.loss(held_out)
