"""An n-gram model: the baseline of language models."""

from collections.abc import Sequence
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np, refuse_changed


@dataclass(frozen=True)
class NGram:
    """An n-gram model with interpolated back-off after Witten and Bell.

    ::

        P(w | h) = (c(h w) + d(h) P(w | h')) / (c(h) + d(h))

    where c counts in the training text, d(h) is the number of different tokens seen after h, and h'
    is the context h without its first token.  The recursion ends at 1/V.

    Parameters
    ----------
    order : int
        n; with 3 the context is the two tokens before.
    size : int
        V, the size of the vocabulary.
    grams : tuple of (host array, host array)
        For each length from 1 to n: the grams of the training text, each as one number in base V,
        ascending, and their counts.
    contexts : tuple of (host array, host array, host array)
        For each length of the gram: the contexts, as numbers in the same way; c(h), the number of
        tokens that followed; and d(h).

    References
    ----------
    I. Witten and T. Bell, "The zero-frequency problem", IEEE Transactions on Information Theory 37
    (1991), method C; interpolated as in S. Chen and J. Goodman, "An empirical study of smoothing
    techniques for language modeling" (1998), section 2.6.
    """

    order: int
    size: int
    grams: tuple[tuple[HostArray, HostArray], ...]
    contexts: tuple[tuple[HostArray, HostArray, HostArray], ...]

    @classmethod
    def fitted(cls, texts: Sequence[HostArray], order: int, size: int) -> "NGram":
        """Return the model of training texts.

        Parameters
        ----------
        texts : sequence of host array of int, (N,) each
            Token indices below ``size``.  No n-gram reaches across texts.
        order : int
        size : int

        Raises
        ------
        ValueError
            If there are no texts, an index is out of range, or ``size ** order`` exceeds 64 bits.
        """
        if not len(texts):
            raise ValueError("texts is empty: expected at least one text")
        order = checks.positive_int("order", order)
        if size**order >= 2**62:
            raise ValueError(f"{order}-grams of {size} tokens do not fit in 64 bits")
        _check_tokens(texts, size)
        grams, contexts = [], []
        for length in range(1, order + 1):
            keys = np.concatenate([_keys(text, length, size) for text in texts])
            found, count = np.unique(keys, return_counts=True)
            grams.append((found, count))
            # Grams are sorted by context, so those of one context are neighbours.
            context, first = np.unique(found // size, return_index=True)
            contexts.append(
                (context, np.add.reduceat(count, first), np.diff(first, append=len(found)))
            )
        return cls(order, size, tuple(grams), tuple(contexts))

    def log_probability(self, text: HostArray) -> HostArray:
        """Return log P of every token but the first, which is only context, (N-1,)."""
        p = np.full(len(text) - 1, 1 / self.size)
        for length, (gram, context) in enumerate(zip(self.grams, self.contexts, strict=True), 1):
            # A token near the beginning has fewer tokens before it, so its context stays shorter.
            start = max(0, length - 2)
            keys = _keys(text, length, self.size)[1 if length == 1 else 0 :]
            seen = _lookup(keys, gram[0], gram[1])
            total = _lookup(keys // self.size, context[0], context[1])
            kinds = _lookup(keys // self.size, context[0], context[2])
            known = total > 0
            mixed = (seen + kinds * p[start:]) / np.maximum(total + kinds, 1)
            p[start:] = np.where(known, mixed, p[start:])
        logs: HostArray = np.log(p)
        return logs

    def loss(self, texts: Sequence[HostArray]) -> float:
        """Return the mean of -log P per token, in nats, over all tokens but each text's first.

        Raises
        ------
        ValueError
            If no text has a second token, or an index is out of range.
        """
        _check_tokens(texts, self.size)
        if not any(len(text) > 1 for text in texts):
            raise ValueError(
                "no text has two tokens: expected at least one to look at and one to predict"
            )
        logs = [self.log_probability(text) for text in texts if len(text)]
        return float(-np.mean(np.concatenate(logs)))


def _check_tokens(texts: Sequence[HostArray], size: int) -> None:
    for k, text in enumerate(texts):
        refuse_changed(f"texts[{k}]", text)
        wrong = np.flatnonzero((text < 0) | (text >= size))
        if len(wrong):
            at = wrong[0]
            raise ValueError(f"texts[{k}][{at}] is {text[at]}: expected 0 to {size - 1}")


def _keys(text: HostArray, length: int, size: int) -> HostArray:
    """Return every run of ``length`` tokens as one number, (N - length + 1,)."""
    keys = np.zeros(max(0, len(text) - length + 1), dtype=np.int64)
    for k in range(length):
        keys = keys * size + text[k : k + len(keys)]
    return keys


def _lookup(keys: HostArray, found: HostArray, values: HostArray) -> HostArray:
    """Return each key's value; 0 if the key is not in ``found``, which ascends."""
    if not len(found):
        return np.zeros(len(keys), dtype=np.int64)
    place = np.minimum(np.searchsorted(found, keys), len(found) - 1)
    return np.where(found[place] == keys, values[place], 0)
