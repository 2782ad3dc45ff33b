"""The text of ``xprnn train text``: split, encoded and made into batches."""

import argparse
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator, HostArray
from xprnn.data import chunks
from xprnn.data.text import SPECIAL, Vocabulary, sentence_batches, sentences, streams, words


class Corpus(NamedTuple):
    """A text, ready for training.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the part to train on.
    training, held_out : chunks or sentence_batches
        The batches of both parts.
    tokens : (list of host array, list of host array)
        The tokens of both parts, in order.
    description : str
        One line about the size of the text.
    """

    vocabulary: Vocabulary
    training: chunks | sentence_batches
    held_out: chunks | sentence_batches
    tokens: tuple[list[HostArray], list[HostArray]]
    description: str


def corpus_of(
    text: str, share: float, args: argparse.Namespace, backend: Backend, rng: Generator
) -> Corpus:
    """Return a text as sentences of words or as streams of characters, as ``--level`` says.

    Parameters
    ----------
    text : str
    share : float
        The share of the text that is held out, at its end.
    args : argparse.Namespace
        With ``level``, ``vocabulary``, ``batch`` and ``chunk``.
    backend : Backend
    rng : Generator
        Shuffles sentences.

    Raises
    ------
    ValueError
        If the text is too short, or the vocabulary too large for it.
    """
    if args.level == "words":
        return _sentences(text, share, args, backend, rng)
    return _streams(text, share, args, backend)


def _sentences(
    text: str, share: float, args: argparse.Namespace, backend: Backend, rng: Generator
) -> Corpus:
    split = [words(sentence) for sentence in sentences(text)]
    split = [sentence for sentence in split if sentence]
    border = _border(len(split), share, "sentences")
    known = len({word for sentence in split[:border] for word in sentence}) + len(SPECIAL)
    _check_vocabulary(args.vocabulary, known, "words and signs")
    size = min(8000, known) if args.vocabulary is None else args.vocabulary
    vocabulary = Vocabulary.of(split[:border], size)
    encoded = [vocabulary.encode_sentence(sentence) for sentence in split]
    training, held_out = encoded[:border], encoded[border:]
    return Corpus(
        vocabulary,
        sentence_batches(training, args.batch, backend, rng=rng),
        sentence_batches(held_out, args.batch, backend, shuffle=False),
        (training, held_out),
        f"{sum(map(len, split))} words and signs in {len(split)} sentences, "
        f"the last {len(held_out)} held out; {len(vocabulary)} in the vocabulary",
    )


def _streams(text: str, share: float, args: argparse.Namespace, backend: Backend) -> Corpus:
    border = _border(len(text), share, "characters")
    for name, length in (("training", border), ("held-out", len(text) - border)):
        if length <= args.batch:
            advice = f"--batch {length - 1} or less, or " if length > 1 else ""
            raise ValueError(
                f"the {name} part has {length} characters, too few for {args.batch} streams: "
                f"expected {advice}a longer text"
            )
    _check_vocabulary(args.vocabulary, len(set(text[:border])) + len(SPECIAL), "characters")
    vocabulary = Vocabulary.of([text[:border]], args.vocabulary)
    training, held_out = vocabulary.encode(text[:border]), vocabulary.encode(text[border:])
    made = []
    for part in (training, held_out):
        x, target = streams(part, args.batch)
        made.append(chunks(backend.asarray(x), backend.asarray(target), args.chunk))
    return Corpus(
        vocabulary,
        made[0],
        made[1],
        ([training], [held_out]),
        f"{len(text)} characters, the last {len(held_out)} held out; "
        f"{len(vocabulary)} in the vocabulary",
    )


def _border(count: int, share: float, what: str) -> int:
    """Return the number of sentences or characters to train on."""
    border = round(count * (1 - share))
    if border < 1 or border >= count:
        rule = "sentences end at . ! ? or an empty line; without those, try --level characters"
        advice = f" ({rule})" if what == "sentences" else ""
        raise ValueError(
            f"the text has {count} {what if count != 1 else what.removesuffix('s')}: too few to "
            f"hold a part out{advice}"
        )
    return border


def _check_vocabulary(size: int | None, known: int, what: str) -> None:
    if size is not None and size > known:
        raise ValueError(
            f"--vocabulary is {size}, but the part that is trained on has {known - len(SPECIAL)} "
            f"different {what}: expected at most {known} ({len(SPECIAL)} are special)"
        )
