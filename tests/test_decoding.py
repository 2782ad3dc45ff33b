"""Bytes as text: what they begin with is recognised, and what can't be is shown."""

import gzip

import pytest

from xprnn.data.decoding import decoded

TEXT = "naïve “word”,\r\nłąka,3.5\n"

PACKED = gzip.compress(b"abc", mtime=0)
"""Without a time, so that all processes of a run collect the same tests."""


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("asked", ["utf-8", "UTF8", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_of_unicode_are_recognised(encoding, asked, packed):
    content = TEXT.encode(encoding)
    found = decoded(gzip.compress(content, mtime=0) if packed else content, "'a.txt'", asked)
    assert found.removeprefix("\ufeff") == TEXT


def test_big_endian_marks():
    for encoding, mark in (("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\x00\x00\xfe\xff")):
        assert decoded(mark + "今天 ok".encode(encoding), "", "utf-8") == "今天 ok"


def test_an_encoding_that_is_named_is_taken_at_its_word():
    assert decoded(b"\xff\xfea\x00", "", "latin-1") == "ÿþa\x00"


@pytest.mark.parametrize(
    ("text", "encoding", "place"),
    [
        ("we don’t go", "cp1252", "it reads 'don’t go' with --encoding cp1252 (in"),
        ("one\rtwo café\rthree", "cp1252", "it reads 'café"),
        # Bytes that cp1252 lacks.
        ("a caf\x81\n" + "b" * 80, "latin-1", "with --encoding latin-1 (in"),
        ("Привет, мир", "cp1251", "'Привет, мир' with --encoding cp1251"),
        ("今日は天気がいい。", "shift_jis", "'今日は天気がいい。' with --encoding shift_jis"),
        ("今天天气很好。", "gb18030", "it reads '今天天气很好。' with --encoding gb18030;"),
        ("안녕하세요 세계", "euc_kr", "'안녕하세요 세계' with --encoding euc_kr"),
    ],
)
def test_other_encodings_are_shown_as_they_would_read(text, encoding, place):
    with pytest.raises(ValueError, match=r"^'a', line 1, byte \d+ of the file: not utf-8; ") as e:
        decoded(text.encode(encoding), "'a'", "utf-8")
    assert place in str(e.value)


def test_the_place_of_the_first_wrong_byte():
    content = b"\xef\xbb\xbfab\n" + b"x" * 50 + b" d\xe9"
    for asked in ("utf-8", "utf-8-sig"):
        with pytest.raises(ValueError, match=r"line 2, byte 58 of the file: not utf-8; it reads"):
            decoded(content, "'a'", asked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\x00\xff", "'a' is a zip archive (as .xlsx, .docx, "),
        (
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
            "'a' is a PDF document, not text: save it as text first",
        ),
        (PACKED[:-9], "'a' begins as a gzip file, but can't be unpacked: "),
        (PACKED[:-6] + b"\x00" * 6, "'a' begins as a gzip file, but can't be"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff", "can't be unpacked: "),
    ],
)
def test_files_that_are_no_text(content, message):
    with pytest.raises(ValueError) as error:
        decoded(content, "'a'", "utf-8")
    assert message in str(error.value)
