"""Text: sentences, tokens, and the batches that language models are trained on."""

import os
from collections.abc import Iterator, Mapping, Sequence
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
from xprnn.data.segmentation import graphemes, join_words, lines, sentences, words
from xprnn.data.vocabulary import SENTENCE_END, SENTENCE_START, SPECIAL, UNKNOWN, Vocabulary
from xprnn.losses import PADDING

__all__ = [
    "SENTENCE_END",
    "SENTENCE_START",
    "SPECIAL",
    "UNKNOWN",
    "Vocabulary",
    "graphemes",
    "join_words",
    "lines",
    "python_topics",
    "read_text",
    "sentence_batches",
    "sentences",
    "streams",
    "words",
]


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    r"""Read a text file; the line ends of all systems become ``\n``.

    UTF-8 means any encoding of Unicode that can be recognised, such as UTF-16 by its byte order
    mark; a file may be compressed by gzip.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If there is no such encoding, the file is not in it (the message names the first wrong
        byte), or it holds nothing but white space.
    """
    return plain_text(read_decoded(Path(path), encoding), repr(str(path)))


def plain_text(text: str, name: str) -> str:
    r"""Return a text without a byte order mark, its lines ended by ``\n``.

    Raises
    ------
    ValueError
        If it holds nothing but white space; the message calls it by this name.
    """
    if not text.strip():
        raise ValueError(f"{name} holds no text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def python_topics() -> str:
    """Return the language reference that every CPython includes, ``pydoc_data.topics``.

    It has about 65,000 words of English technical prose, under Python's licence.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


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
        The target of a step is the token after it.  Copies; of a `numpy.memmap` views, so that
        tokens on disk may be more than fit into memory.

    Raises
    ------
    ValueError
        If there are too few tokens.
    """
    count, on_disk = checks.positive_int("count", count), isinstance(indices, np.memmap)
    indices = plain_array("indices", indices)
    steps = (len(indices) - 1) // count
    if steps < 1:
        raise ValueError(
            f"{len(indices)} tokens do not make {count} streams of at least one step: expected at "
            f"least {count + 1} tokens, or fewer streams"
        )
    x = indices[: steps * count].reshape(count, steps).T
    target = indices[1 : steps * count + 1].reshape(count, steps).T
    if on_disk:
        return x, target
    # Copies: a single stream would be a view of the tokens.
    return np.array(x, order="C"), np.array(target, order="C")
