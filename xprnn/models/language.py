"""Language models: a network that reads tokens and predicts the next, with its vocabulary."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, Seed, generator, np
from xprnn.backend.host.quoting import quoted
from xprnn.cells import Arrays
from xprnn.data.text import (
    SENTENCE_END,
    SENTENCE_START,
    UNKNOWN,
    Vocabulary,
    join_words,
    sentences,
    words,
)
from xprnn.engine.network import RNN
from xprnn.models.task import entry, text_entry

TASK = "text"
LEVELS = ("words", "characters")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class LanguageModel:
    """A network with its vocabulary.

    Attributes
    ----------
    net : RNN
        One input and one output for each token.
    vocabulary : Vocabulary
    level : {"words", "characters"}
        Words come in sentences, each read from a zero state; characters are one long stream.

    Raises
    ------
    ValueError
        If the numbers of inputs, outputs and tokens differ, the network returns only its last
        output, or the level is unknown.
    """

    net: RNN
    vocabulary: Vocabulary
    level: str

    def __post_init__(self) -> None:
        checks.choice("level", self.level, LEVELS)
        tokens, net = len(self.vocabulary), self.net
        sizes = (net.input_size, net.output_size, net.returns)
        if sizes != (tokens, tokens, "sequence"):
            raise ValueError(
                f"the network has {net.input_size} inputs, {net.output_size} outputs and returns "
                f"{net.returns!r}: expected {tokens}, {tokens} and 'sequence', for a vocabulary "
                f"of {tokens} tokens"
            )

    @classmethod
    def of(cls, net: RNN) -> "LanguageModel":
        """Return the language model of a network that `save` wrote.

        Raises
        ------
        TypeError, ValueError
            If the network was not saved by a language model, or its metadata is not a language
            model's.
        """
        data = net.metadata
        if data.get("task") != TASK:
            raise ValueError(
                f"the network is no language model (its task: {quoted(data.get('task'))}): "
                "expected one that `xprnn train text` wrote"
            )
        tokens = entry(data, "tokens")
        if not isinstance(tokens, list):
            raise TypeError(f"tokens is {quoted(tokens)}: expected a list of strings")
        for k, token in enumerate(tokens):
            # A lone surrogate is no character, and can't be written to a file.
            if not isinstance(token, str) or not token or _SURROGATE.search(token):
                raise TypeError(f"tokens[{k}] is {quoted(token)}: expected text")
        return cls(net, Vocabulary(tuple(tokens)), text_entry(data, "level"))

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save the network, with its vocabulary and ``extra`` as metadata."""
        self.net.metadata = {
            **extra,
            "task": TASK,
            "level": self.level,
            "tokens": list(self.vocabulary.tokens),
        }
        self.net.save(path)

    def split(self, text: str) -> list[str]:
        """Split a text into the model's tokens: words and signs, or characters."""
        return words(text) if self.level == "words" else list(text)

    def join(self, tokens: Sequence[str]) -> str:
        """Join tokens to a text."""
        return join_words(tokens) if self.level == "words" else "".join(tokens)

    def predict(self, tokens: Sequence[str]) -> list[str]:
        """Return the most probable next token after each token, read from a zero state.

        Raises
        ------
        ValueError
            If there are no tokens.
        """
        logits, _ = self._read(self.vocabulary.encode(tokens), None)
        return self.vocabulary.decode(np.argmax(logits, axis=1))

    def sample(
        self, prompt: str, length: int, *, temperature: float = 1.0, rng: Seed = None
    ) -> str:
        """Continue a prompt with random tokens, drawn with the model's probabilities.

        Parameters
        ----------
        prompt : str
            May be empty; unknown tokens are read as `UNKNOWN`.  A model of words continues the last
            sentence.
        length : int
            How many tokens to write; the end of a sentence counts as a token, but is not printed.
        temperature : float
            The logits are divided by it: below 1 favours probable tokens, above 1 surprising ones.
        rng : int, numpy.random.Generator or None

        Returns
        -------
        str
            Prompt and continuation.  A model of words begins a new sentence after the end of one.
            `UNKNOWN` is never written.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong type or out of range, or the network's logits are not
            finite.
        """
        length = checks.positive_int("length", length)
        temperature = checks.number("temperature", temperature, open_=True)
        random = generator(rng)
        parts, first = [self.split(prompt)], [] if prompt else ["\n"]
        if self.level == "words":
            # In training every sentence began in a zero state, so only the last one matters.
            parts, first = [words(part) for part in sentences(prompt)] or [[]], [SENTENCE_START]
        state: Arrays | None
        logits, state = self._read(self.vocabulary.encode([*first, *parts[-1]]), None)
        index = self.vocabulary.index
        barred = [index[UNKNOWN], index[SENTENCE_START]]
        if self.level == "characters":
            barred.append(index[SENTENCE_END])
        for _ in range(length):
            scores = logits[-1].astype(np.float64)
            scores[barred] = -np.inf
            # A tiny temperature makes every difference but 0 overflow to minus infinity.
            with np.errstate(over="ignore", under="ignore"):
                p = np.exp((scores - np.max(scores)) / temperature)
            token = self.vocabulary.tokens[int(random.choice(len(p), p=p / np.sum(p)))]
            if token == SENTENCE_END:
                # In training every sentence began in a zero state.
                parts.append([])
                token, state = SENTENCE_START, None
            else:
                parts[-1].append(token)
            logits, state = self._read(self.vocabulary.encode([token]), state)
        separator = "\n" if self.level == "words" else ""
        return separator.join(self.join(part) for part in parts)

    def unknown(self, text: str) -> list[str]:
        """Return the tokens of a text that are not in the vocabulary, without repetition."""
        known = self.vocabulary.index
        return list(dict.fromkeys(token for token in self.split(text) if token not in known))

    def _read(self, indices: HostArray, state: Arrays | None) -> tuple[HostArray, Arrays]:
        """Return logits (T, V) and the final state after reading tokens (T,)."""
        if len(indices) == 0:
            raise ValueError("there are no tokens: expected at least one")
        backend = self.net.backend
        output, state = self.net(backend.asarray(indices[:, None]), state)
        logits = backend.to_numpy(output)[:, 0, :]
        if not np.all(np.isfinite(logits)):
            raise ValueError("the network's logits are not finite: its weights are too large")
        return logits, state
