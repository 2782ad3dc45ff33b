"""``xprnn train text`` and ``sample`` on the texts that people have."""

import contextlib
import io
import random
import re
import subprocess
import sys

import pytest

from tests.cli_tools import environment, run
from xprnn import RNN, History, LanguageModel, TrainingInterrupted, diagnostics
from xprnn.cli import main
from xprnn.cli.train import session

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    """Draw nothing: another file looks at the pictures."""
    monkeypatch.setattr(diagnostics, "plot_loss", lambda *_, **__: None)
    monkeypatch.setattr(diagnostics, "save_figure", lambda *_: None)


SMALL = ("--hidden", 6, "--epochs", 1, "--batch", 4)


def made(signs, stop, joint="", seed=0, count=120):
    """A text of sentences of these signs."""
    rng = random.Random(seed)
    return " ".join(
        joint.join(rng.choices(signs, k=rng.randint(3, 9))) + stop for _ in range(count)
    )


def train(tmp_path, text, *options, encoding="utf-8"):
    """Train on a text; return what was printed, and the model."""
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode(encoding))
    result = run("train", "text", file, *SMALL, *options, "--out", tmp_path / "run")
    assert result.status == 0, result.err
    return result.out, LanguageModel.of(RNN.load(tmp_path / "run" / "model.safetensors"))


@pytest.mark.parametrize(
    ("text", "script", "level"),
    [
        (made("今天气很好我去学校", "。"), "Chinese", "characters"),
        (made(["ねこ", "が", "好き", "です"], "。"), "Japanese", "characters"),
        (made(["ไป", "ตลาด", "ที่", "บ้าน"], ""), "Thai", "graphemes"),
        (made(["ខ្ញុំ", "ទៅ", "ផ្ទះ"], "។"), "Khmer", "graphemes"),
        (made(["မင်", "ကောင်း", "လား"], "။"), "Burmese", "graphemes"),
    ],
)
def test_scripts_without_spaces_are_recognised_and_told(text, script, level, tmp_path):
    out, model = train(tmp_path, text)
    assert out.startswith(f"{script} has no spaces between words: read by {level}, as --level ")
    assert (model.level, model.unit) == (level, "stream")
    assert "UNKNOWN" not in out
    if script not in {"Chinese", "Khmer"}:
        return
    # As words, every sign is one.
    out, model = train(tmp_path, text, "--level", "words")
    assert out.startswith(f"{script} has no spaces between words: every sign is read as a word\n")
    assert "UNKNOWN" not in out
    assert max(map(len, model.vocabulary.tokens[3:])) < 9


@pytest.mark.parametrize(
    ("signs", "stop"),
    [
        (["می‌خواهم", "نمی‌دانم", "کتاب‌ها", "خوب"], "."),
        (["کتاب", "گھر", "ہے"], "۔"),
        (["بيت", "هو", "كتاب"], "؟"),
        (["घर", "किताब", "है"], "।"),
        (["տուն", "գիրք"], "։"),
        (["ቤት", "መጽሐፍ"], "።"),
        (["👨‍👩‍👧", "🇦🇹", "hi", "👍🏽", "❤️"], "!"),
        (["it’s", "naïve", "café"], "…"),
    ],
)
def test_words_and_sentence_ends_of_all_scripts(signs, stop, tmp_path):
    out, model = train(tmp_path, made(signs, stop, " "))
    assert "in 120 sentences, the last 12 held out" in out
    tokens = set(model.vocabulary.tokens[3:])
    assert tokens == {*signs, stop}
    assert (model.level, model.unit) == ("words", "sentence")


@pytest.mark.parametrize(
    ("end", "encoding"),
    [("\r", "utf-8"), ("\r\n", "utf-16"), ("\r", "utf-16-le"), ("\n", "utf-32")],
)
def test_line_ends_and_encodings(end, encoding, tmp_path):
    text = made(["cat", "don’t"], "", " ").replace(" cat don’t", f"{end}{end}cat don’t")
    out, model = train(tmp_path, text, encoding=encoding)
    assert int(re.search(r"in (\d+) sentences", out)[1]) == text.count(end + end) + 1
    assert set(model.vocabulary.tokens[3:]) == {"cat", "don’t"}


def test_a_text_without_sentence_ends_is_told(tmp_path):
    text = "\n".join(made(["dog", "sat", "on"], "", " ", count=1, seed=k) for k in range(200))
    out, model = train(tmp_path, text)
    assert re.match(
        r"no sentence ends in \d+ words: read as one stream, as --unit stream says; if each of its "
        r"200 lines is an item of its own: --unit line\n",
        out,
    )
    assert model.unit == "stream"
    out, model = train(tmp_path, text, "--unit", "line")
    assert "in 200 lines, the last 20 held out" in out
    assert model.unit == "line"
    out, _ = train(tmp_path, text, "--unit", "stream")
    assert "stream says" not in out
    out, _ = train(tmp_path, text.replace("\n", " "))
    assert out.startswith("no sentence ends in ")
    assert "--unit line" not in out


