"""Texts that are read a piece at a time: the same training as of the whole text, in less memory."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import xprnn
from tests.cli_tools import run
from xprnn.data import NGram, chunks, on_disk, read_texts
from xprnn.data.on_disk import pieces, stream_chunks, tokens_of
from xprnn.data.segmentation import words
from xprnn.data.text import SPECIAL, Vocabulary, streams

LINE = "a few words, and a few more of them: UNKNOWN {}\n"


def written(path: Path, lines: int, end: str = "\n") -> Path:
    text = "".join(LINE.format(k * k % 97) for k in range(lines))
    path.write_text(text.replace("\n", end), encoding="utf-8", newline="")
    return path


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "PIECE", 1000)
    monkeypatch.setattr(on_disk, "AT_ONCE", 1000)


def test_pieces_are_the_text(tmp_path: Path) -> None:
    files = [written(tmp_path / "a", 300, "\r\n"), written(tmp_path / "b", 3, "\r")]
    packed = tmp_path / "c.gz"
    packed.write_bytes(gzip.compress("zażółć\n".encode("utf-16") * 400))
    files.append(packed)
    found = [*pieces(files)]
    assert "".join(found) == read_texts(files).text
    assert max(map(len, found)) < 1100
    assert all(piece.endswith("\n") for piece in found)


def test_tokens_are_those_of_the_whole_text(tmp_path: Path) -> None:
    file = written(tmp_path / "a", 300)
    whole = words(file.read_text())
    border = 9 * len(whole) // 10
    for size in (None, 20):
        found = tokens_of(pieces([file]), words, lambda n: 9 * n // 10, lambda _, s=size: s)
        wanted = Vocabulary.of([whole[:border]], size)
        assert found.vocabulary == wanted
        assert np.array_equal(found.training, wanted.encode(whole[:border]))
        assert np.array_equal(found.held_out, wanted.encode(whole[border:]))
        assert found.unknown[0] == sum(token not in wanted.index for token in whole[:border])
    again = tokens_of(pieces([file]), words, lambda n: 1, wanted)
    assert np.array_equal(again.held_out, wanted.encode(whole[1:]))


def test_batches_are_those_of_chunks() -> None:
    tokens = np.random.default_rng(0).integers(0, 9, 1001)
    given = stream_chunks(tokens, 3, 50, xprnn.get_backend("numpy"))
    wanted = chunks(*streams(tokens, 3), 50)
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.target, other.target)
        assert one.carry == other.carry


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    peaks = []
    for lines in (2000, 16000):
        file = written(tmp_path / "a", lines)
        tracemalloc.start()
        found = tokens_of(pieces([file]), list, lambda n: n - 100, lambda _: None)
        for _ in stream_chunks(found.training, 16, 50, xprnn.get_backend("numpy")):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < file.stat().st_size / 4
    assert peaks[1] < 1.2 * peaks[0]


def command(path: Path, out: str, *words: object) -> xprnn.History:
    given = ("--level", "characters", "--hidden", 8, "--epochs", 2, "--batch", 4)
    done = run("train", "text", path, *given, "--out", path.parent / out, *words)
    assert done.status == 0, done.err
    assert ("its tokens are on disk" in done.out) == ("--stream" in words)
    return xprnn.History.load(path.parent / out / "history.jsonl")


@pytest.mark.full
def test_the_command_trains_as_on_the_whole_text(tmp_path: Path) -> None:
    file = written(tmp_path / "a.txt", 60)
    whole, streamed = command(file, "whole"), command(file, "streamed", "--stream")
    assert whole.loss == streamed.loss
    assert whole.validation_loss == streamed.validation_loss
    one, other = (xprnn.RNN.load(tmp_path / n / "model.safetensors") for n in ("whole", "streamed"))
    for name, p in one.parameters.items():
        assert np.array_equal(p, other.parameters[name])
    checkpoint = ("--checkpoint", tmp_path / "it.ckpt", "--resume", "--stream")
    command(file, "resumed", *checkpoint, "--epochs", 1, "--schedule", "constant")
    resumed = command(file, "resumed", *checkpoint, "--schedule", "constant")
    assert resumed.loss == command(file, "all", "--stream", "--schedule", "constant").loss


@pytest.mark.slow
def test_a_large_text_is_streamed_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xprnn.cli.train.text.LARGE", 1000)
    monkeypatch.setattr("xprnn.cli.train.corpus.COUNTED", 500)
    file = written(tmp_path / "a.txt", 60)
    done = run("train", "text", file, "--hidden", 4, "--epochs", 1, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "as one stream; its tokens are on disk" in done.out
    assert "the 3-gram model counts the last 500 words and signs" in done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--stream"], "--stream reads files a piece at a time: expected the name of one"),
        (["FILE", "--stream", "--unit", "line"], "the unit is line: expected --unit stream"),
        (["FILE", "--stream", "--vocabulary", "999"], "--vocabulary is 999, but the part that is"),
        (["FILE", "--stream", "--batch", "9999"], "too few for 9999 streams"),
        (["FILE", "--stream", "--encoding", "nope"], "'nope', which Python does not know"),
        (["EMPTY", "--stream"], "holds no text"),
        (["LATIN", "--stream"], "is not utf-8: invalid"),
    ],
)
def test_what_can_not_be_streamed(words: list[str], expected: str, tmp_path: Path) -> None:
    written(tmp_path / "FILE", 30)
    (tmp_path / "EMPTY").write_text(" \n")
    (tmp_path / "LATIN").write_bytes("é words\n".encode("latin-1") * 500)
    given = [tmp_path / word if word.isupper() else word for word in words]
    done = run("train", "text", *given, "--out", tmp_path / "out")
    assert done.status
    assert expected in done.err


def test_special_words_and_ngrams_are_those_of_memory(tmp_path: Path) -> None:
    file = written(tmp_path / "a", 300)
    found = tokens_of(pieces([file]), str.split, lambda n: n - 10, lambda _: None)
    assert found.vocabulary.tokens[:3] == SPECIAL
    # Of the 300 one is held out.
    assert found.unknown == (299, 1)
    counted = NGram.fitted([np.array(found.training)], 2, len(found.vocabulary))
    assert counted.loss([np.array(found.held_out)]) > 0
