"""Labels that can be drawn, whatever they consist of, and that never overlap."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from xprnn.diagnostics.pictures.style import number_steps

PLAIN = "DejaVu Sans"
"""The font that comes with matplotlib."""

_LONGEST = 16
"""Characters of a label; a longer one is cut."""

_POINTS = 8.0
"""The size of labels."""

_INCHES = 1.5 * _POINTS / 72
"""The width that a label needs that stands upright, with the gap to the next one."""

_LINES = {"\n": "⏎", "\t": "⇥"}
_BLANKS = {" ": "␣", "": "∅"}
"""Whole tokens that would leave a label blank."""


def wide_enough(
    tokens: Sequence[str] | None, count: int, *, least: float, margin: float, most: float
) -> float:
    """Return the width of a picture, in inches, in which every token has its label, up to ``most``.

    Parameters
    ----------
    least : float
        The width of a picture with few tokens, or with numbers.
    margin : float
        What the axis is narrower than the picture.
    """
    if tokens is None:
        return least
    return min(max(least, count * _INCHES + margin), most)


def checked_tokens(tokens: Sequence[str] | None, steps: int) -> Sequence[str] | None:
    """Return tokens, known to be one for each step."""
    if tokens is None:
        return None
    texts = [str(token) for token in tokens]
    if len(texts) != steps:
        raise ValueError(f"tokens has {len(texts)} entries: expected {steps}, one for each step")
    return texts


def label_steps(axes: Any, tokens: Sequence[str] | None, count: int, inches: float) -> None:
    """Label the steps 0 to count-1 of a horizontal axis, with tokens or with numbers.

    Tokens stand upright; where they would not fit side by side, only every second, third, ... is
    labelled.  Numbers are placed by matplotlib.

    Parameters
    ----------
    axes : matplotlib axes
    tokens : sequence of str, or None
    count : int
    inches : float
        The width of the axis.
    """
    if tokens is None:
        number_steps(axes.xaxis)
        axes.set_xlabel("step")
        return
    every = max(1, math.ceil(count * _INCHES / inches - 1e-6))
    shown = range(0, count, every)
    texts = [drawable(tokens[t]) for t in shown]
    labels = axes.set_xticks(
        list(shown), texts, rotation=90, fontsize=_POINTS, fontfamily=fonts_for(texts)
    )
    for label in labels:
        label.label1.set_parse_math(False)
    axes.set_xlabel("step" if every == 1 else f"step (every {_ordinal(every)} token is labelled)")


def unlike(count: int, most: int) -> list[int]:
    """Return up to ``most`` of the numbers below ``count``, evenly spaced, with both ends.

    >>> unlike(5, 9), unlike(101, 3)
    ([0, 1, 2, 3, 4], [0, 50, 100])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def drawable(text: str) -> str:
    r"""Return a text in one line, cut to a bearable length, in characters that some font has.

    >>> drawable("new\nline"), drawable("a very long name of a token")
    ('new⏎line', 'a very long nam…')
    """
    text = _BLANKS.get(text, text)
    for old, new in _LINES.items():
        text = text.replace(old, new)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return _readable(text)


def fonts_for(texts: Iterable[str]) -> list[str]:
    """Return the families that have the characters of the texts: matplotlib's, and others."""
    missing = {c for text in texts for c in text if not _has(PLAIN, c)}
    families = [PLAIN]
    for c in sorted(missing):
        if not any(_has(family, c) for family in families):
            found = _family_with(c)
            families += [found] if found else []
    return families


def titled(axes: Any, title: str, xlabel: str | None, ylabel: str) -> None:
    """Label axes verbatim: a dollar sign in a name begins no formula."""
    labels = [(axes.set_title, title), (axes.set_ylabel, ylabel)]
    if xlabel is not None:
        labels.append((axes.set_xlabel, xlabel))
    for write, text in labels:
        write(_readable(text), parse_math=False, fontfamily=fonts_for([text]))


def _readable(text: str) -> str:
    """Return a text with the codes of the characters that can't be drawn in their place."""
    known = fonts_for([text])
    return "".join(c if c.isprintable() and _drawn(c, known) else _code(c) for c in text)


def _drawn(c: str, families: Sequence[str]) -> bool:
    return any(_has(family, c) for family in families)


def _code(c: str) -> str:
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def _ordinal(k: int) -> str:
    return {2: "second", 3: "third"}.get(k, f"{k}th")


@lru_cache(maxsize=4096)
def _has(family: str, c: str) -> bool:
    from matplotlib import font_manager

    path = font_manager.findfont(font_manager.FontProperties(family=[family]))
    return bool(font_manager.get_font(path).get_char_index(ord(c)))


@lru_cache(maxsize=4096)
def _family_with(c: str) -> str:
    """Return an installed font that has a character; empty if there is none."""
    from matplotlib import font_manager

    for entry in font_manager.fontManager.ttflist:
        # That font has every character, as a box with the name of its script.
        if entry.name.startswith("Last Resort"):
            continue
        try:
            font = font_manager.get_font(entry.fname)
        except (OSError, RuntimeError):
            continue
        # The family's upright font is the one that is used.
        if font.get_char_index(ord(c)) and _has(entry.name, c):
            return str(entry.name)
    return ""
