"""Every command: its help; its errors, which are one line and leave no files behind."""

import io
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import xprnn
from tests.cli_tools import contents, environment, run, run_module
from xprnn.cli import main
from xprnn.cli.common import results_folder
from xprnn.cli.train import session, sine, text

pytestmark = pytest.mark.slow

COMMANDS = (
    ("train", "sine"),
    ("train", "csv"),
    ("train", "text"),
    ("apply",),
    ("sample",),
    ("bench", "origins"),
    ("bench", "layer"),
    ("bench", "train"),
    ("bench", "memory"),
    ("bench", "import"),
    ("info",),
    ("parity",),
)
CSV = "train csv sunspots --column SUNACTIVITY"

each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the working folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each_command
def test_every_command_has_help_with_an_example_and_the_common_options(command):
    result = run(*command, "--help")
    assert (result.status, result.err) == (0, "")
    assert f"usage: xprnn {' '.join(command)} " in result.out
    assert "examples:\n" in result.out
    assert f"\n  xprnn {' '.join(command)}" in result.out.partition("examples:")[2]
    for option in ("--backend", "--dtype", "--seed", "--out", "--debug"):
        assert f"\n  {option}" in result.out


@pytest.mark.parametrize("words", [(), ("train",)])
def test_the_commands_above_have_help_with_an_example(words):
    result = run(*words, "--help")
    assert result.status == 0
    assert re.search(r"examples?:\n  xprnn train sine", result.out)


def test_the_version(tmp_path):
    assert run("--version").out == f"xprnn {xprnn.__version__}\n"
    result = run_module("--version", cwd=tmp_path)
    assert (result.status, result.out, result.err) == (0, f"xprnn {xprnn.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fly", "xprnn: error: argument COMMAND: invalid choice: 'fly' (choose from "),
        ("train", "xprnn train: error: the following arguments are required: PROBLEM (see"),
        ("train sine --hiden 3", "error: unrecognized arguments: --hiden 3 (see 'xprnn"),
        (
            "train sine --hidden many",
            "error: argument --hidden: 'many' is not a number of units: expected one, such as 128",
        ),
        ("train sine --seed -1", "error: argument --seed: '-1' is not an integer of at least 0"),
        ("train sine --seed 1.5", "error: argument --seed: '1.5' is not an integer of at least 0"),
        (f"{CSV} --delimiter ;;", "error: argument --delimiter: ';;' is not one character, and"),
    ],
)
def test_words_that_make_no_sense(here, words, message):
    result = run(*words.split())
    assert result.status == 2
    assert message in result.error
    assert list(here.iterdir()) == []


