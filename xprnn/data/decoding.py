"""Reading a text file; an error says where the file is not text."""

from pathlib import Path


def read_decoded(file: Path, encoding: str) -> str:
    """Return a file's text.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If there is no such encoding, or the file is not in it; the message names the first wrong
        byte.
    """
    content = file.read_bytes()
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise ValueError(
            f"the encoding is {encoding!r}, which Python does not know: expected the name of a "
            "text encoding, such as encoding='utf-8' (on the command line: --encoding utf-8)"
        ) from error
    except UnicodeDecodeError as error:
        # The decoder has removed a byte order mark, if there was one.
        offset = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, offset) + 1
        raise ValueError(
            f"{str(file)!r}, line {line}, byte {offset} of the file: not {error.encoding}; if the "
            "file is in another encoding, name it, such as encoding='latin-1' (on the command "
            "line: --encoding latin-1)"
        ) from error
