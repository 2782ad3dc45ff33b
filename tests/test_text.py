"""Text: reading, splitting, vocabularies, batches."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xprnn import get_backend
from xprnn.data.text import (
    SPECIAL,
    Vocabulary,
    join_words,
    python_topics,
    read_text,
    sentence_batches,
    sentences,
    streams,
    words,
)

BACKEND = get_backend("numpy")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four…", ["One.", "Two!", "Three?", "Four…"]),
        ("No stop\nin this line", ["No stop\nin this line"]),
        ("A heading\n\nA sentence.", ["A heading", "A sentence."]),
        ("3.14 is one number.", ["3.14 is one number."]),
        ("他来了。她走了！", ["他来了。", "她走了！"]),
        ("  \n\n  ", []),
        (
            '"Stop!" he said. (It was late.) Then.',
            ['"Stop!"', "he said.", "(It was late.)", "Then."],
        ),
        ("‘So.’ “No?” [Yes…] «Oui!»", ["‘So.’", "“No?”", "[Yes…]", "«Oui!»"]),
        ("(He asked 'why?'). So.", ["(He asked 'why?').", "So."]),
        ('It ended. "Why?" he said.', ["It ended.", '"Why?"', "he said."]),
        ("「来了。」他说。", ["「来了。」", "他说。"]),
        ('"The end."', ['"The end."']),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


@given(st.text(st.sampled_from("ab .!?…\"'”’)]。」\n\r\t\u2028"), max_size=30))
@settings(derandomize=True, deadline=None)
def test_sentences_lose_nothing_but_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("It's a well-known fact.", ["it's", "a", "well-known", "fact", "."]),
        ("L’été, déjà!", ["l’été", ",", "déjà", "!"]),
        ("Ελλάδα № 7", ["ελλάδα", "№", "7"]),
        ("-- a", ["-", "-", "a"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("CAFE\u0301 cafe\u0301-bar", ["caf\u00e9", "caf\u00e9-bar"]),
        ("x\u0304y z\u0304’s", ["x\u0304y", "z\u0304’s"]),
        ("❤\ufe0f葛\U000e0100!", ["❤\ufe0f", "葛\U000e0100", "!"]),
        ("\u0301 a", ["\u0301", "a"]),
        ("", []),
    ],
)
def test_words(sentence, expected):
    assert words(sentence) == expected


def test_every_combining_mark_continues_a_word():
    codes = range(0x300, sys.maxunicode + 1)
    marks = [c for c in map(chr, codes) if unicodedata.category(c) in {"Mn", "Mc"}]
    sentence = unicodedata.normalize("NFC", f"x{''.join(marks)}y")
    assert words(sentence) == [sentence]


@given(st.text(max_size=80))
@settings(derandomize=True, deadline=None)
def test_words_lose_nothing_but_space(text):
    normal = unicodedata.normalize("NFC", text.lower())
    assert "".join(words(text)) == "".join(normal.split())


def test_join_words_is_readable():
    tokens = ["SENTENCE_START", *words("Well, it (mostly) works: 7 of 9!"), "SENTENCE_END"]
    assert join_words(tokens) == "well, it (mostly) works: 7 of 9!"


def test_read_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffπ is\r\nround".encode())
    assert read_text(file) == "π is\nround"
    file.write_bytes("café".encode("latin-1"))
    with pytest.raises(
        ValueError,
        match=r"line 1, byte 3 of the file: not utf-8; it reads 'café' with --encoding cp1252",
    ):
        read_text(file)
    assert read_text(file, "latin-1") == "café"
    with pytest.raises(
        ValueError, match=r"the encoding is 'klingon', which .*: --encoding utf-8\)"
    ):
        read_text(file, "klingon")
    file.write_bytes(b"\xef\xbb\xbfab\xff")
    for encoding in ("utf-8", "utf-8-sig"):
        with pytest.raises(ValueError, match="line 1, byte 5 of the file: not utf-8"):
            read_text(file, encoding)
    file.write_text(" \n")
    with pytest.raises(ValueError, match=r"a.txt' holds no text"):
        read_text(file)


def test_the_default_corpus_is_large():
    assert len(words(python_topics())) > 65_000


def test_vocabulary_orders_by_frequency():
    vocabulary = Vocabulary.of([["b", "a", "b"], ["c", "b", "a", "d"]])
    assert vocabulary.tokens == (*SPECIAL, "b", "a", "c", "d")
    assert Vocabulary.of([["b", "a", "b"], ["c"]], 5).tokens == (*SPECIAL, "b", "a")


def test_vocabulary_encodes_and_decodes():
    vocabulary = Vocabulary.of(["banana"])
    codes = vocabulary.encode("bax")
    assert codes.dtype == np.int64
    assert vocabulary.decode(codes) == ["b", "a", "UNKNOWN"]
    assert vocabulary.decode(vocabulary.encode_sentence("n")) == [
        "SENTENCE_START",
        "n",
        "SENTENCE_END",
    ]
    with pytest.raises(ValueError, match=r"indices\[1\] is 6: expected 0 to 5"):
        vocabulary.decode([0, 6])


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        ([], None, "the corpus is empty"),
        ([[], ["UNKNOWN"]], None, "the corpus is empty"),
        (["ab"], 6, "size is 6, but the corpus has 2 different tokens: expected at most 5"),
        (["ab"], 3, "size is 3: expected more than 3"),
        (["ab"], 0, "size is 0: expected an int of at least 1"),
    ],
)
def test_bad_vocabularies(texts, size, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.of(texts, size)


def encoded(*lengths):
    return [np.arange(length) + 10 * k for k, length in enumerate(lengths)]


def test_sentence_batches_pad_and_shift():
    (batch,) = sentence_batches(encoded(3, 4), 2, BACKEND, shuffle=False)
    assert batch.x.T.tolist() == [[0, 1, 0], [10, 11, 12]]
    assert batch.target.T.tolist() == [[1, 2, -1], [11, 12, 13]]


def test_sentence_batches_hold_every_sentence_once_and_change_their_order():
    batches = sentence_batches(encoded(*[5] * 7, *[9] * 4), 3, BACKEND, rng=0)
    assert len(batches) == 4
    epochs = [[batch.x[0].tolist() for batch in batches] for _ in range(2)]
    for epoch in epochs:
        assert sorted(k for batch in epoch for k in batch) == [10 * k for k in range(11)]
    assert epochs[0] != epochs[1]
    again = sentence_batches(encoded(*[5] * 7, *[9] * 4), 3, BACKEND, rng=0)
    assert [batch.x[0].tolist() for batch in again] == epochs[0]


def test_sentence_batches_put_similar_lengths_together():
    lengths = np.random.default_rng(0).integers(2, 40, 200)
    batches = sentence_batches(encoded(*lengths), 10, BACKEND, rng=0)
    padded = sum(int(np.sum(batch.target == -1)) for batch in batches)
    assert padded < 0.1 * lengths.sum()


def test_sentences_are_padded_to_twice_their_length_at_most():
    lengths = [2, 2, 3, 5, 9, 9, 10, 17, 200, 390, 399, 400]
    batches = sentence_batches(encoded(*lengths), 5, BACKEND, shuffle=False)
    shapes = [batch.x.shape for batch in batches]
    assert shapes == [(2, 3), (8, 3), (16, 2), (398, 3), (399, 1)]
    assert len(batches) == len(shapes)
    shuffled = sentence_batches(encoded(*lengths), 5, BACKEND, rng=0)
    assert sorted(batch.x.shape for batch in shuffled) == sorted(shapes)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("a", "b"), r"tokens begin with \('a', 'b'\): expected \('UNKNOWN', "),
        ((*SPECIAL, "a", "b", "a"), "tokens has 'a' 2 times: expected each once"),
    ],
)
def test_tokens_that_are_no_vocabulary(tokens, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(tokens)


def test_bad_sentences():
    with pytest.raises(ValueError, match=r"encoded is empty: expected at least one sentence"):
        sentence_batches([], 2, BACKEND)
    with pytest.raises(ValueError, match=r"encoded\[1\] has 1 tokens: expected at least two"):
        sentence_batches(encoded(3, 1), 2, BACKEND)


def test_streams():
    x, target = streams(np.arange(8), 2)
    assert x.T.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert target.T.tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(
        ValueError, match=r"3 tokens do not make 3 streams .*: expected at least 4 tok"
    ):
        streams(np.arange(3), 3)