def test_names_by_characters_line_by_line(tmp_path):
    out, model = train(tmp_path, "Anna\nBo\nCy\n" * 40, "--level", "characters", "--unit", "line")
    assert "characters in 120 lines, the last 12 held out; 10 in the vocabulary" in out
    result = run("sample", tmp_path / "run" / "model.safetensors", "--length", 40)
    assert "\n" in result.out.strip("\n")
    assert set(result.out) <= set("AnaBoCy\n")
    assert result.out == model.sample("", 40, rng=0) + "\n"


def test_unknown_words_are_counted_and_shown(tmp_path):
    out, _ = train(tmp_path, made(["a", "b"], ".", " ") + " x y." * 12)
    assert re.search(
        r"\d+ of \d+ words and signs in the held-out part \(\d+\.\d%\) are not in the vocabulary "
        r"and are read as UNKNOWN, 2 different ones: 'x', 'y'\n",
        out,
    )


def test_several_files_a_folder_and_standard_input(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two.txt"
    one.mkdir()
    (one / "a.txt").write_text(made("ab", ".", " "))
    (one / "cover.png").write_bytes(b"\x89PNG" + bytes(20))
    two.write_text(made("cd", ".", " "))
    result = run("train", "text", one, two, *SMALL, "--out", tmp_path / "run")
    assert result.status == 0
    assert result.out.startswith("2 files, one after the other\nno text, left out: ")
    assert "cover.png\n" in result.out
    assert "in 240 sentences" in result.out
    model = (tmp_path / "run" / "model.safetensors").read_bytes()

    both = (one / "a.txt").read_bytes() + b"\n\n" + two.read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(both)))
    result = run("train", "text", "-", *SMALL, "--out", tmp_path / "piped")
    assert result.status == 0
    # The same text, so the same model.
    assert (tmp_path / "piped" / "model.safetensors").read_bytes() == model

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    result = run("train", "text", "-", *SMALL, "--out", tmp_path / "piped")
    assert "standard input, line 1, byte 3 of the file: not utf-8" in result.error
    result = run("train", "text", "-", two, *SMALL, "--out", tmp_path / "piped")
    assert "- is standard input: expected it alone, or files and folders" in result.error


def test_the_verdict_says_which_is_better(tmp_path):
    text = made("abcdefgh", ".", " ", count=200)
    out, _ = train(tmp_path, text, "--epochs", 9, "--lr", 0.02)
    assert re.search(r"\nthe network is better than counting, by 0\.\d+ nats per word\n", out)
    out, _ = train(tmp_path, "the cat sat on the mat. " * 200, "--lr", 1e-6)
    assert re.search(
        r"\ncounting is better than the network, by \d\.\d+ nats per word: more text, --epochs or "
        r"--hidden may help\n",
        out,
    )
    out, _ = train(tmp_path, text, "--lr", 1e30, "--clip", 1e30, "--optimizer", "sgd")
    assert re.search("\ncounting is better than the network, by ", out)


