"""Bytes of a file as text: what they begin with says a lot; an error says where they are not text.

A byte order mark, zero bytes between the characters (UTF-16 without a mark) and gzip are
recognised.  Encodings of one byte a character are not: cp1252 and cp1251 can't be told apart by a
program, but at a glance by a reader, so the error shows how the place reads in those that fit.
"""

import codecs
import gzip
import zlib
from contextlib import suppress
from pathlib import Path

from xprnn.backend.host.quoting import quoted

_MARKS = (
    # UTF-32 before UTF-16, whose mark its own begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = {
    b"PK\x03\x04": "a zip archive (as .xlsx, .docx, .odt and .epub files are)",
    b"%PDF-": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Office document (.xls, .doc)",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_GZIP = b"\x1f\x8b"
_UNICODE = ("utf_8", "utf_8_sig")
_EUROPEAN = ("cp1252", "latin-1")
_OTHERS = ("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251")


def read_decoded(file: Path, encoding: str) -> str:
    """Return a file's text; see `decoded`.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        See `decoded`.
    """
    return decoded(file.read_bytes(), repr(str(file)), encoding)


def decoded(content: bytes, name: str, encoding: str) -> str:
    """Return bytes as text.

    Parameters
    ----------
    content : bytes
        Compressed by gzip, or not.
    name : str
        What messages call it, in quotes if it is the name of a file.
    encoding : str
        UTF-8 means any encoding of Unicode that can be recognised; any other is taken at its word.

    Raises
    ------
    ValueError
        If there is no such encoding, or the bytes are not in it; the message names the first wrong
        byte.
    """
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{name} begins as a gzip file, but can't be unpacked: {error}") from (
                error
            )
    try:
        if codecs.lookup(encoding).name.replace("-", "_") in _UNICODE:
            encoding = _recognised(content) or encoding
        return content.decode(encoding)
    except LookupError as error:
        raise ValueError(_unknown_encoding(encoding)) from error
    except UnicodeDecodeError as error:
        for start, kind in _NOT_TEXT.items():
            if content.startswith(start):
                raise ValueError(f"{name} is {kind}, not text: save it as text first") from error
        # The decoder has removed a byte order mark, if there was one.
        offset = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, offset) + 1
        raise ValueError(
            f"{name}, line {line}, byte {offset} of the file: not {error.encoding}; "
            f"{_advice(content, offset)}"
        ) from error


def begins_as(start: bytes, name: str, encoding: str) -> tuple[bool, str]:
    """Return whether a file that begins with these bytes is packed by gzip, and its encoding.

    Raises
    ------
    ValueError
        If there is no such encoding.
    """
    packed = start.startswith(_GZIP)
    if packed:
        with suppress(EOFError, OSError, zlib.error):
            start = zlib.decompressobj(wbits=31).decompress(start, 1 << 16)
    try:
        if codecs.lookup(encoding).name.replace("-", "_") in _UNICODE:
            encoding = _recognised(start) or encoding
    except LookupError as error:
        raise ValueError(f"{name}: {_unknown_encoding(encoding)}") from error
    return packed, encoding


def _unknown_encoding(encoding: str) -> str:
    return (
        f"the encoding is {encoding!r}, which Python does not know: expected the name of a "
        "text encoding, such as encoding='utf-8' (on the command line: --encoding utf-8)"
    )


def is_binary(content: bytes) -> bool:
    """Return whether the bytes of a file are no text: a picture or an archive, say."""
    if content.startswith(tuple(_NOT_TEXT)):
        return True
    if content.startswith(_GZIP):
        return False
    return b"\0" in content[:65536] and _recognised(content) is None


def _recognised(content: bytes) -> str | None:
    """Return the encoding of Unicode that bytes show by themselves; None: no other than UTF-8."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    # Without a mark: in UTF-16 every other byte of a text with ASCII characters is zero.
    start = content[:4096]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if 4 * max(even, odd) > len(start) // 2 and not min(even, odd):
        return "utf-16-be" if even else "utf-16-le"
    return None


def _advice(content: bytes, offset: int) -> str:
    """Return which encoding to name: those that fit, with what stands there in each."""
    start = content.removeprefix(codecs.BOM_UTF8)[:65536]
    beyond = sum(byte >= 0x80 for byte in start)
    # Letters with accents are the fewer in a text; other alphabets are beyond ASCII throughout.
    candidates = (
        _OTHERS
        if 2 * beyond > sum(chr(byte).isalpha() for byte in start if byte < 0x80)
        else _EUROPEAN
    )
    shown = []
    for encoding in candidates:
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        begin = max(content.rfind(byte, 0, offset) for byte in (b"\n", b"\r", b" "))
        text = content[max(begin + 1, offset - 20) : offset + 30]
        place = text.decode(encoding, errors="ignore").split("\n")[0].strip()
        shown.append(f"{quoted(place)} with --encoding {encoding}")
        if candidates is _EUROPEAN:
            break
    places = f"it reads {'; '.join(shown)}" if shown else "--encoding NAME says what it is in"
    return f"{places} (in Python, encoding=...)"
