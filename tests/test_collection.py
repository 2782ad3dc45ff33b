"""Several files and folders as one text."""

import gzip
import re

import pytest

from xprnn.data import read_texts


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "books"
    (inner / "part 2").mkdir(parents=True)
    (inner / ".git").mkdir()
    (inner / "b.txt").write_text("b b\r\n")
    (inner / "a.txt").write_bytes("ä ä".encode("utf-16"))
    (inner / "part 2" / "c.md.gz").write_bytes(gzip.compress(b"c c"))
    (inner / "part 2" / "cover.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    (inner / "data.bin").write_bytes(bytes(range(9)))
    (inner / "packed.tar.gz").write_bytes(gzip.compress(b"name" + bytes(99)))
    (inner / "empty").write_bytes(b"\n")
    (inner / ".hidden").write_text("hidden")
    (inner / ".git" / "x").write_text("hidden")
    return inner


def test_a_folder_is_read_in_order_without_what_is_no_text(folder):
    found = read_texts([folder])
    assert found.text == "ä ä\n\nb b\n\n\nc c"
    assert [file.name for file in found.files] == ["a.txt", "b.txt", "c.md.gz"]
    names = {file.name for file in found.skipped}
    assert names == {"cover.png", "data.bin", "packed.tar.gz", "empty"}


def test_files_come_in_the_order_given(folder):
    found = read_texts([folder / "b.txt", folder / "part 2", folder / "a.txt"])
    assert found.text == "b b\n\n\nc c\n\nä ä"


def test_what_was_named_must_be_text(folder, tmp_path):
    for name in ("empty", "part 2/cover.png"):
        with pytest.raises(ValueError, match=re.escape(repr(str(folder / name)))):
            read_texts([folder / "b.txt", folder / name])
    (folder / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"c.txt', line 1, byte 3 of the file: not utf-8; it"):
        read_texts([folder])
    assert read_texts([folder / "c.txt"], "latin-1").text == "café"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"none' is a folder without text: 1 files are in it"):
        read_texts([tmp_path / "none"])
    with pytest.raises(FileNotFoundError):
        read_texts([tmp_path / "absent"])
