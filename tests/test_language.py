"""Language models: prediction, sampling, saving."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xprnn import RNN, LanguageModel
from xprnn.data.text import Vocabulary
from xprnn.models.sampling import Choice, Stops


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
        ({"length": 3, "temperature": -0.1}, "temperature is -0.1: expected a number at least 0"),
        ({"length": 3, "top_k": 0}, "top_k is 0: expected an int of at least 1"),
        ({"length": 3, "top_p": 0}, "top_p is 0.0: expected a number above 0"),
        ({"length": 3, "top_p": 1.5}, "top_p is 1.5: expected a number above 0, at most 1"),
        ({"length": 3, "stop": ["x", ""]}, "stop has an empty text"),
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


def test_temperature_0_is_greedy_and_draws_nothing():
    made, rng = model("characters", dtype="float64"), np.random.default_rng(5)
    before = rng.bit_generator.state
    greedy = made.sample("a", 10, temperature=0, rng=rng)
    assert rng.bit_generator.state == before
    assert greedy == made.sample("a", 10, temperature=1e-9, rng=0)
    assert greedy == made.sample("a", 10, top_k=1, rng=3) == made.sample("a", 10, top_p=1e-9, rng=4)


def test_top_k_and_top_p_leave_out_the_improbable():
    p = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    logits = np.log(p) + 3
    for choice, kept in (
        (Choice(), {0, 1, 2, 3, 4}),
        (Choice(top_k=2), {1, 3}),
        (Choice(top_k=9), {0, 1, 2, 3, 4}),
        (Choice(top_p=0.4), {1}),
        (Choice(top_p=0.41), {1, 3}),
        (Choice(top_p=0.9), {0, 1, 3, 4}),
        (Choice(top_p=1.0), {0, 1, 2, 3, 4}),
        # Of the two that top_k leaves, 0.4 is 62 %.
        (Choice(top_k=2, top_p=0.6), {1}),
        (Choice(top_k=2, top_p=0.63), {1, 3}),
    ):
        rng = np.random.default_rng(0)
        drawn = Counter(choice(logits, rng) for _ in range(1000))
        assert set(drawn) == kept
        mass = sum(p[k] for k in kept)
        for k in kept:
            assert drawn[k] / 1000 == pytest.approx(p[k] / mass, abs=0.06)


def test_of_equally_probable_tokens_the_first_are_kept():
    rng = np.random.default_rng(0)
    # Many, because short arrays are sorted stably in any case.
    logits = np.tile([0.0, 1.0, 0.5], 300)
    assert {Choice(top_k=2)(logits, rng) for _ in range(50)} == {1, 4}


def test_a_stop_ends_the_text_before_it():
    made = model("characters", dtype="float64")
    whole = made.sample("ab", 60, rng=1)
    for stop in ("c", "ca", ("bb", "cc")):
        written = made.sample("ab", 60, stop=stop, rng=1)
        places = [whole.find(text, 2) for text in ((stop,) if isinstance(stop, str) else stop)]
        assert written == whole[: min(place for place in places if place >= 0)]
    assert made.sample("ab", 60, stop="x", rng=1) == whole


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 5), min_size=30),
)
@settings(derandomize=True, deadline=None)
def test_stops_do_not_depend_on_the_pieces(text, texts, sizes):
    stops, shown, at = Stops(texts), "", 0
    for size in sizes:
        if stops.found or at >= len(text):
            break
        shown += stops.passed(text[at : at + size])
        at += size
    if not stops.found:
        shown += stops.rest()
    # The stop that is complete first counts.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in texts if stop in text]
    if not ends:
        assert shown == text
    else:
        assert shown in {text[:start] for _, start in ends}
        assert len(shown) <= min(ends)[1] or shown == text[: min(start for _, start in ends)]


def test_the_stream_is_the_text_in_pieces():
    for level in ("words", "characters"):
        made = model(level, dtype="float64")
        pieces = list(made.stream("a b. c", 30, rng=2))
        assert "".join(pieces) == made.sample("a b. c", 30, rng=2)
        assert len(pieces) > 20
        assert pieces[0] == ("a b.\nc" if level == "words" else "a b. c")


def test_arguments_of_a_stream_are_checked_when_it_is_made():
    with pytest.raises(ValueError, match="top_k is -1"):
        model().stream("a", 3, top_k=-1)


def test_units():
    vocabulary = Vocabulary.of(["ab\n"])
    net = RNN(len(vocabulary), 4, len(vocabulary), rng=0, initializer="normal")
    names = LanguageModel(net, vocabulary, "characters", "line")
    written = names.sample("ab\nb", 50, rng=0)
    assert written.startswith("ab\nb")
    # The last line alone is read on.
    assert written == "ab\n" + names.sample("b", 50, rng=0)
    assert names.unit == "line"
    assert model("words").unit == "sentence"
    assert model("characters").unit == "stream"
    words = LanguageModel(net, vocabulary, "words", "stream")
    assert "\n" not in words.sample("a", 60, rng=0).replace(" \n", "")
    with pytest.raises(ValueError, match="unit is 'page': expected 'sentence' or 'line' or 'str"):
        LanguageModel(net, vocabulary, "words", "page")


def test_files_without_a_unit_are_as_they_were(tmp_path):
    for level, unit in (("words", "sentence"), ("characters", "stream")):
        made = model(level)
        made.save(tmp_path / "m.safetensors")
        net = RNN.load(tmp_path / "m.safetensors")
        assert net.metadata["unit"] == unit
        del net.metadata["unit"]
        assert LanguageModel.of(net).unit == unit


def test_a_sentence_without_spaces_is_joined_without_spaces():
    vocabulary = Vocabulary.of(["你好。"])
    net = RNN(len(vocabulary), 4, len(vocabulary), rng=0)
    written = LanguageModel(net, vocabulary, "words").sample("你好", 30, rng=0)
    assert written.startswith("你好")
    assert " " not in written
