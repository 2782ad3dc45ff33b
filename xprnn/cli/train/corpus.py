"""The text of ``xprnn train text``: split, encoded and made into batches."""

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.host.quoting import in_quotes, listed
from xprnn.data import chunks
from xprnn.data.on_disk import pieces, stream_chunks, tokens_of
from xprnn.data.segmentation import LEVELS, PARTS, has_marks, unspaced_script
from xprnn.data.text import SPECIAL, Vocabulary, sentence_batches, streams
from xprnn.models.language import LanguageModel

MOST_WORDS = 8000
"""The size of a vocabulary of words, if the text has more and no size is given."""
LONG = 100
"""Words in a sentence, on average, from which on a text is taken to have no sentence ends."""
COUNTED = 2_000_000
"""Tokens of a text on disk that the n-gram model is fitted to, and compared on."""
MANY = 0.05
"""The share of unknown tokens from which on examples of them are shown."""


@dataclass(frozen=True)
class Corpus:
    """A text, ready for training.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the part to train on, or a model's.
    level, unit : str
        See `LanguageModel`.
    training, held_out : chunks or sentence_batches
        The batches of both parts.
    tokens : (list of host array, list of host array)
        The tokens of both parts, in order.
    description : str
        One line about the size of the text.
    notes : list of str
        Lines about what was decided without being asked for, and about unknown tokens.
    """

    vocabulary: Vocabulary
    level: str
    unit: str
    training: chunks | sentence_batches | stream_chunks
    held_out: chunks | sentence_batches | stream_chunks
    tokens: tuple[list[HostArray], list[HostArray]]
    description: str
    notes: list[str] = field(default_factory=list)


def corpus_of(
    text: str,
    share: float,
    args: argparse.Namespace,
    backend: Backend,
    rng: Generator,
    model: LanguageModel | None = None,
) -> Corpus:
    """Return a text as sentences, lines or streams of tokens.

    Parameters
    ----------
    text : str
    share : float
        The share of the text that is held out, at its end.
    args : argparse.Namespace
        With ``level``, ``unit``, ``vocabulary``, ``batch`` and ``chunk``.
    backend : Backend
    rng : Generator
        Shuffles sentences.
    model : LanguageModel, optional
        One that is trained on: its vocabulary, level and unit are kept.

    Raises
    ------
    ImportError
        If the text's signs need a package that is not installed.
    ValueError
        If the text is too short, or the vocabulary too large for it.
    """
    notes: list[str] = []
    level = model.level if model else _level(text, args.level, notes)
    unit = model.unit if model else args.unit or ("stream" if level != "words" else "sentence")
    # A text is the sequence of its characters already, at a tenth of the memory of a list.
    splits = PARTS[unit](text)
    parts: list[Sequence[str]]
    parts = [part if level == "characters" else LEVELS[level](part) for part in splits]
    parts = [part for part in parts if part]
    count = sum(map(len, parts))
    if unit == "sentence" and not (model or args.unit) and count > LONG * max(2, len(parts)):
        notes.append(_without_ends(text, count, len(parts)))
        unit, parts = "stream", [[token for part in parts for token in part]]
    if unit == "stream":
        border = _stream_border(len(parts[0]), share, args.batch, _plural(level))
        split = [parts[0][:border]], [parts[0][border:]]
        held = f"the last {len(split[1][0])} held out"
    else:
        border = _border(len(parts), share, f"{unit}s")
        split = parts[:border], parts[border:]
        held = f"in {len(parts)} {unit}s, the last {len(split[1])} held out"
    vocabulary = model.vocabulary if model else _vocabulary(split[0], level, args.vocabulary)
    notes += _unknown(vocabulary, split, level, kept=model is not None)
    encode = vocabulary.encode if unit == "stream" else vocabulary.encode_sentence
    tokens = [encode(part) for part in split[0]], [encode(part) for part in split[1]]
    training: chunks | sentence_batches
    held_out: chunks | sentence_batches
    if unit == "stream":
        training, held_out = (_chunks(part[0], args, backend) for part in tokens)
    else:
        training = sentence_batches(tokens[0], args.batch, backend, rng=rng)
        held_out = sentence_batches(tokens[1], args.batch, backend, shuffle=False)
    description = f"{count} {_plural(level)}{' ' if unit != 'stream' else ', '}{held}"
    return Corpus(
        vocabulary,
        level,
        unit,
        training,
        held_out,
        tokens,
        f"{description}; {len(vocabulary)} in the vocabulary",
        notes,
    )