def test_the_name_alone_shows_what_there_is():
    result = run()
    assert result.status == 2
    assert result.out == ""
    assert all(f"    {name} " in result.err for name in ("train", "apply", "inspect", "info"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train sine --hidden -1", "--hidden is -1: expected an int of at least 1"),
        ("train sine --hidden 0", "--hidden is 0: expected an int of at least 1"),
        ("train sine --epochs 0", "--epochs is 0: expected an int of at least 1"),
        ("train sine --lr 0", "--lr is 0.0: expected a number above 0"),
        ("train sine --lr nan", "--lr is nan: expected a number above 0"),
        ("train sine --momentum 1", "--momentum is 1.0: expected a number at least 0 and below 1"),
        ("train sine --decay -1", "--decay is -1.0: expected a number at least 0"),
        ("train sine --clip 0", "--clip is 0.0: expected a number above 0"),
        ("train sine --noise -1", "--noise is -1.0: expected a number at least 0"),
        (
            "train sine --activation sine",
            "unknown activation 'sine': known are 'tanh', 'logistic', 'relu', 'identity'",
        ),
        ("train sine --backend numpie", "unknown backend 'numpie': known are 'numpy', 'cupy', 't"),
        ("train sine --dtype int8", "dtype is 'int8': numpy computes in float16, float32, float6"),
        (f"{CSV} --hidden 0", "--hidden is 0: expected an int of at least 1"),
        (f"{CSV} --epochs -2", "--epochs is -2: expected an int of at least 1"),
        (f"{CSV} --batch 0", "--batch is 0: expected an int of at least 1"),
        (f"{CSV} --networks 0", "--networks is 0: expected an int of at least 1"),
        (f"{CSV} --window 0", "--window is 0: expected an int of at least 1"),
        (f"{CSV} --lr -1", "--lr is -1.0: expected a number above 0"),
        (f"{CSV} --clip -1", "--clip is -1.0: expected a number above 0"),
        (f"{CSV} --activation sine", "unknown activation 'sine': known are 'tanh', 'logistic', "),
        (f"{CSV} --held-out 0", "--held-out is 0.0: expected a number above 0 and below 1"),
        (f"{CSV} --held-out 1", "--held-out is 1.0: expected a number above 0 and below 1"),
        (
            f"{CSV} --held-out 0.99",
            "309 values leave 3 to train on and 306 held out: expected at least 10 and 1",
        ),
        (f"{CSV} --window 197", "309 values leave 197 to train networks on, without those that a"),
        (f"{CSV} --window 197 --difference none", "expected at least 198 for a window of 197"),
        (f"{CSV} --season 1", "--season is '1': expected a number of at least 2, or none"),
        (f"{CSV} --difference both --season none", "--difference both needs a --season, which is"),
        (f"{CSV} --horizon 0", "--horizon is '0': expected a number from 1 to 1000, or several w"),
        (f"{CSV} --horizon 1,x", "--horizon is '1,x': expected a number from 1 to 1000"),
        (f"{CSV} --folds 0", "--folds is 0: expected an int of at least 1"),
        (
            f"{CSV} --folds 63",
            "--folds is 63, but 62 values are held out: expected at most",
        ),
        (f"{CSV} --interval 1", "--interval is 1.0: expected a number above 0 and below 1"),
        (f"{CSV} --covariate X", "has no column 'X'"),
        (f"{CSV} --time SUNACTIVITY", "column 'SUNACTIVITY' is to be forecast, and so it can't be"),
        ("train csv sunspots --column Y", "has no column 'Y': its columns are 'YEAR', 'SUNACTIV"),
        (f"{CSV} --delimiter ;", "its columns are 'YEAR,SUNACTIVITY'; another delimiter?"),
        (f"{CSV} --encoding klingon", "the encoding is 'klingon', which Python does not k"),
        ("train text --hidden 0", "--hidden is 0: expected an int of at least 1"),
        ("train text --epochs 0", "--epochs is 0: expected an int of at least 1"),
        ("train text --clip 0", "--clip is 0.0: expected a number above 0"),
        ("train text --lr 0", "--lr is 0.0: expected a number above 0"),
        ("train text --batch 0", "--batch is 0: expected an int of at least 1"),
        ("train text --chunk 0", "--chunk is 0: expected an int of at least 1"),
        ("train text --window -1", "--window is -1: expected 0 or more steps"),
        ("train text --vocabulary 0", "--vocabulary is 0: expected more than the 3 special tok"),
        ("train text --vocabulary 3", "--vocabulary is 3: expected more than the 3 special tok"),
        ("train text --held-out 1", "--held-out is 1.0: expected a number above 0 and below 1"),
        (
            "train text --cell elman --activation sine",
            "unknown activation 'sine': known are 'ta",
        ),
        ("train csv nothing.csv --column y", "'nothing.csv': No such file or directory"),
        ("train csv . --column y", "'.': Is a directory"),
        ("apply nothing", "there is no model file 'nothing'"),
    ],
)
def test_what_can_not_be_done_is_found_out_before_anything_is(here, words, message):
    result = run(*words.split())
    assert result.status == 1
    assert result.error.startswith("xprnn: error: ")
    assert message in result.error
    assert result.out == ""
    assert list(here.iterdir()) == []


def test_the_text_is_not_read_before_the_options_are_known_to_make_sense(here, monkeypatch):
    def prepare(*_):
        pytest.fail("read the text for options that make no sense")

    monkeypatch.setattr(text, "python_topics", prepare)
    options = ("--hidden", "--batch", "--chunk", "--clip", "--vocabulary", "--epochs")
    for option in (*options, "--report-every"):
        assert f"{option} is 0" in run("train", "text", option, "0").error


def test_commands_started_together_get_folders_of_their_own(here, monkeypatch):
    folders = [results_folder(None, "sine")]
    # As if another command had made the folder after this one looked for a free name.
    monkeypatch.setattr(Path, "exists", lambda path: False)
    folders += [results_folder(None, "sine"), results_folder(None, "sine")]
    assert [folder.name for folder in folders] == ["sine", "sine-2", "sine-3"]


def test_a_folder_of_results_that_can_not_be_made_is_named(here):
    (here / "runs").write_text("in the way")
    with pytest.raises(OSError, match="can't write to the output folder 'runs'"):
        results_folder(None, "sine")


