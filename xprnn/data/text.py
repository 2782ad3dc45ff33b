"""Text: sentences, tokens, vocabularies, and the batches that language models are trained on."""

import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.host import (
    HostArray,
    Seed,
    generator,
    np,
    random_state,
    restore_random,
)
from xprnn.data.batches import Batch
from xprnn.data.decoding import decoded
from xprnn.losses import PADDING

UNKNOWN, SENTENCE_START, SENTENCE_END = "UNKNOWN", "SENTENCE_START", "SENTENCE_END"
SPECIAL = (UNKNOWN, SENTENCE_START, SENTENCE_END)

# A full stop, question or exclamation mark and the quotes and brackets closed behind it, with white
# space behind them (not needed where a script has none); or an empty line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’“»«)\]}]*(?=\s)|[。！？][”’」』）]*|\n\s*\n")


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Read a text file.

    Raises
    ------
    OSError
        If it can't be read.
    ValueError
        If there is no such encoding, the file is not in it (the first wrong byte is named), or it
        holds nothing but space.
    """
    file = Path(path)
    text = decoded(file, encoding)
    if not text.strip():
        raise ValueError(f"{str(file)!r} holds no text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def python_topics() -> str:
    """Return the language reference that comes with every CPython, ``pydoc_data.topics``.

    Some 65,000 words of English technical prose; its licence is Python's.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def sentences(text: str) -> list[str]:
    """Split a text into sentences, by a plain rule.

    A sentence ends behind ``. ! ? …`` if white space follows, behind ``。 ！ ？``, and at empty
    lines.  Quotes and brackets that are closed right behind its end belong to it; nothing but white
    space is left out.  Abbreviations end sentences too.

    Examples
    --------
    >>> sentences("Is it? (It is.)  'Yes!' she said.")
    ['Is it?', '(It is.)', "'Yes!'", 'she said.']
    """
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(ends))
    return [part for part in parts if part]


def words(sentence: str) -> list[str]:
    """Split a sentence into lower-case words and signs, by a plain rule, in any script.

    A word is a run of letters, digits and underscores, with apostrophes and hyphens inside; every
    other sign is a token of its own.  A combining mark belongs to what it stands on.  The tokens
    are in Unicode's normal form NFC, so an é is the same however it was written.

    Examples
    --------
    >>> words("Don't panic: Ωμέγα-3 costs 4.50 €.")
    ["don't", 'panic', ':', 'ωμέγα-3', 'costs', '4', '.', '50', '€', '.']
    """
    lower = sentence.lower()
    if not lower.isascii():
        lower = unicodedata.normalize("NFC", lower)
    return _token(ascii_=lower.isascii()).findall(lower)


