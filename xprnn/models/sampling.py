"""Choosing the next token from a model's logits, and where a text stops."""

from collections.abc import Sequence
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen.

    Attributes
    ----------
    temperature : float
        The logits are divided by it: below 1 favours probable tokens, above 1 surprising ones.  0
        takes the most probable token.
    top_k : int, optional
        Only the k most probable tokens may be drawn.
    top_p : float, optional
        Only the most probable tokens that together have this probability may be drawn, in (0, 1]:
        nucleus sampling.  After ``top_k``.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong type or out of range.

    References
    ----------
    A. Holtzman et al., "The curious case of neural text degeneration", ICLR 2020 (``top_p``).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature)
        if self.top_k is not None:
            checks.positive_int("top_k", self.top_k)
        if self.top_p is not None and checks.number("top_p", self.top_p, open_=True) > 1:
            raise ValueError(f"top_p is {self.top_p}: expected a number above 0, at most 1")

    def __call__(self, logits: HostArray, random: Generator) -> int:
        """Return the index of a token, given logits (V,) in float64."""
        if self.temperature == 0:
            return int(np.argmax(logits))
        # A tiny temperature makes every difference but 0 overflow to minus infinity.
        with np.errstate(over="ignore", under="ignore"):
            p = np.exp((logits - np.max(logits)) / self.temperature)
        if self.top_k is not None or self.top_p is not None:
            # Stable: of equally probable tokens, the first are kept on every machine.
            order = np.argsort(-p, kind="stable")
            count = len(p) if self.top_k is None else self.top_k
            if self.top_p is not None:
                mass = np.cumsum(p[order[:count]])
                reached = np.searchsorted(mass, self.top_p * mass[-1])
                count = min(count, int(reached) + 1)
            p[order[count:]] = 0
        return int(random.choice(len(p), p=p / np.sum(p)))


class Stops:
    """Texts at which a text that comes in pieces stops.

    Parameters
    ----------
    texts : sequence of str
        None of them empty.

    Attributes
    ----------
    found : bool
        Whether one was reached: nothing comes after that.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self.found = False
        self._held = ""

    def passed(self, piece: str) -> str:
        """Return the text that is known to be before a stop, after one more piece."""
        held = self._held + piece
        places = [at for text in self.texts if (at := held.find(text)) >= 0]
        if places:
            self.found, self._held = True, ""
            return held[: min(places)]
        # What may be the beginning of a stop waits for more.
        waiting = max(
            (k for text in self.texts for k in range(1, len(text)) if held.endswith(text[:k])),
            default=0,
        )
        self._held = held[len(held) - waiting :]
        return held[: len(held) - waiting]

    def rest(self) -> str:
        """Return the text that waited, when no more comes."""
        held, self._held = self._held, ""
        return held


def stop_texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Return the texts at which to stop, from one or several.

    Raises
    ------
    TypeError, ValueError
        If one is no text, or empty.
    """
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"stop has {text!r}: expected text")
        if not text:
            raise ValueError("stop has an empty text: expected at least one character")
    return texts
