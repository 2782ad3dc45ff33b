"""``xprnn train text`` and ``xprnn sample``."""

import re

import pytest

from xprnn import RNN, History, LanguageModel
from xprnn.cli import main

TEXT = "the cat sat on the mat. a dog ran to the cat! did the mat move? no.\n" * 30


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text(TEXT)
    return file


def train(corpus, out, *options):
    words = ["train", "text", corpus, "--out", out, "--hidden", "12", "--epochs", "3"]
    return main([str(word) for word in (*words, *options)])


@pytest.mark.parametrize("level", ["words", "characters"])
def test_train_and_sample(level, corpus, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(corpus, out, "--level", level, "--window", "4") == 0
    printed = capsys.readouterr().out
    rows = re.findall(r"(network|3-gram).*?([\d.]+) \([\d.]+\) +([\d.]+) \(", printed)
    assert [row[0] for row in rows] == ["3-gram", "network"]
    history = History.load(out / "history.jsonl")
    kept = min(history.validation_loss)
    assert float(rows[1][2]) == pytest.approx(kept, abs=6e-4)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")

    model = LanguageModel.of(RNN.load(out / "model.safetensors"))
    assert model.level == level
    saved = str(out / "model.safetensors")
    assert main(["sample", saved, "--prompt", "the c", "--length", "9"]) == 0
    first = capsys.readouterr()
    assert first.out == model.sample("the c", 9, rng=0) + "\n"
    if level == "words":
        assert "not in the vocabulary, read as UNKNOWN: 'c'" in first.err


def test_sample_to_a_file(corpus, tmp_path, capsys):
    train(corpus, tmp_path / "run")
    model = str(tmp_path / "run" / "model.safetensors")
    assert main(["sample", model, "--out", str(tmp_path / "s"), "--seed", "4"]) == 0
    assert str(tmp_path / "s") in capsys.readouterr().out
    expected = LanguageModel.of(RNN.load(model)).sample("", 100, rng=4)
    assert (tmp_path / "s" / "sample.txt").read_text() == expected + "\n"


def test_the_same_seed_gives_the_same_files(corpus, tmp_path):
    for name in ("one", "two"):
        assert train(corpus, tmp_path / name, "--seed", "3") == 0
    for file in ("model.safetensors", "history.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", (), "holds no text"),
        (b"caf\xe9 au lait", (), "byte 3: not utf-8"),
        (b"one sentence only", (), "the text has 1 sentences: too few"),
        (TEXT.encode(), ("--vocabulary", "99"), "but the corpus has 15 different tokens"),
        (TEXT.encode(), ("--window", "-1"), "window is -1: expected 0 or more steps"),
        (TEXT.encode(), ("--held-out", "1.5"), "--held-out is 1.5"),
        (b"ab", ("--level", "characters", "--held-out", "0.5"), "do not make 16 streams"),
    ],
)
def test_errors_are_one_line(content, options, message, tmp_path, capsys):
    file = tmp_path / "corpus.txt"
    file.write_bytes(content)
    assert train(file, tmp_path / "run", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_sample_refuses_other_models(tmp_path, capsys):
    RNN(2, 2).save(tmp_path / "m.safetensors")
    assert main(["sample", str(tmp_path / "m.safetensors")]) == 1
    assert "no language model" in capsys.readouterr().err
