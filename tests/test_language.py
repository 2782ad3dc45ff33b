"""Language models: prediction, sampling, saving."""

import numpy as np
import pytest

from xprnn import RNN, LanguageModel
from xprnn.data.text import Vocabulary


def model(level="words", **options):
    vocabulary = Vocabulary.of([["a", "b", "c", "."]])
    size = len(vocabulary)
    net = RNN(size, 5, size, rng=0, initializer="normal", **options)
    return LanguageModel(net, vocabulary, level)


def always(token, level="words"):
    """A model that nearly always predicts one token."""
    made = model(level)
    bias = np.zeros(len(made.vocabulary), dtype=np.float32)
    bias[made.vocabulary.index[token]] = 50
    made.net.parameters["readout.bias"] = bias
    return made


def test_predict_is_the_most_probable_token():
    made = model(dtype="float64")
    tokens = ["a", "c", "c"]
    logits, _ = made.net(made.vocabulary.encode(tokens)[:, None])
    expected = [made.vocabulary.tokens[k] for k in logits[:, 0, :].argmax(axis=1)]
    assert made.predict(tokens) == expected
    with pytest.raises(ValueError, match="there are no tokens"):
        made.predict([])


def test_sample_follows_the_model():
    assert always("b").sample("a c", 3, rng=0) == "a c b b b"
    assert always("b", "characters").sample("ac", 3, rng=0) == "acbbb"
    assert always("SENTENCE_END").sample("a", 2, rng=0) == "a\n\n"


def test_of_several_sentences_the_last_goes_on():
    made = model(dtype="float64")
    assert made.sample("c b. A b. a", 9, rng=2) == "c b.\na b.\n" + made.sample("a", 9, rng=2)


@pytest.mark.parametrize("token", ["UNKNOWN", "SENTENCE_START"])
def test_what_is_never_written(token):
    assert token not in always(token).sample("", 20, rng=0)


def test_characters_never_end_a_sentence():
    assert "SENTENCE" not in always("SENTENCE_END", "characters").sample("a", 20, rng=0)


def test_sample_reads_the_state_on():
    """Sampling one by one is the same as choosing from the whole prefix each time."""
    made = model("characters", dtype="float64")
    rng = np.random.default_rng(3)
    tokens = ["a"]
    for _ in range(8):
        logits = made.net(made.vocabulary.encode(tokens)[:, None])[0][-1, 0].copy()
        logits[:3] = -np.inf
        p = np.exp(logits - logits.max())
        tokens.append(made.vocabulary.tokens[rng.choice(len(p), p=p / p.sum())])
    assert made.sample("a", 8, rng=3) == "".join(tokens)


def test_the_same_seed_gives_the_same_text():
    made = model()
    texts = [made.sample("a", 40, rng=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_low_temperature_takes_the_most_probable():
    made = model("characters", dtype="float64")
    greedy = made.sample("a", 10, temperature=1e-6, rng=0)
    assert greedy == made.sample("a", 10, temperature=1e-6, rng=1)


@pytest.mark.parametrize("temperature", [1e-310, 5e-324])
def test_the_lowest_temperatures_take_the_most_probable_too(temperature):
    made = model("characters", dtype="float64")
    greedy = made.sample("a", 10, temperature=1e-6, rng=0)
    assert made.sample("a", 10, temperature=temperature, rng=0) == greedy


def test_unknown_tokens_are_named_once():
    assert model().unknown("a x y x") == ["x", "y"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": 3, "temperature": 0}, "temperature is 0"),
        ({"length": 3, "temperature": float("nan")}, "temperature is nan"),
    ],
)
def test_bad_samples(options, message):
    with pytest.raises(ValueError, match=message):
        model().sample("a", **options)


def test_saved_and_loaded(tmp_path):
    made = model("characters")
    made.save(tmp_path / "m.safetensors", seed=5)
    net = RNN.load(tmp_path / "m.safetensors")
    again = LanguageModel.of(net)
    assert again.vocabulary == made.vocabulary
    assert again.level == "characters"
    assert net.metadata["seed"] == 5
    assert again.sample("ab", 20, rng=0) == made.sample("ab", 20, rng=0)


def test_another_network_is_no_language_model():
    with pytest.raises(ValueError, match=r"no language model \(its task: None\)"):
        LanguageModel.of(RNN(2, 2))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (RNN(6, 2, 7), "has 6 inputs, 7 outputs .*: expected 7, 7 and 'sequence', for a"),
        (RNN(7, 2), "has 7 inputs, None outputs"),
        (RNN(7, 2, 7, returns="last"), "and returns 'last': expected 7, 7 and 'sequence'"),
    ],
)
def test_a_network_that_does_not_fit_the_vocabulary(net, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(net, Vocabulary.of(["abcd"]), "words")


def test_a_level_that_there_is_not():
    with pytest.raises(ValueError, match="level is 'letters': expected 'words' or 'characters'"):
        model("letters")