def test_a_window_as_long_as_can_be(here):
    words = f"{CSV} --window 246 --hidden 2 --epochs 1 --networks 1 --out out"
    assert run(*words.split()).status == 0


def test_missing_values_are_named(here):
    (here / "gaps.csv").write_text("date,co2\n19580329,316.1\n19580405,\n19580412,316.4\n")
    result = run("train", "csv", "gaps.csv", "--column", "co2")
    assert result.status == 1
    assert result.error == (
        "xprnn: error: 'gaps.csv', line 3, column 'co2': the value is missing: expected --missing "
        "fill (with the value before), interpolate or cut (from Python, missing='fill')"
    )


def test_a_series_that_does_not_change(here):
    (here / "flat.csv").write_text("y\n" + "5\n" * 40)
    result = run("train", "csv", "flat.csv", "--column", "y", "--out", "out")
    assert (result.status, result.err) == (0, "")
    assert (
        "the linear part forecasts the training part without error: there is nothing" in result.out
    )
    result = run("apply", "out/model.safetensors", "flat.csv", "--steps", 3, "--out", "out")
    assert "\nthe next 3 values: 5, 5, 5\n" in result.out
    result = run("train", "csv", "flat.csv", "--column", "y", "--no-linear", "--difference", "none")
    assert result.error == "xprnn: error: all 25 values of the training part are 5"


@pytest.mark.parametrize("words", ["train sine", CSV])
def test_a_folder_that_can_not_be_written_to_is_found_out_before_the_training(
    here, monkeypatch, words
):
    def fit(*_, **__):
        pytest.fail("trained for a folder that can't be written to")

    monkeypatch.setattr(session, "fit", fit)
    (here / "file").write_text("in the way")
    for out in ("file", "file/below"):
        result = run(*words.split(), "--out", out)
        assert result.status == 1
        assert f"can't write to the output folder '{Path(out)}': " in result.error
    assert contents(here) == {"file": b"in the way"}


@pytest.mark.parametrize("module", ["matplotlib.figure", "tqdm"])
@pytest.mark.parametrize("words", ["train sine", CSV, "apply nothing"])
def test_missing_extras_are_found_out_before_the_work(here, monkeypatch, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    result = run(*words.split())
    assert result.status == 1
    assert "this command needs more (" in result.error
    assert result.error.endswith('): pip install "xprnn[cli]"')
    assert list(here.iterdir()) == []


def test_debug_shows_where_an_error_comes_from(here):
    result = run("train", "sine", "--hidden", "0", "--debug")
    assert result.status == 1
    assert result.err.startswith("Traceback (most recent call last):\n")
    assert result.last_error == "ValueError: --hidden is 0: expected an int of at least 1"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (KeyError("no quotes"), "no quotes"),
        (KeyError(), "KeyError()"),
        (RuntimeError(), "RuntimeError()"),
        (OSError(28, "No space left on device", "model"), "'model': No space left on device"),
        (OSError("no number"), "no number"),
    ],
)
def test_any_error_is_one_line(monkeypatch, error, line):
    def get_backend(*_, **__):
        raise error

    monkeypatch.setattr(sine, "get_backend", get_backend)
    result = run("train", "sine")
    assert (result.status, result.error) == (1, f"xprnn: error: {line}")


def test_an_error_ends_the_process_with_its_status_and_one_line(tmp_path):
    result = run_module("train", "sine", "--activation", "sine", cwd=tmp_path)
    assert result.status == 1
    assert result.error.startswith("xprnn: error: unknown activation 'sine'")
    assert run_module("train", "sine", "--seed", "x", cwd=tmp_path).status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_stream_without_the_letters_gets_question_marks(here, monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    status = main(["train", "sine", "--hidden", "2", "--epochs", "1", "--out", "out"])
    sys.stdout.flush()
    assert status == 0
    assert b"\nloss ??mean((?-y)?): 0." in content.getvalue()


def test_the_package_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["xprnn", "--version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("xprnn", run_name="__main__")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"xprnn {xprnn.__version__}\n"


def test_a_reader_that_has_gone_is_no_error():
    # Libraries that take seconds to import are hidden.  By the time that there is something to
    # write, `true` has ended.
    code = (
        "import sys; sys.modules |= {'torch': None, 'jax': None};"
        "from xprnn.cli import main; sys.exit(main(['info']))"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | true"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stderr == ""
