r"""Text in parts (sentences, lines) and tokens (words, characters, graphemes), in any script.

Where characters alone don't say what belongs together (emoji of several characters, joiners inside
words, scripts without spaces), Unicode's rules of text segmentation do, as the package ``regex``
implements them: ``pip install "xprnn[text]"``.  Text without such characters doesn't need it.
"""

import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, pairwise
from typing import Any

from xprnn.data.vocabulary import SPECIAL

# Characters of scripts that put no spaces between words: Unicode's line breaking class SA (Thai,
# Lao, Burmese, Khmer, ...), and Han, Hiragana, Katakana, Bopomofo and Yi.  Ranges of a regular
# expression's brackets.
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f"
    "\u109a-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd\u1950-\u1974\u1980-\u19c9\u19de\u19df"
    "\u1a20-\u1a7c\u1aa0-\u1aa7\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaac2\uaadb-\uaadd"
    "\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\ua4c6\uf900-\ufad9"
    "\uff66-\uff9d\U00011700-\U0001172b\U00011740-\U00011746\U0001aff0-\U0001b16f\U00020000-\U0003347f"
)
# What asks for Unicode's segmentation: joiners, enclosing keycaps, flags, tones of skin, tags.
_SEGMENTED = re.compile(
    f"[\u200c\u200d\u20e3\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f{UNSPACED}]"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")

# Unicode's property Sentence_Terminal, in two groups, and the Tibetan shad.  A full stop is inside
# numbers and addresses, too: the first group ends a sentence only where white space follows.
_STOPS = ".!?\u2024…\u203c\u203d\u2047-\u2049\u2e2e\u2e3c\u2e53\u2e54\ufe52\ufe56\ufe57"
_ENDS = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u0f0d\u0f0e"
    "\u104a\u104b\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945"
    "\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f"
    "\u2cf9-\u2cfb\u2e60\u2e61\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f"
    "\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\uff01\uff1f\uff61"
    "\U00010a56\U00010a57\U00010f55-\U00010f59\U00010f86-\U00010f89\U00011047\U00011048"
    "\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df"
    "\U00011238\U00011239\U0001123b\U0001123c\U000112a9\U000113d4\U000113d5\U0001144b\U0001144c"
    "\U000115c2\U000115c3\U000115c9-\U000115d7\U00011641\U00011642\U0001173c-\U0001173e\U00011944"
    "\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8"
    "\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U00016d6e"
    "\U00016d6f\U00016e98\U0001bc9f\U0001da88"
)
# Closing quotes and brackets belong to the sentence.  After the second group a quote that may also
# open is closing only before white space.
_SENTENCE_END = re.compile(
    rf"[{_STOPS}][\"'”’“»«)\]}}]*(?=\s)"
    rf"|(?:[{_ENDS}]|\uff0e(?!\d))+[”’»)\]}}」』）】》〉〕]*(?:[\"'“«]+(?=\s|$))?"
    r"|\n\s*\n|\u2029"
)

# Without a space before them, and after them; the Tibetan tsheg stands between syllables.
_CLOSING = frozenset(".,;:!?…)]}’”%،؛؟۔।॥։።፣፤፥፦፧၊။។៕།་")
_OPENING = frozenset("([{“‘་")
# Punctuation that is as wide as a Chinese character has its space inside.
_WIDE = re.compile(f"[{UNSPACED}\u3000-\u303f\ufe10-\ufe1f\ufe30-\ufe4f\uff01-\uff60]")
_QUOTES = frozenset("“”‘’…—")


SAMPLE = 200_000
"""How much of a text is looked at to find out what script it is in."""


def sentences(text: str) -> list[str]:
    """Split a text into sentences, by a simple rule.

    A sentence ends after ``. ! ? …`` if white space follows, after the sentence ends of other
    scripts, such as ``。 ！ ？ । ۔ ؟ ։ ።``, and at an empty line.  Closing quotes and brackets
    right after the end belong to the sentence.  Only white space is dropped.  Abbreviations count
    as ends.  (Thai and Lao mark no ends: a paragraph is one sentence.)

    Examples
    --------
    >>> sentences("Is it? (It is.)  'Yes!' she said.")
    ['Is it?', '(It is.)', "'Yes!'", 'she said.']
    """
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(ends))
    return [part for part in parts if part]


def lines(text: str) -> list[str]:
    r"""Split a text into its lines, without those that hold white space only.

    Examples
    --------
    >>> lines("Vienna\n\n  Graz\n")
    ['Vienna', 'Graz']
    """
    return [line.strip() for line in text.splitlines() if line.strip()]


def words(sentence: str) -> list[str]:
    """Split a sentence into lower-case words and signs, by a simple rule, in any script.

    A word is a run of letters, digits and underscores, with apostrophes, hyphens and joiners
    inside; every other sign is one token.  A combining mark belongs to the character before it.  In
    scripts without spaces (Chinese, Japanese, Thai, ...) every sign is a token.  A sign may consist
    of several characters, such as a flag.  The tokens are in Unicode's normal form NFC, in which
    every é is the same.

    Raises
    ------
    ImportError
        If the sentence needs Unicode's segmentation, and ``regex`` is not installed.

    Examples
    --------
    >>> words("Don't panic: Ωμέγα-3 costs 4.50 €.")
    ["don't", 'panic', ':', 'ωμέγα-3', 'costs', '4', '.', '50', '€', '.']
    """
    lower = sentence.lower()
    if lower.isascii():
        return _token(ascii_=True).findall(lower)
    lower = unicodedata.normalize("NFC", lower)
    if _SEGMENTED.search(lower):
        # Some signs include the space after them.
        return [part for token in _segmented_token().findall(lower) for part in token.split()]
    return _token(ascii_=False).findall(lower)


