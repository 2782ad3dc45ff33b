"""What a file holds, in messages and on terminals: bounded in length, without control characters.

A file may come from a stranger, so nothing from it is printed or quoted in a message as it stands.
"""

import re
import reprlib
from collections.abc import Iterable
from itertools import islice

# The controls C0 and C1 and DEL, without tab and newline: a terminal obeys them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_quoted = reprlib.Repr()
_quoted.maxstring = _quoted.maxother = 80
_quoted.maxlong = 40
_quoted.maxlevel = 3


def quoted(value: object) -> str:
    """Return the repr of a value; the middle of long texts, numbers and containers is left out."""
    return _quoted.repr(value)


def in_quotes(text: str) -> str:
    """Return the repr of a text, with the joiners that belong to words and emoji as they are."""
    return repr(text).replace(r"\u200c", "\u200c").replace(r"\u200d", "\u200d")


def listed(values: Iterable[str], most: int = 12) -> str:
    """Return the first few of some names, separated by commas."""
    found = [shortened(value, 80) for value in islice(values, most + 1)]
    return ", ".join(found[:most]) + (", ..." if len(found) > most else "")


def shortened(text: str, most: int = 500) -> str:
    """Return a text of at most ``most`` characters; the middle of a longer one is left out."""
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def printable(text: str) -> str:
    r"""Return a text that a terminal only displays: control characters are written as escapes.

    Examples
    --------
    >>> printable("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
