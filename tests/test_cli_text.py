"""``xprnn train text`` and ``xprnn sample``."""

import re

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn import RNN, History, LanguageModel, TrainingInterrupted, diagnostics
from xprnn.cli import main
from xprnn.cli.train import session

pytestmark = pytest.mark.slow

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


def test_a_prompt_that_is_not_utf_8_is_written_as_it_came(corpus, tmp_path, capsys):
    train(corpus, tmp_path / "run")
    words = ["sample", str(tmp_path / "run" / "model.safetensors"), "--out", str(tmp_path)]
    assert main([*words, "--prompt", "caf\udce9"]) == 0
    assert (tmp_path / "sample.txt").read_bytes().startswith(b"caf \xe9")
    assert "read as UNKNOWN: 'caf', '\\udce9'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--length", "0"), "--length is 0: expected an int of at least 1"),
        (("--temperature", "-1"), "--temperature is -1.0: expected a number at least 0"),
        (("--temperature", "nan"), "--temperature is nan: expected a number at least 0"),
        (("--top-k", "0"), "--top-k is 0: expected an int of at least 1"),
        (("--top-p", "0"), "--top-p is 0.0: expected a number above 0"),
        (("--top-p", "1.01"), "--top-p is 1.01: expected a number above 0, at most 1"),
        (("--stop", ""), "--stop is an empty text: expected at least one character"),
    ],
)
def test_samples_that_are_refused_before_the_model_is_read(options, message, capsys):
    assert main(["sample", "no model", *options]) == 1
    assert message in capsys.readouterr().err


def test_the_same_seed_gives_the_same_files(corpus, tmp_path):
    """Whenever the losses are read."""
    for name, every in (("one", 1), ("two", 5)):
        assert train(corpus, tmp_path / name, "--seed", "3", "--report-every", every) == 0
    for file in ("model.safetensors", "history.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", (), "holds no text"),
        (b"caf\xe9 au lait", (), "line 1, byte 3 of the file: not utf-8"),
        (
            b"one sentence only",
            (),
            "the text has 1 sentence: too few to hold a part out (sentences end at . ! ? and their "
            "like, or at an empty line; without those, try --unit line, --unit stream or --level "
            "characters)",
        ),
        (
            TEXT.encode(),
            ("--vocabulary", "99"),
            "--vocabulary is 99, but the part that is trained on has 15 different words and signs: "
            "expected at most 18 (3 are special)",
        ),
        (
            TEXT.encode(),
            ("--vocabulary", "99", "--level", "characters"),
            "--vocabulary is 99, but the part that is trained on has 19 different characters",
        ),
        (TEXT.encode(), ("--window", "-1"), ": --window is -1: expected 0 or more steps"),
        (TEXT.encode(), ("--held-out", "1.5"), "--held-out is 1.5"),
        (TEXT.encode(), ("--encoding", "klingon"), "the encoding is 'klingon', which Python does"),
        (
            TEXT[:120].encode(),
            ("--level", "characters"),
            "the held-out part has 12 characters, too few for 16 streams: expected --batch 11 or "
            "less, or a longer text",
        ),
        (
            b"ab",
            ("--level", "characters", "--held-out", "0.5"),
            "the training part has 1 characters, too few for 16 streams: expected a longer text",
        ),
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


def test_a_short_text_is_trained_on_with_the_batch_that_the_message_names(tmp_path):
    file = tmp_path / "short.txt"
    file.write_text(TEXT[:120])
    assert train(file, tmp_path / "run", "--level", "characters", "--batch", "11") == 0


@pytest.mark.parametrize("level", ["words", "characters"])
@pytest.mark.parametrize(
    "options",
    [
        ("--lr", "1000", "--clip", "1000"),
        ("--cell", "elman", "--activation", "relu", "--lr", "50", "--clip", "1000"),
        ("--cell", "elman", "--activation", "relu", "--lr", "1e10", "--clip", "1e30"),
    ],
)
def test_a_bad_training_is_told_as_what_it_is(level, options, corpus, tmp_path):
    words = ("train", "text", corpus, "--level", level, "--epochs", 3, "--out", tmp_path / "run")
    result = run(*words, "--optimizer", "sgd", "--schedule", "halve", *options)
    (row,) = re.findall(r"^  network +\S+ \((\S+)\) +\S+ \((\S+)\)$", result.out, re.MULTILINE)
    assert all(float(perplexity) > 1 for perplexity in row)
    assert "None" not in result.out
    model, history = tmp_path / "run" / "model.safetensors", tmp_path / "run" / "history.jsonl"
    assert RNN.load(model).input_size
    assert ("loss.png" in result.out) is (len(History.load(history)) > 0)
    if result.status:
        assert result.status == 1
        assert re.match(r"xprnn: error: the (validation )?loss is (nan|inf) in", result.last_error)
        assert result.last_error.endswith(f"; it is {model}")


def test_the_perplexity_of_a_large_loss_is_infinite(corpus, tmp_path):
    words = ("train", "text", corpus, "--epochs", 1, "--hidden", 12, "--lr", 1e5, "--clip", 1e5)
    result = run(*words, "--optimizer", "sgd", "--cell", "elman", "--out", tmp_path / "run")
    assert result.status == 0
    assert re.search(r"^  network +\S+ \(inf\) +\S+ \(inf\)$", result.out, re.MULTILINE)


def test_an_early_end_says_why(corpus, tmp_path):
    words = ("--epochs", 40, "--patience", 2, "--lr", 0.1, "--hidden", 4)
    result = run("train", "text", corpus, *words, "--out", tmp_path)
    assert result.status == 0
    best = re.search(r"; kept epoch (\d+): 2 more without a lower held-out loss ended", result.out)
    assert f"trained {int(best[1]) + 2} epochs in " in result.out


def test_weights_that_overflow_do_not_hide_how_the_training_ended(corpus, tmp_path, monkeypatch):
    def fit(net, batches, **options):
        p = net.parameters
        net.parameters = {name: np.full_like(p[name], 3e38) for name in p}
        raise TrainingInterrupted(History())

    monkeypatch.setattr(session, "fit", fit)
    words = ("--cell", "elman", "--activation", "relu", "--out", tmp_path / "run")
    result = run("train", "text", corpus, *words)
    assert result.status == 130
    assert re.search(r"^  network +(nan|inf) ", result.out, re.MULTILINE)
    assert "; kept no epoch\n" in result.out
    assert "loss.png" not in result.out
    model = tmp_path / "run" / "model.safetensors"
    assert result.error == (
        f"xprnn: training interrupted after 0 epochs; the model so far is {model}"
    )


@pytest.mark.parametrize("where", ["plot_loss", "save_figure"])
def test_ctrl_c_after_the_training_says_where_the_model_is(corpus, tmp_path, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(diagnostics, where, interrupt)
    result = run("train", "text", corpus, "--epochs", 1, "--out", tmp_path / "run")
    assert result.status == 130
    model = tmp_path / "run" / "model.safetensors"
    assert result.last_error == f"xprnn: interrupted; the model is {model}"
    assert RNN.load(model).input_size
