"""Vocabularies: tokens and their indices."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted

UNKNOWN, SENTENCE_START, SENTENCE_END = "UNKNOWN", "SENTENCE_START", "SENTENCE_END"
SPECIAL = (UNKNOWN, SENTENCE_START, SENTENCE_END)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and their indices.

    Attributes
    ----------
    tokens : tuple of str
        In the order of their indices: `UNKNOWN`, `SENTENCE_START`, `SENTENCE_END`, then the others
        from the most to the least frequent.

    Raises
    ------
    ValueError
        If the tokens do not begin with the three special ones, or a token occurs twice.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"tokens begin with {quoted(self.tokens[:3])}: expected {SPECIAL}")
        if len(self.index) < len(self.tokens):
            token, count = Counter(self.tokens).most_common(1)[0]
            raise ValueError(f"tokens has {quoted(token)} {count} times: expected each once")

    @classmethod
    def of(cls, texts: Iterable[Iterable[str]], size: int | None = None) -> "Vocabulary":
        """Return the vocabulary of the most frequent tokens.

        Parameters
        ----------
        texts : iterable of iterables of str
            Tokenised sentences, or texts (iterables of characters).
        size : int, optional
            How many tokens, including the three special ones; None: all.  Of equally frequent
            tokens, those that come first in the texts are taken.

        Raises
        ------
        ValueError
            If there are no tokens, or fewer than ``size``.
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
        """Return the tokens' indices (N,), int64; unknown tokens get the index of `UNKNOWN`."""
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
            If an index is out of range; the message names its position.
        """
        found = []
        for position, k in enumerate(indices):
            if not 0 <= k < len(self.tokens):
                raise ValueError(
                    f"indices[{position}] is {k}: expected 0 to {len(self.tokens) - 1}"
                )
            found.append(self.tokens[k])
        return found
