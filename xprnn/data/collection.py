"""Several files and folders as one text."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from xprnn.data.decoding import decoded, is_binary
from xprnn.data.text import plain_text


class Collection(NamedTuple):
    """A text from several files.

    Attributes
    ----------
    text : str
        The files' texts, one after the other, with an empty line between them.
    files : list of Path
        Where they are from, in this order.
    skipped : list of Path
        Files in folders that hold no text: pictures, archives, empty files and the like.
    """

    text: str
    files: list[Path]
    skipped: list[Path]


def read_texts(paths: Iterable[str | os.PathLike[str]], encoding: str = "utf-8") -> Collection:
    """Read files, and all files in folders, as one text.

    A folder's files are read in the order of their paths, with those in its folders; names that
    begin with a full stop are left out.  See `xprnn.data.text.read_text` for encodings.

    Raises
    ------
    OSError
        If a file or folder can't be read.
    ValueError
        If a file that was named, or every file of a folder, holds no text, or is not in the
        encoding; the message names the file.
    """
    texts: list[str] = []
    files: list[Path] = []
    skipped: list[Path] = []
    for path in map(Path, paths):
        found = _inside(path) if path.is_dir() else [path]
        before = len(files)
        for file in found:
            content = file.read_bytes()
            if path.is_dir() and (not content.strip() or is_binary(content)):
                skipped.append(file)
                continue
            name = repr(str(file))
            text = decoded(content, name, encoding)
            if path.is_dir() and "\0" in text:
                # A packed archive.
                skipped.append(file)
                continue
            texts.append(plain_text(text, name))
            files.append(file)
        if len(files) == before:
            raise ValueError(
                f"{str(path)!r} is a folder without text: {len(found)} files are in it, all empty "
                "or of other kinds"
            )
    return Collection("\n\n".join(texts), files, skipped)


def text_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return files, and those in folders that hold no pictures and the like, in order."""
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        for file in _inside(path):
            with file.open("rb") as opened:
                start = opened.read(1 << 16)
            if start.strip() and not is_binary(start):
                found.append(file)
    return found


def _inside(folder: Path) -> list[Path]:
    """Return the files in a folder and its folders, in the order of their paths."""
    found = []

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())