@cache
def _token(*, ascii_: bool) -> re.Pattern[str]:
    """Return the pattern of a word or sign; that of all scripts is made if needed."""
    if ascii_:
        return re.compile(r"\w+(?:['\-]\w+)*|[^\w\s]")
    # Of the planes above, only the one of the variation selectors has marks.
    codes = chain(range(0x300, 0x20000), range(0xE0000, 0xE1000))
    mark = "".join(c for c in map(chr, codes) if unicodedata.category(c) in {"Mn", "Mc"})
    return re.compile(rf"\w[\w{mark}]*(?:['’\-]\w[\w{mark}]*)*|[^\w\s][{mark}]*")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and their indices.

    Attributes
    ----------
    tokens : tuple of str
        By index: `UNKNOWN`, `SENTENCE_START`, `SENTENCE_END`, then the others, most frequent first.
    """

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[Iterable[str]], size: int | None = None) -> "Vocabulary":
        """Return the vocabulary of the most frequent tokens.

        Parameters
        ----------
        texts : iterable of iterables of str
            Tokenised sentences, or texts (iterables of characters).
        size : int, optional
            How many tokens, the three special ones included; None: all.  Of equally frequent ones
            those that come first in the text are taken.

        Raises
        ------
        ValueError
            If there are no tokens, or fewer than asked for.
        """
        counts = Counter(token for text in texts for token in text)
        for token in SPECIAL:
            counts.pop(token, None)
        if not counts:
            raise ValueError("the corpus is empty: expected at least one token")
        if size is not None:
            size = checks.positive_int("size", size)
            if size <= len(SPECIAL):
                raise ValueError(f"size is {size}: expected more than {len(SPECIAL)}, {SPECIAL}")
            if size > len(counts) + len(SPECIAL):
                raise ValueError(
                    f"size is {size}, but the corpus has {len(counts)} different tokens: "
                    f"expected at most {len(counts) + len(SPECIAL)} ({len(SPECIAL)} are special)"
                )
            size -= len(SPECIAL)
        return cls((*SPECIAL, *(token for token, _ in counts.most_common(size))))

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of every token."""
        return {token: k for k, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> HostArray:
        """Return the tokens' indices (N,), int64; unknown ones get that of `UNKNOWN`."""
        index = self.index
        return np.array([index.get(token, 0) for token in tokens], dtype=np.int64)

    def encode_sentence(self, tokens: Iterable[str]) -> HostArray:
        """Return the indices of a sentence between `SENTENCE_START` and `SENTENCE_END`."""
        return self.encode((SENTENCE_START, *tokens, SENTENCE_END))

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Return the tokens of indices.

        Raises
        ------
        ValueError
            If an index is out of range; its position is named.
        """
        found = []
        for position, k in enumerate(indices):
            if not 0 <= k < len(self.tokens):
                raise ValueError(
                    f"indices[{position}] is {k}: expected 0 to {len(self.tokens) - 1}"
                )
            found.append(self.tokens[k])
        return found

    def to_json(self) -> str:
        """Return the tokens as JSON text."""
        return json.dumps(self.tokens, ensure_ascii=False)


def join_words(tokens: Sequence[str]) -> str:
    """Join words and signs to readable text; the special tokens are left out.

    Examples
    --------
    >>> join_words(["well", ",", "it", "(", "mostly", ")", "works", "."])
    'well, it (mostly) works.'
    """
    text = " ".join(token for token in tokens if token not in SPECIAL)
    text = re.sub(r" (?=[.,;:!?…)\]}’”%])", "", text)
    return re.sub(r"(?<=[(\[{“‘]) ", "", text)


class sentence_batches:  # noqa: N801
    """Sentences of similar lengths, padded to the longest, in a new random order every epoch.

    x is each sentence without its last token, the target without its first; behind a sentence's end
    the target is -1, which the loss leaves out.

    Parameters
    ----------
    encoded : sequence of host array
        Sentences of at least two tokens, as `Vocabulary.encode_sentence` makes them.
    size : int
        Sentences a batch.
    backend : Backend
    rng : int, numpy.random.Generator or None
        Where the order is drawn from; sentences of one length are batched with random others.
    shuffle : bool
        False: always in the order of their lengths.

    Raises
    ------
    ValueError
        If there are no sentences, or one has a single token.
    """

    def __init__(
        self,
        encoded: Sequence[HostArray],
        size: int,
        backend: Backend,
        *,
        rng: Seed = None,
        shuffle: bool = True,
    ) -> None:
        if not len(encoded):
            raise ValueError("encoded is empty: expected at least one sentence")
        for k, sentence in enumerate(encoded):
            if len(sentence) < 2:
                raise ValueError(
                    f"encoded[{k}] has {len(sentence)} tokens: expected at least two, one to read "
                    "and one to predict"
                )
        self.encoded, self.backend, self.shuffle = list(encoded), backend, shuffle
        self.size = checks.positive_int("size", size)
        self._rng = generator(rng)

    def __len__(self) -> int:
        return math.ceil(len(self.encoded) / self.size)

    def state(self) -> dict[str, Any]:
        """Return what the next epoch's order depends on: where the random generator is."""
        return random_state(self._rng)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Make the next epoch's order the one that was to come when `state` was asked."""
        restore_random(self._rng, state)

    def __iter__(self) -> Iterator[Batch]:
        lengths = np.array([len(sentence) for sentence in self.encoded])
        order = self._rng.permutation(len(lengths)) if self.shuffle else np.arange(len(lengths))
        order = order[np.argsort(lengths[order], kind="stable")]
        starts = np.arange(0, len(order), self.size)
        for start in self._rng.permutation(starts) if self.shuffle else starts:
            yield self._padded([self.encoded[k] for k in order[start : start + self.size]])

    def _padded(self, batch: list[HostArray]) -> Batch:
        steps = max(len(sentence) for sentence in batch) - 1
        x = np.zeros((steps, len(batch)), dtype=np.int64)
        target = np.full((steps, len(batch)), PADDING, dtype=np.int64)
        for k, sentence in enumerate(batch):
            x[: len(sentence) - 1, k] = sentence[:-1]
            target[: len(sentence) - 1, k] = sentence[1:]
        return Batch(self.backend.asarray(x), self.backend.asarray(target))


def streams(indices: HostArray, count: int) -> tuple[HostArray, HostArray]:
    """Cut a long sequence of tokens into ``count`` parallel ones, for `xprnn.data.chunks`.

    Parameters
    ----------
    indices : host array of int, (N,)
    count : int
        B; every stream has (N-1) // B steps, what is over at the end is left out.

    Returns
    -------
    x, target : host array, (T, B)
        The target of a step is the token after it.

    Raises
    ------
    ValueError
        If there are too few tokens.
    """
    count = checks.positive_int("count", count)
    steps = (len(indices) - 1) // count
    if steps < 1:
        raise ValueError(
            f"{len(indices)} tokens do not make {count} streams of a step and more: expected at "
            f"least {count + 1} tokens, or fewer streams"
        )
    x = indices[: steps * count].reshape(count, steps).T
    target = indices[1 : steps * count + 1].reshape(count, steps).T
    return np.ascontiguousarray(x), np.ascontiguousarray(target)