def graphemes(text: str) -> list[str]:
    """Split a text into what its readers see as one character, in Unicode's normal form NFC.

    Unicode calls them extended grapheme clusters: a letter with all its marks, a flag, a family of
    emoji.

    Raises
    ------
    ImportError
        If the text is not ASCII, and ``regex`` is not installed.

    Examples
    --------
    >>> graphemes("नि👩‍🚀")
    ['नि', '👩\u200d🚀']
    """
    if text.isascii() and "\r\n" not in text:
        return list(text)
    found: list[str] = _regex().findall(r"\X", unicodedata.normalize("NFC", text))
    return found


def separator(before: str, after: str) -> str:
    """Return what stands between two words or signs in readable text: a space, or nothing."""
    if after[0] in _CLOSING or before[-1] in _OPENING:
        return ""
    wide = [bool(_WIDE.match(token)) for token in (before, after)]
    joined = all(wide) or (any(wide) and (before in _QUOTES or after in _QUOTES))
    return "" if joined else " "


def join_words(tokens: Sequence[str]) -> str:
    """Join words and signs to readable text, without the special tokens.

    Examples
    --------
    >>> join_words(["well", ",", "it", "(", "mostly", ")", "works", "."])
    'well, it (mostly) works.'
    >>> join_words(["你", "好", "。"])
    '你好。'
    """
    shown = [token for token in tokens if token not in SPECIAL]
    spaces = (separator(before, after) for before, after in pairwise(shown))
    return "".join(chain.from_iterable(zip(("", *spaces), shown, strict=True))) if shown else ""


def unspaced_script(text: str) -> str | None:
    """Return the script of a text most of whose letters have no spaces between words.

    It is what the beginning of the text says, of `SAMPLE` characters.

    Returns
    -------
    str or None
        Such as ``"Thai"``, in Unicode's words; None: the text has spaces.

    Examples
    --------
    >>> unspaced_script("今天天气很好。"), unspaced_script("今 is a sign.")
    ('Chinese', None)
    """
    text = text[:SAMPLE]
    found = Counter(_UNSPACED.findall(text))
    if 2 * found.total() <= len(re.findall(r"[^\W\d_]", text)) or not found:
        return None
    scripts: Counter[str] = Counter()
    for character, count in found.items():
        # Unicode's names begin with the script, "THAI CHARACTER KO KAI".
        scripts[unicodedata.name(character, "other").split()[0].split("-")[0].lower()] += count
    if scripts["hiragana"] + scripts["katakana"] > 0.1 * found.total():
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    return {"cjk": "Chinese", "myanmar": "Burmese"}.get(script, script.capitalize())


def has_marks(text: str) -> bool:
    """Return whether some signs of a text are several characters: marks, joiners, flags."""
    return any(
        unicodedata.category(c)[0] == "M"
        or c in "\u200c\u200d"
        or "\U0001f1e6" <= c <= "\U0001f1ff"
        for c in set(text)
    )


LEVELS: dict[str, Callable[[str], list[str]]] = {
    "words": words,
    "characters": list,
    "graphemes": graphemes,
}
"""The tokens that a text can be split into."""

PARTS: dict[str, Callable[[str], list[str]]] = {
    "sentence": sentences,
    "line": lines,
    "stream": lambda text: [text],
}
"""The parts of a text that are read by themselves; a stream is read as a whole."""


@cache
def _token(*, ascii_: bool) -> re.Pattern[str]:
    """Return the pattern of a word or sign; cached, because the full one is slow to build."""
    if ascii_:
        return re.compile(r"\w+(?:['\-]\w+)*|[^\w\s]")
    # Above these planes, only the block of variation selectors has marks.
    codes = chain(range(0x300, 0x20000), range(0xE0000, 0xE1000))
    mark = "".join(c for c in map(chr, codes) if unicodedata.category(c) in {"Mn", "Mc"})
    return re.compile(rf"\w[\w{mark}]*(?:['’\-]\w[\w{mark}]*)*|[^\w\s][{mark}]*")


@cache
def _segmented_token() -> Any:
    """Return the pattern of a word or sign by Unicode's rules; ``regex`` has sets and clusters."""
    first, more = rf"[\w--[{UNSPACED}]]", rf"[[\w--[{UNSPACED}]]\p{{M}}\u200c\u200d]*"
    return _regex().compile(rf"(?V1){first}{more}(?:['’\-]{first}{more})*|(?!\s)\X")


def _regex() -> Any:
    try:
        return importlib.import_module("regex")
    except ImportError as error:
        raise ImportError(
            "this text has signs of several characters, or no spaces between words; to split it, "
            'xprnn needs the package regex: pip install "xprnn[text]" (or read it by characters: '
            'level "characters", --level characters)'
        ) from error
