"""Language models: a network that reads tokens and predicts the next, with its vocabulary."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, Seed, generator, np
from xprnn.backend.host.quoting import quoted
from xprnn.cells import Arrays
from xprnn.data.segmentation import LEVELS, PARTS, join_words, separator
from xprnn.data.text import SENTENCE_END, SENTENCE_START, UNKNOWN, Vocabulary
from xprnn.engine.network import RNN
from xprnn.models.sampling import Choice, Stops, stop_texts
from xprnn.models.task import entry, text_entry

TASK = "text"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class LanguageModel:
    """A network with its vocabulary.

    Attributes
    ----------
    net : RNN
        One input and one output for each token.
    vocabulary : Vocabulary
    level : {"words", "characters", "graphemes"}
        What a token is: see `xprnn.data.text.words` and `xprnn.data.text.graphemes`; a character is
        a code point of Unicode.
    unit : {"sentence", "line", "stream"}, optional
        What is read from a zero state, between `SENTENCE_START` and `SENTENCE_END`: a sentence or a
        line; or a stream, which has no parts.  Not given: sentences of words, and streams of
        characters or graphemes.

    Raises
    ------
    ValueError
        If the numbers of inputs, outputs and tokens differ, the network returns only its last
        output, or the level or the unit is unknown.
    """

    net: RNN
    vocabulary: Vocabulary
    level: str
    unit: str = ""

    def __post_init__(self) -> None:
        checks.choice("level", self.level, LEVELS)
        unit = self.unit or ("sentence" if self.level == "words" else "stream")
        object.__setattr__(self, "unit", checks.choice("unit", unit, PARTS))
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
        # Older files have no unit.
        unit = text_entry(data, "unit") if "unit" in data else ""
        return cls(net, Vocabulary(tuple(tokens)), text_entry(data, "level"), unit)

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save the network, with its vocabulary and ``extra`` as metadata."""
        self.net.metadata = {
            **extra,
            "task": TASK,
            "level": self.level,
            "unit": self.unit,
            "tokens": list(self.vocabulary.tokens),
        }
        self.net.save(path)

    def split(self, text: str) -> list[str]:
        """Split a text into the model's tokens."""
        return LEVELS[self.level](text)

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
        self,
        prompt: str,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        rng: Seed = None,
    ) -> str:
        """Continue a prompt with random tokens, drawn with the model's probabilities.

        Parameters
        ----------
        prompt : str
            May be empty; unknown tokens are read as `UNKNOWN`.  A model of sentences or lines
            continues the last one.
        length : int
            How many tokens to write; the end of a sentence or line counts as a token, and is
            printed as a new line.
        temperature : float
            The logits are divided by it: below 1 favours probable tokens, above 1 surprising ones.
            0 always takes the most probable token, and draws no random numbers.
        top_k : int, optional
            Only the k most probable tokens may be drawn.
        top_p : float, optional
            Only the most probable tokens that together have this probability may be drawn, in
            (0, 1]; after ``top_k``.
        stop : str or sequence of str
            The text ends before the first of these that the model writes.
        rng : int, numpy.random.Generator or None

        Returns
        -------
        str
            Prompt and continuation.  A model of sentences or lines begins a new one after the end
            of one.  `UNKNOWN` is never written.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong type or out of range, or the network's logits are not
            finite.
        """
        return "".join(
            self.stream(
                prompt,
                length,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                stop=stop,
                rng=rng,
            )
        )

    def stream(
        self,
        prompt: str,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        rng: Seed = None,
    ) -> Iterator[str]:
        """Return an iterator of what `sample` returns, in pieces, while it is written.

        The first piece is the prompt.  Parameters and errors are those of `sample`.
        """
        length = checks.positive_int("length", length)
        choice, stops = Choice(temperature, top_k, top_p), Stops(stop_texts(stop))
        random = generator(rng)
        parts = [self.split(part) for part in PARTS[self.unit](prompt)] or [[]]
        return self._written(parts, length, choice, stops, random)

    def _written(
        self, parts: list[list[str]], length: int, choice: Choice, stops: Stops, random: Generator
    ) -> Iterator[str]:
        """Write the parts of a prompt and its continuation, in pieces."""
        # In training every sentence began in a zero state, so only the last one matters.
        first = [SENTENCE_START]
        if self.unit == "stream":
            first = [] if parts[-1] else ["\n"]
        yield "\n".join(self.join(part) for part in parts)
        state: Arrays | None
        logits, state = self._read(self.vocabulary.encode([*first, *parts[-1]]), None)
        index = self.vocabulary.index
        barred = [index[UNKNOWN], index[SENTENCE_START]]
        if self.unit == "stream":
            barred.append(index[SENTENCE_END])
        before = parts[-1][-1] if parts[-1] else ""
        for _ in range(length):
            scores = logits[-1].astype(np.float64)
            scores[barred] = -np.inf
            token = self.vocabulary.tokens[choice(scores, random)]
            if token == SENTENCE_END:
                # In training every sentence began in a zero state.
                piece, before, token, state = "\n", "", SENTENCE_START, None
            else:
                space = separator(before, token) if before and self.level == "words" else ""
                piece, before = space + token, token
            if shown := stops.passed(piece):
                yield shown
            if stops.found:
                return
            logits, state = self._read(self.vocabulary.encode([token]), state)
        if shown := stops.rest():
            yield shown

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
