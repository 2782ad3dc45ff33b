"""What is in the cache of compiled code, and for which processor."""

from collections import Counter
from contextlib import suppress
from typing import NamedTuple

from xprnn.backend.numba.build import cache_folder, compiled_files, made_for


class Kept(NamedTuple):
    """Functions in the cache.

    Attributes
    ----------
    made_for : str
        The processor, the width of its vectors, and the versions that compiled them, in words;
        empty for a version of xprnn that did not say so.
    functions : int
    in_use : bool
        Whether this process would load them.
    """

    made_for: str
    functions: int
    in_use: bool


def kept() -> list[Kept]:
    """Return what is in the cache, first what this process would load, which may be nothing."""
    own, folder = made_for(), cache_folder()
    counts = Counter({own: 0})
    for file in folder.glob("*.py") if folder is not None and folder.is_dir() else ():
        with suppress(OSError):
            if compiled_files(file):
                _, _, words = file.read_text(errors="replace").partition("\n# for ")
                counts[words.strip()] += 1
    ordered = sorted(counts.items(), key=lambda item: (item[0] != own, item[0]))
    return [Kept(words, count, words == own) for words, count in ordered]
