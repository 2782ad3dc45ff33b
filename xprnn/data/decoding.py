"""Reading a file as text, and saying where it is none."""

from pathlib import Path


def decoded(file: Path, encoding: str) -> str:
    """Return a file's text.

    Raises
    ------
    OSError
        If it can't be read.
    ValueError
        If there is no such encoding, or the file is not in it; the first wrong byte is named.
    """
    content = file.read_bytes()
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise ValueError(
            f"the encoding is {encoding!r}, which Python does not know: expected the name of a "
            "text encoding (--encoding utf-8 or --encoding latin-1, say)"
        ) from error
    except UnicodeDecodeError as error:
        # A byte order mark is cut off before the rest is decoded.
        offset = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, offset) + 1
        raise ValueError(
            f"{str(file)!r}, line {line}, byte {offset} of the file: not {error.encoding}; if the "
            "file is in another encoding, name it (--encoding latin-1, say)"
        ) from error
