"""Texts larger than memory: read a piece at a time, their tokens kept in a file.

A text is read once: tokens are numbered as they come and written into a file; then the vocabulary
is known, and the numbers in the file are replaced by its own.  In memory are a piece of the text
and the different tokens.
"""

import gzip
import io
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.batches import Batch
from xprnn.data.decoding import begins_as
from xprnn.data.text import streams
from xprnn.data.vocabulary import SPECIAL, Vocabulary

PIECE = 1 << 22
"""Characters that are read at once."""
LONGEST = 1 << 26
"""Characters of a line from which on it is cut, wherever that is."""
TOKEN = "int32"
AT_ONCE = 1 << 20
"""Tokens in the file that are replaced at once."""
DISK = Path("/var/tmp")
"""Where large files may be for a while; /tmp may be memory."""


class Tokens(NamedTuple):
    """The tokens of a text, in a file.

    Attributes
    ----------
    vocabulary : Vocabulary
    training, held_out : numpy.memmap of int32
    unknown : (int, int)
        How many tokens of both parts are not in the vocabulary.
    """

    vocabulary: Vocabulary
    training: HostArray
    held_out: HostArray
    unknown: tuple[int, int]


def pieces(files: Sequence[Path], encoding: str = "utf-8") -> Iterator[str]:
    r"""Iterate over a text in several files, some 4 million characters at a time.

    The line ends of all systems become ``\n``, and between files there is an empty line, as in
    `xprnn.data.read_texts`.

    Raises
    ------
    OSError
        If a file can't be read.
    ValueError
        If a file is not in the encoding; the message names the file.
    """
    for number, file in enumerate(files):
        if number:
            yield "\n\n"
        name = repr(str(file))
        with file.open("rb") as raw:
            start = raw.read(1 << 16)
            raw.seek(0)
            packed, found = begins_as(start, name, encoding)
            opened: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            try:
                with io.TextIOWrapper(opened, encoding=found, newline=None) as text:
                    yield from _whole_lines(text)
            except UnicodeDecodeError as error:
                byte = f"{error.reason} ({error.object[error.start]:#x})"
                raise ValueError(
                    f"{name} is not {error.encoding}: {byte}; --encoding NAME says what it is in "
                    "(in Python, encoding=...)"
                ) from error
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{name} can't be unpacked: {error}") from error


def _whole_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Iterate over a file's text in pieces that end at the end of a line."""
    left, first = "", True
    while piece := text.read(PIECE):
        if first:
            piece, first = piece.removeprefix("\ufeff"), False
        left += piece
        end = left.rfind("\n") + 1
        if not end and len(left) > LONGEST:
            end = len(left)
        if end:
            yield left[:end]
            left = left[end:]
    if left:
        yield left


def tokens_of(
    text: Iterable[str],
    split: Callable[[str], Sequence[str]],
    border: Callable[[int], int],
    vocabulary: Vocabulary | Callable[[int], int | None],
) -> Tokens:
    """Return the tokens of a text that is read once, in a file that ends with this process.

    Parameters
    ----------
    text : iterable of str
        Its pieces; no token reaches across two.
    split : callable
        Returns a piece's tokens.
    border : callable
        Returns how many of the tokens are trained on, of all.
    vocabulary : Vocabulary or callable
        One that is there; or what returns the size of a new one from that of the largest, as
        `Vocabulary.of` takes it.

    Raises
    ------
    ValueError
        See `Vocabulary.of`.
    """
    known: dict[str, int] = {}
    count = 0
    with tempfile.TemporaryFile(dir=DISK if DISK.is_dir() else None) as file:
        for piece in text:
            found = split(piece)
            numbers = [known.setdefault(token, len(known)) for token in found]
            np.array(numbers, dtype=TOKEN).tofile(file)
            count += len(numbers)
        stop = border(count)
        file.flush()
        # The mapping holds the file, which has no name any more, until it is dropped.
        tokens = np.memmap(file, dtype=TOKEN, mode="r+", shape=(count,))
    if not isinstance(vocabulary, Vocabulary):
        vocabulary = _vocabulary(tokens[:stop], list(known), vocabulary)
    index = np.array([vocabulary.index.get(token, 0) for token in known], dtype=TOKEN)
    unknown = [0, 0]
    for start in range(0, count, AT_ONCE):
        part = tokens[start : start + AT_ONCE]
        part[...] = index[part]
        missing = part == 0
        trained = max(0, min(stop - start, len(part)))
        unknown[0] += int(missing[:trained].sum())
        unknown[1] += int(missing[trained:].sum())
    return Tokens(vocabulary, tokens[:stop], tokens[stop:], (unknown[0], unknown[1]))


def _vocabulary(
    tokens: HostArray, known: Sequence[str], size_of: Callable[[int], int | None]
) -> Vocabulary:
    """Return the vocabulary of numbered tokens, the same as `Vocabulary.of`."""
    counts = np.zeros(len(known), dtype=np.int64)
    for start in range(0, len(tokens), AT_ONCE):
        counts += np.bincount(tokens[start : start + AT_ONCE], minlength=len(known))
    for k, token in enumerate(known):
        if token in SPECIAL:
            counts[k] = 0
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    if not len(order):
        raise ValueError("the corpus is empty: expected at least one token")
    size = size_of(len(order) + len(SPECIAL))
    if size is not None:
        order = order[: size - len(SPECIAL)]
    return Vocabulary((*SPECIAL, *(known[k] for k in order)))


class stream_chunks:  # noqa: N801
    """Tokens on disk in parallel streams, a chunk of steps at a time, with the state carried over.

    The same batches as ``chunks(*streams(tokens, count), steps)``, brought to a backend one by one.

    Parameters
    ----------
    tokens : numpy.memmap of int, (N,)
    count : int
        B.
    steps : int
        Of a chunk.
    backend : Backend
    """

    def __init__(self, tokens: HostArray, count: int, steps: int, backend: Backend) -> None:
        self.x, self.target = streams(tokens, count)
        self.steps, self.backend = checks.positive_int("steps", steps), backend

    def __len__(self) -> int:
        return (int(self.x.shape[0]) + self.steps - 1) // self.steps

    def state(self) -> None:
        """Return None: the next epoch depends on nothing."""

    def restore(self, state: None) -> None:
        """Do nothing: every epoch is the same."""
        del state

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.x.shape[0], self.steps):
            part = slice(start, start + self.steps)
            x, target = (
                self.backend.asarray(np.array(a[part], dtype=np.int64, order="C"))
                for a in (self.x, self.target)
            )
            yield Batch(x, target, start > 0)