def test_training_on_keeps_the_vocabulary_and_counts_new_words(tmp_path):
    train(tmp_path, made(["cat", "sat", "mat"], ".", " "), "--epochs", 3, "--level", "words")
    start = tmp_path / "run" / "model.safetensors"
    before = LanguageModel.of(RNN.load(start))
    new = tmp_path / "new.txt"
    new.write_text(made(["cat", "sat", "dog"], "!", " ", seed=1))
    words = ("train", "text", new, "--from", start, "--epochs", 2, "--lr", 0.01)
    result = run(*words, "--out", tmp_path / "next")
    assert result.status == 0, result.err
    assert re.search(
        r"words and signs in the part that is trained on \(\d+\.\d%\) are not in the vocabulary "
        r"and are read as UNKNOWN, 2 different ones: '(dog|!)', '(dog|!)'\n",
        result.out,
    )
    after = LanguageModel.of(RNN.load(tmp_path / "next" / "model.safetensors"))
    assert after.vocabulary == before.vocabulary
    assert (after.level, after.unit) == (before.level, before.unit)
    assert after.net.architecture == before.net.architecture
    after_it, before_it = (
        float(re.search(rf"\n  network{row} .*?([\d.]+) \([\d.]+\)\n", result.out)[1])
        for row in ("", ", before this training")
    )
    assert after_it < before_it
    # It is where the saved weights were that the training began, and the same command again ends
    # with the same bits.
    assert run(*words, "--out", tmp_path / "again").status == 0
    files = [tmp_path / name / "model.safetensors" for name in ("next", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert run(*words, "--lr", 1e-12, "--out", tmp_path / "still").status == 0
    still = RNN.load(tmp_path / "still" / "model.safetensors").parameters
    for name, value in before.net.parameters.items():
        assert still[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--hidden", 9), "--hidden"),
        (("--cell", "gru"), "--cell"),
        (("--recurrent-dropout", 0.5), "--recurrent-dropout"),
        (("--level", "words"), "--level"),
        (("--vocabulary", 9), "--vocabulary"),
        (("--embedding", 4), "--embedding"),
        (("--tied",), "--tied"),
    ],
)
def test_what_the_model_has_already_is_refused(options, named, tmp_path):
    result = run("train", "text", "--from", "absent", *options, "--out", tmp_path)
    assert f"{named} is what the model of --from has already: expected no opt" in result.error


def test_a_text_that_a_model_knows_nothing_of_is_refused(tmp_path):
    train(tmp_path, made("abcd", ".", " "))
    new = tmp_path / "new.txt"
    new.write_text(made("xyz", "!", " "))
    start = tmp_path / "run" / "model.safetensors"
    result = run("train", "text", new, "--from", start, "--out", tmp_path / "next")
    assert re.search(
        r"the model's vocabulary has none of the \d+ words and signs in the part that is trained",
        result.error,
    )


def test_a_short_text_is_trained_on_for_more_epochs(tmp_path, monkeypatch):
    seen = []

    def fit(net, batches, **options):
        seen.append((len(batches), options["epochs"], options["patience"]))
        raise TrainingInterrupted(History())

    monkeypatch.setattr(session, "fit", fit)
    (tmp_path / "a.txt").write_text(made("ab", ".", " ", count=400))
    for given in ((), ("--batch", 1), ("--epochs", 60), ("--patience", 2)):
        words = ("train", "text", tmp_path / "a.txt", "--hidden", 4, "--out", tmp_path / "run")
        assert run(*words, *given).status == 130
    batches = seen[0][0]
    epochs = -(-2000 // batches)
    assert seen[0] == (batches, epochs, epochs // 10)
    assert seen[1][1:] == (10, 3)
    assert seen[2] == (batches, 60, 6)
    assert seen[3] == (batches, epochs, 2)


def test_tied_weights(tmp_path):
    _, model = train(tmp_path, made("abcd", ".", " "), "--tied")
    assert (model.net.tied, model.net.embedding_size) == (True, 6)
    result = run("train", "text", "--tied", "--embedding", 5, "--out", tmp_path / "r")
    assert "--tied needs an --embedding as large as --hidden, 128, or none given; it is 5" in (
        result.error
    )


def test_what_can_not_be_trained_on(tmp_path):
    RNN(2, 2).save(tmp_path / "m.safetensors")
    result = run("train", "text", "--from", tmp_path / "m.safetensors", "--out", tmp_path / "r")
    assert "the network is no language model (its task: None)" in result.error
    result = run("train", "text", "--from", tmp_path / "absent", "--out", tmp_path / "r")
    assert "absent" in result.error


def test_options_of_sample(tmp_path):
    _, model = train(tmp_path, made("abcd", ".", " "))
    saved = tmp_path / "run" / "model.safetensors"
    for words, given in [
        (("--temperature", 0), {"temperature": 0}),
        (("--top-k", 2), {"top_k": 2}),
        (("--top-p", 0.5, "--seed", 3), {"top_p": 0.5, "rng": 3}),
        (("--stop", "c", "--stop", r"\n"), {"stop": ["c", "\n"]}),
    ]:
        expected = model.sample("a b", 30, **({"rng": 0} | given))
        assert (
            run("sample", saved, "--prompt", "a b", "--length", 30, *words).out == f"{expected}\n"
        )


def test_the_text_appears_while_it_is_written(tmp_path):
    train(tmp_path, made("abcd", ".", " "))
    shown = []

    class Watched(io.StringIO):
        def flush(self):
            shown.append(self.getvalue())

    with contextlib.redirect_stdout(Watched()):
        main(["sample", str(tmp_path / "run" / "model.safetensors"), "--length", "20"])
    assert len(set(shown)) > 15


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_a_terminal_that_lacks_the_signs_shows_question_marks(variables, tmp_path):
    train(tmp_path, made(["कि", "घर"], "।", " "))
    command = (sys.executable, "-m", "xprnn", "sample", tmp_path / "run" / "model.safetensors")
    done = subprocess.run(
        [*map(str, command), "--length", "9"],
        env=environment(**variables),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout
    assert set(done.stdout) <= set(b"? \n")


def test_a_reader_that_goes_ends_the_text_without_a_word(tmp_path):
    train(tmp_path, made("abcd", ".", " "))
    command = (sys.executable, "-m", "xprnn", "sample", tmp_path / "run" / "model.safetensors")
    with subprocess.Popen(
        [*map(str, command), "--length", "1000000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # It arrives while the text is being written: a million words take minutes.
        assert len(process.stdout.read(20)) == 20
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""
