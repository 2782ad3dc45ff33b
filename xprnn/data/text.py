"""Text: sentences, tokens, and the batches that language models are trained on."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.host.arrays import (
    HostArray,
    Seed,
    generator,
    np,
    plain_array,
    random_state,
    restore_random,
)
from xprnn.data.batches import Batch
from xprnn.data.decoding import read_decoded
from xprnn.data.vocabulary import SENTENCE_END, SENTENCE_START, SPECIAL, UNKNOWN, Vocabulary
from xprnn.losses import PADDING

__all__ = [
    "SENTENCE_END",
    "SENTENCE_START",
    "SPECIAL",
    "UNKNOWN",
    "Vocabulary",
    "join_words",
    "python_topics",
    "read_text",
    "sentence_batches",
    "sentences",
    "streams",
    "words",
]

# A full stop, question mark or exclamation mark with closing quotes and brackets, followed by white
# space (not needed in scripts without white space); or an empty line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’“»«)\]}]*(?=\s)|[。！？][”’」』）]*|\n\s*\n")


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Read a text file.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If there is no such encoding, the file is not in it (the message names the first wrong
        byte), or it holds nothing but white space.
    """
    file = Path(path)
    text = read_decoded(file, encoding)
    if not text.strip():
        raise ValueError(f"{str(file)!r} holds no text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def python_topics() -> str:
    """Return the language reference that every CPython includes, ``pydoc_data.topics``.

    It has about 65,000 words of English technical prose, under Python's licence.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def sentences(text: str) -> list[str]:
    """Split a text into sentences, by a simple rule.

    A sentence ends after ``. ! ? …`` if white space follows, after ``。 ！ ？``, and at an empty
    line.  Closing quotes and brackets right after the end belong to the sentence.  Only white space
    is dropped.  Abbreviations count as ends.

    Examples
    --------
    >>> sentences("Is it? (It is.)  'Yes!' she said.")
    ['Is it?', '(It is.)', "'Yes!'", 'she said.']
    """
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(ends))
    return [part for part in parts if part]


def words(sentence: str) -> list[str]:
    """Split a sentence into lower-case words and signs, by a simple rule, in any script.

    A word is a run of letters, digits and underscores, with apostrophes and hyphens inside; every
    other sign is one token.  A combining mark belongs to the character before it.  The tokens are
    in Unicode's normal form NFC, in which every é is the same.

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
    """Return the pattern of a word or sign; cached, because the full one is slow to build."""
    if ascii_:
        return re.compile(r"\w+(?:['\-]\w+)*|[^\w\s]")
    # Above these planes, only the block of variation selectors has marks.
    codes = chain(range(0x300, 0x20000), range(0xE0000, 0xE1000))
    mark = "".join(c for c in map(chr, codes) if unicodedata.category(c) in {"Mn", "Mc"})
    return re.compile(rf"\w[\w{mark}]*(?:['’\-]\w[\w{mark}]*)*|[^\w\s][{mark}]*")


def join_words(tokens: Sequence[str]) -> str:
    """Join words and signs to readable text, without the special tokens.

    Examples
    --------
    >>> join_words(["well", ",", "it", "(", "mostly", ")", "works", "."])
    'well, it (mostly) works.'
    """
    text = " ".join(token for token in tokens if token not in SPECIAL)
    text = re.sub(r" (?=[.,;:!?…)\]}’”%])", "", text)
    return re.sub(r"(?<=[(\[{“‘]) ", "", text)


class sentence_batches:  # noqa: N801
    """Batches of sentences of similar lengths, padded, in a new random order every epoch.

    No sentence is padded to more than twice its length, so that long sentences do not share batches
    with short ones.  x is each sentence without its last token, the target without its first; after
    a sentence's end the target is -1, which the loss ignores.

    Parameters
    ----------
    encoded : sequence of host array
        Sentences of at least two tokens, as `Vocabulary.encode_sentence` makes them.
    size : int
        The largest number of sentences per batch.
    backend : Backend
    rng : int, numpy.random.Generator or None
        The source of the random order; it also decides which sentences of a length share a batch.
    shuffle : bool
        False: always in the order of the lengths.

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
        self._lengths = np.array([len(sentence) for sentence in self.encoded])
        self._borders = _borders(np.sort(self._lengths), self.size)

    def __len__(self) -> int:
        return len(self._borders)

    def state(self) -> dict[str, Any]:
        """Return the state of the random generator, which decides the next epoch's order."""
        return random_state(self._rng)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state: the next epoch has the order that followed it then."""
        restore_random(self._rng, state)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self._lengths)
        order = self._rng.permutation(count) if self.shuffle else np.arange(count)
        order = order[np.argsort(self._lengths[order], kind="stable")]
        borders = self._borders
        for start, stop in self._rng.permutation(borders) if self.shuffle else borders:
            yield self._padded([self.encoded[k] for k in order[start:stop]])

    def _padded(self, batch: list[HostArray]) -> Batch:
        steps = max(len(sentence) for sentence in batch) - 1
        x = np.zeros((steps, len(batch)), dtype=np.int64)
        target = np.full((steps, len(batch)), PADDING, dtype=np.int64)
        for k, sentence in enumerate(batch):
            x[: len(sentence) - 1, k] = sentence[:-1]
            target[: len(sentence) - 1, k] = sentence[1:]
        return Batch(self.backend.asarray(x), self.backend.asarray(target))


def _borders(lengths: HostArray, most: int) -> list[tuple[int, int]]:
    """Return the first sentence of every batch and the one after its last; lengths ascend."""
    borders, start = [], 0
    while start < len(lengths):
        # Steps are padded, and a sentence has one step less than tokens.
        near = int(np.searchsorted(lengths, 2 * lengths[start] - 1, side="right"))
        stop = min(start + most, near)
        borders.append((start, stop))
        start = stop
    return borders


def streams(indices: HostArray, count: int) -> tuple[HostArray, HostArray]:
    """Cut a long sequence of tokens into ``count`` parallel ones, for `xprnn.data.chunks`.

    Parameters
    ----------
    indices : host array of int, (N,)
    count : int
        B; every stream has (N-1) // B steps, and the rest at the end is dropped.

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
    indices = plain_array("indices", indices)
    steps = (len(indices) - 1) // count
    if steps < 1:
        raise ValueError(
            f"{len(indices)} tokens do not make {count} streams of at least one step: expected at "
            f"least {count + 1} tokens, or fewer streams"
        )
    x = indices[: steps * count].reshape(count, steps).T
    target = indices[1 : steps * count + 1].reshape(count, steps).T
    # Copies: a single stream would be a view of the tokens.
    return np.array(x, order="C"), np.array(target, order="C")
