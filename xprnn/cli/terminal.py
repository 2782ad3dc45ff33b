"""What commands print, made harmless for a terminal."""

import codecs
import io
from typing import TextIO

from xprnn.backend.host.quoting import printable


def _escape_or_replace(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what an encoding lacks as a question mark, and bytes that were not decoded as such.

    Python's ``surrogateescape``, which the locale C has, does the second only, and fails otherwise.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return (
        b"".join(bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else b"?" for c in lacking),
        error.end,
    )


codecs.register_error("xprnn.escape_or_replace", _escape_or_replace)
ENCODING_ERRORS = {"strict": "replace", "surrogateescape": "xprnn.escape_or_replace"}
"""What commands do with characters that the terminal's encoding lacks, by what Python would do."""


class PrintableStream(io.TextIOBase):
    """A text stream in which control characters of what is written become escapes.

    Files hold names and words that commands print; without this, they could send a terminal
    anything, such as a sequence that changes its title or hides lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def flush(self) -> None:
        self.stream.flush()

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)
