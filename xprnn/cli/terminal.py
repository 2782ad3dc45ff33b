"""What commands print, made harmless for a terminal."""

import io
from typing import TextIO

from xprnn.backend.host.quoting import printable


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
