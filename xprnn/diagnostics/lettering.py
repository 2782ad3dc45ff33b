"""Words in pictures: in a font that has their characters, and without overlaps.

matplotlib's own font has Latin, Greek, Cyrillic, Arabic and Hebrew letters, but no Chinese,
Japanese, Korean, Indian or Thai ones; it draws boxes for them, and warns.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from xprnn.backend.host.quoting import shortened

_LONGEST = 90
"""Characters of a title; the middle of a longer one is left out."""
_LONGEST_TIME = 24
_WIDTH = 560.0
"""The width of the axes of a figure that is 9 inches wide, in points."""
_GAP = 14.0
"""Between two labels, in points."""


# Coloured pictures, which matplotlib can't draw; and boxes for everything.
_NOT_LETTERS = re.compile("emoji|last ?resort|unicode bmp fallback", re.IGNORECASE)


class Lettering(NamedTuple):
    """A text, and the fonts that have its characters.

    Attributes
    ----------
    text : str
    fonts : tuple of str
        The names of font families, for matplotlib; empty: its own font has all.
    """

    text: str
    fonts: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of matplotlib's functions that draw text, verbatim and in these fonts."""
        fonts = {"fontfamily": list(self.fonts)} if self.fonts else {}
        # A dollar sign begins no formula.
        return {"parse_math": False, **fonts}


def lettering(text: str, most: int = _LONGEST) -> Lettering:
    r"""Return a text as it can be drawn.

    What matplotlib's font lacks is looked for in the fonts of the system.  What none has is written
    in Latin letters if the package anyascii is installed, else as an escape such as ``\u9500``.
    """
    text = shortened("\n".join(" ".join(line.split()) for line in text.split("\n")), most)
    lacking = _lacking(text)
    if not lacking:
        return Lettering(text)
    font = _font_with(lacking)
    if font is not None:
        return Lettering(text, (*_own_fonts(), font))
    return Lettering("".join(_latin(c) if c in lacking else c for c in text).strip())


def label_times(axes: Any, times: Sequence[str]) -> None:
    """Label the steps of a horizontal axis with times, as many as have room.

    Steps after the last time are counted from it: +1, +2 ...
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def label(k: float, _: object = None) -> str:
        if 0 <= k < len(times):
            return lettering(_two_lines(times[int(k)]), _LONGEST_TIME).text
        return f"+{k - len(times) + 1:.0f}" if k > 0 else ""

    first, last = (int(k) for k in axes.get_xlim())
    shown = range(max(0, first), min(len(times), last + 1))
    step = max(1, len(shown) // 50)
    widest = max((_width(label(k)) for k in shown[::step]), default=0.0)
    room = max(1, min(8, int(_WIDTH / (widest + _GAP))))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=room))
    axes.xaxis.set_major_formatter(FuncFormatter(label))
    fonts = lettering("".join(sorted({c for k in shown[::step] for c in times[k]}))).fonts
    if fonts:
        axes.tick_params(axis="x", labelfontfamily=list(fonts))


def _two_lines(time: str) -> str:
    """Return a date and a time of day below each other, without seconds that are zero."""
    return re.sub(r"(\d)[T ](\d{1,2}:\d{2})(:00(\.0+)?(?=$|[Z+ -]))?", r"\1\n\2", time)


def _width(text: str) -> float:
    """Return the width of a text's longest line in points, at the size of labels."""
    # Most characters of most fonts are narrower than this share of the size; Chinese ones are 1.
    size = 10.0
    return max(
        sum(size * (0.64 if c < "\u1100" else 1.0) for c in line) for line in text.split("\n")
    )


@lru_cache(maxsize=256)
def _lacking(text: str) -> frozenset[str]:
    """Return the characters that matplotlib's font has no glyph for."""
    if text.isascii() and text.isprintable():
        return frozenset()
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    return frozenset(c for c in text if c != "\n" and not font.get_char_index(ord(c)))


def _own_fonts() -> tuple[str, ...]:
    from matplotlib import rcParams

    return tuple(rcParams["font.family"])


@lru_cache(maxsize=64)
def _font_with(characters: frozenset[str]) -> str | None:
    """Return the name of an installed font that has all of some characters; None: there is none."""
    from matplotlib.font_manager import fontManager, get_font

    # Fonts for many scripts first: opening all of them takes long.
    def rank(entry: Any) -> tuple[bool, str]:
        return (not re.search("CJK|Noto Sans|Unicode|Unifont|Hei|Gothic", entry.name), entry.name)

    for entry in sorted(fontManager.ttflist, key=rank)[:400]:
        if entry.style != "normal" or _NOT_LETTERS.search(entry.name):
            continue
        try:
            font = get_font(entry.fname)
        except (OSError, RuntimeError):
            continue
        if all(font.get_char_index(ord(c)) for c in characters):
            return str(entry.name)
    return None


def _latin(character: str) -> str:
    """Return a character in Latin letters, or as an escape."""
    escape = character.encode("unicode_escape").decode()
    try:
        from anyascii import anyascii
    except ImportError:
        return escape
    latin: str = anyascii(character)
    # anyascii drops what it does not know, and what is not seen.
    return latin if latin.isprintable() and (latin or not character.isprintable()) else escape
