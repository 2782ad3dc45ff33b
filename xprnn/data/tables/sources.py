"""Where a table comes from: a file of some kind, which its first bytes show, or standard input."""

import bz2
import gzip
import io
import lzma
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.decoding import decoded
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.layout.layout import grid_of
from xprnn.data.tables.options import Reading
from xprnn.data.tables.sheets import OLD_EXCEL, excel, parquet

STDIN = "-"
LARGEST = 1 << 31
"""A compressed file may unpack to so many bytes."""

_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"
"""Bytes that Windows-1252 has no character for."""
_NO_TABLES = {
    re.compile(rb"%PDF-"): "a PDF document",
    re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"): "a picture",
    re.compile(
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|table)", re.I
    ): "a web page or XML",
    re.compile(rb'(\xef\xbb\xbf)?\s*(\{\s*"|\[\s*[\[{])'): "JSON",
}
_PACKED: dict[bytes, tuple[str, Callable[[io.BytesIO], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}


def open_table(
    path: str | os.PathLike[str], reading: Reading, columns: list[str | int] | None
) -> Grid:
    """Return the table in a file: text, compressed or not, Excel, or Parquet.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If it is none of these, or not a whole one.
    ImportError
        If pandas or what it needs is missing.
    """
    if str(path) == STDIN:
        content, name = sys.stdin.buffer.read(), "standard input"
    else:
        file = Path(path)
        content, name = file.read_bytes(), repr(str(file))
    content, notes = _unpacked(content, name)
    if content.startswith(b"PK\x03\x04"):
        content, told = _unzipped(content, name)
        notes = (*notes, *told)
    if content.startswith(b"PAR1"):
        return parquet(content, name, reading, columns)
    if content.startswith((b"PK\x03\x04", OLD_EXCEL)):
        return excel(content, name, reading)
    kind = next((kind for start, kind in _NO_TABLES.items() if start.match(content)), None)
    if kind is not None:
        raise ValueError(
            f"{name} is {kind}: expected a table, such as CSV, Excel or Parquet; save it as one"
        )
    encoding, choice = reading.encoding or "utf-8", ""
    if reading.encoding is None and _is_windows(content):
        encoding = "cp1252"
        choice = "not UTF-8, read as Windows-1252 (--encoding names another)"
        notes = (*notes, choice)
    grid = grid_of(decoded(content, name, encoding), name, reading.delimiter)
    return replace(grid, notes=(*notes, *grid.notes), choice=choice)


def _unzipped(content: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the only file in a zip archive; an Excel file, which is one too, as it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            names = [entry.filename for entry in files]
            if sum(entry.file_size for entry in files) > LARGEST:
                raise ValueError(f"{name} unpacks to more than {LARGEST >> 30} GiB")
            if any(entry.startswith("[Content_Types]") for entry in names):
                return content, ()
            if "content.xml" in names:
                raise ValueError(f"{name} is an OpenDocument file: save it as CSV or Excel")
            if len(files) != 1:
                raise ValueError(
                    f"{name} is a zip archive of {len(files)} files "
                    f"({listed(map(quoted, names), 4)}): expected one, unpack it first"
                )
            return archive.read(files[0]), (f"{names[0]} in a zip archive",)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise ValueError(f"{name} is not a whole zip or Excel file: {error}") from error


def _unpacked(content: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
    for magic, (kind, opener) in _PACKED.items():
        if not content.startswith(magic):
            continue
        try:
            with opener(io.BytesIO(content)) as stream:
                unpacked = stream.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{name} is not a whole {kind} file: {error}") from error
        if len(unpacked) > LARGEST:
            raise ValueError(f"{name} unpacks to more than {LARGEST >> 30} GiB")
        return unpacked, (kind,)
    return content, ()


def _is_windows(content: bytes) -> bool:
    """Whether bytes look like Windows-1252, or Latin-1, and not like UTF-8.

    In a table, the letters beyond ASCII are those of names.  Where they are most, or where some are
    UTF-8, it is another encoding or a damaged file.
    """
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        high = sum(content.count(bytes([k])) for k in range(0xC0, 0x100))
        letters = sum(map(str.isalpha, content.decode("ascii", "ignore")))
        odd = any(bytes([k]) in content for k in (*range(9), *range(14, 32), *_UNDEFINED))
        return not odd and 2 * high <= letters and content.decode("utf-8", "ignore").isascii()
    return False