def streamed_corpus(
    files: Sequence[Path],
    share: float,
    args: argparse.Namespace,
    backend: Backend,
    model: LanguageModel | None = None,
) -> Corpus:
    """Return a text as streams of tokens without holding it in memory; see `corpus_of`."""
    text, notes = pieces(files, args.encoding), list[str]()
    first = next(text, "")
    if not first.strip():
        raise ValueError(f"{str(files[0])!r} holds no text, or begins with 4 million empty signs")
    level = model.level if model else _level(first, args.level, notes)
    unit = model.unit if model else "stream"

    def split(piece: str) -> Sequence[str]:
        return piece if level == "characters" else LEVELS[level](piece)

    def size(largest: int) -> int | None:
        return _size(largest, level, args.vocabulary)

    found = tokens_of(
        itertools.chain([first], text),
        split,
        lambda count: _stream_border(count, share, args.batch, _plural(level)),
        model.vocabulary if model else size,
    )
    parts = found.training, found.held_out
    names = "the part that is trained on", "the held-out part"
    for name, part, unknown in zip(names, parts, found.unknown, strict=True):
        if unknown == len(part):
            raise ValueError(_all_unknown(len(part), level, name))
        if unknown > (0 if model else MANY * len(part)):
            notes.append(
                f"{unknown} of {len(part)} {_plural(level)} in {name} ({unknown / len(part):.1%}) "
                "are not in the vocabulary and are read as UNKNOWN"
            )
    notes.append("read a piece at a time, as one stream; its tokens are on disk")
    if len(found.training) > COUNTED:
        notes.append(
            f"the 3-gram model counts the last {COUNTED} {_plural(level)} that are trained on, and "
            f"is compared on the first {COUNTED} of the held-out part"
        )
    training, held_out = (stream_chunks(part, args.batch, args.chunk, backend) for part in parts)
    count = len(found.training) + len(found.held_out)
    return Corpus(
        found.vocabulary,
        level,
        unit,
        training,
        held_out,
        ([np.array(parts[0][-COUNTED:])], [np.array(parts[1][:COUNTED])]),
        f"{count} {_plural(level)}, the last {len(found.held_out)} held out; "
        f"{len(found.vocabulary)} in the vocabulary",
        notes,
    )


def _level(text: str, asked: str | None, notes: list[str]) -> str:
    """Return the level that was asked for, or one that suits the script, which is told."""
    script = unspaced_script(text)
    if asked is not None or script is None:
        if asked == "words" and script is not None:
            notes.append(f"{script} has no spaces between words: every sign is read as a word")
        return asked or "words"
    level = "graphemes" if has_marks(text) else "characters"
    notes.append(
        f"{script} has no spaces between words: read by {level}, as --level {level} says "
        "(--level words reads sentence by sentence, every sign as a word)"
    )
    return level


def _without_ends(text: str, count: int, sentences: int) -> str:
    """Return a line about a text that is read as a stream, because it has hardly any sentences."""
    filled = [line for line in text.splitlines() if line.strip()]
    lines = ""
    if 2 * len(filled) > count / LONG:
        lines = f"; if each of its {len(filled)} lines is an item of its own: --unit line"
    ends = "no sentence ends" if sentences == 1 else f"only {sentences} sentences"
    return f"{ends} in {count} words: read as one stream, as --unit stream says{lines}"


def _vocabulary(parts: list[Sequence[str]], level: str, size: int | None) -> Vocabulary:
    """Return the vocabulary of the part that is trained on."""
    known = len({token for part in parts for token in part}) + len(SPECIAL)
    return Vocabulary.of(parts, _size(known, level, size))


def _size(known: int, level: str, size: int | None) -> int | None:
    """Return the size of a vocabulary, at most ``known``; None: all."""
    if size is not None and size > known:
        raise ValueError(
            f"--vocabulary is {size}, but the part that is trained on has {known - len(SPECIAL)} "
            f"different {_plural(level)}: expected at most {known} ({len(SPECIAL)} are special)"
        )
    if size is None and level == "words":
        size = min(MOST_WORDS, known)
    return size


def _all_unknown(count: int, level: str, name: str) -> str:
    return (
        f"the model's vocabulary has none of the {count} {_plural(level)} in {name}: "
        "expected a text of the kind that it was trained on"
    )


def _unknown(
    vocabulary: Vocabulary, split: Sequence[list[Sequence[str]]], level: str, *, kept: bool
) -> list[str]:
    """Return lines about tokens that are not in the vocabulary, if there are many."""
    found = []
    index = vocabulary.index
    for name, parts in zip(
        ("the part that is trained on", "the held-out part"), split, strict=True
    ):
        count = sum(map(len, parts))
        unknown = Counter(token for part in parts for token in part if token not in index)
        if unknown.total() == count:
            raise ValueError(_all_unknown(count, level, name))
        if unknown.total() > (0 if kept else MANY * count):
            most = listed((in_quotes(token) for token, _ in unknown.most_common(5)), 5)
            found.append(
                f"{unknown.total()} of {count} {_plural(level)} in {name} "
                f"({unknown.total() / count:.1%}) are not in the vocabulary and are read as "
                f"UNKNOWN, {len(unknown)} different ones: {most}"
                f"{', ...' * (len(unknown) > 5)}"
            )
    return found


def _chunks(tokens: HostArray, args: argparse.Namespace, backend: Backend) -> chunks:
    x, target = streams(tokens, args.batch)
    return chunks(backend.asarray(x), backend.asarray(target), args.chunk)


def _stream_border(count: int, share: float, batch: int, what: str) -> int:
    """Return the number of tokens of a stream to train on."""
    border = _border(count, share, what)
    for name, length in (("training", border), ("held-out", count - border)):
        if length <= batch:
            advice = f"--batch {length - 1} or less, or " if length > 1 else ""
            raise ValueError(
                f"the {name} part has {length} {what}, too few for {batch} streams: "
                f"expected {advice}a longer text"
            )
    return border


def _border(count: int, share: float, what: str) -> int:
    """Return the number of parts or tokens to train on."""
    border = round(count * (1 - share))
    if border < 1 or border >= count:
        rule = (
            "sentences end at . ! ? and their like, or at an empty line; without those, try "
            "--unit line, --unit stream or --level characters"
        )
        advice = f" ({rule})" if what == "sentences" else ""
        raise ValueError(
            f"the text has {count} {what if count != 1 else what.removesuffix('s')}: too few to "
            f"hold a part out{advice}"
        )
    return border


def _plural(level: str) -> str:
    """Return what the tokens of a level are called."""
    return "words and signs" if level == "words" else level
