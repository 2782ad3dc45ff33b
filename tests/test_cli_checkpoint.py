"""``--checkpoint`` and ``--resume``: a stopped training ends with the same files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_tools import contents, environment, keep_figures, run
from tests.resuming import Killed
from xprnn.cli.train import progress
from xprnn.training.checkpoint import options

pytestmark = pytest.mark.slow

TEXT = "the cat sat on the mat. a dog ran to the cat! did the mat move? no.\n" * 30
SINE = "train sine --hidden 6 --epochs 8"
SERIES = (
    "train csv sunspots --column SUNACTIVITY --hidden 3 --networks 3 --epochs 3 --window 4"
    " --batch 64"
)
WORDS = "train text corpus.txt --hidden 8 --epochs 4"
MORE = (
    "--cell lstm --layers 2 --dropout 0.3 --recurrent-dropout 0.2 --optimizer adam"
    " --schedule cosine"
)
CHARACTERS = "train text corpus.txt --hidden 8 --epochs 3 --level characters --chunk 40"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the working folder, with a text in it; every update writes a checkpoint.

    No pictures are drawn, which would take most of the time.
    """
    keep_figures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "MINUTES", 0.0)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    (tmp_path / "corpus.txt").write_text(TEXT)
    return tmp_path


def killed_after_epochs(monkeypatch, words, epochs):
    """Run a command that dies when it has shown a number of epochs."""
    told, call = [], progress.Progress.__call__

    def die(progress, net, record):
        call(progress, net, record)
        told.append(record)
        if len(told) == epochs:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "__call__", die)
        with pytest.raises(Killed):
            run(*words)


@pytest.mark.parametrize(
    ("command", "kills", "names"),
    [
        (SINE, (3, 2), ["run.ckpt"]),
        (f"{SINE} {MORE}", (3,), ["run.ckpt"]),
        (WORDS, (2, 1), ["run.ckpt"]),
        (CHARACTERS, (2,), ["run.ckpt"]),
        # Killed in the second network, and again right after resuming.
        (SERIES, (5, 1), [f"run-{k}.ckpt" for k in range(1, 7)]),
    ],
    ids=["sine", "sine with more", "words", "characters", "csv"],
)
def test_a_training_that_was_killed_ends_with_the_same_files(
    here, monkeypatch, command, kills, names
):
    assert run(*command.split(), "--out", "whole").status == 0
    words = (*command.split(), "--checkpoint", "run.ckpt", "--resume", "--out", "stopped")
    for epochs in kills:
        killed_after_epochs(monkeypatch, words, epochs)
    result = run(*words)
    assert result.status == 0
    assert "going on" in result.err
    assert contents(here / "stopped") == contents(here / "whole")
    assert sorted(file.name for file in here.glob("run*ckpt")) == names
    # Once more: everything is done already, nothing is trained, and the files are the same.
    monkeypatch.delattr("xprnn.training.step.loss_and_grad")
    assert run(*words).status == 0
    assert contents(here / "stopped") == contents(here / "whole")


# Writes a checkpoint at every update.
EAGER = """
import sys
from xprnn.training.checkpoint import options
options.MINUTES = 0.0
from xprnn.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_sigkill(here):
    assert run(*WORDS.split(), "--out", "whole").status == 0
    words = (*WORDS.split(), "--checkpoint", "run.ckpt", "--out", "stopped")
    for epoch, more in ((1, ()), (3, ("--resume",))):
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", EAGER, *words, *more],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process:
            for line in process.stderr:
                if line.startswith(f"epoch {epoch}/4, loss "):
                    break
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert not list((here / "stopped").iterdir())
    result = run(*words, "--resume")
    assert result.status == 0
    assert contents(here / "stopped") == contents(here / "whole")


def test_ctrl_c_says_how_to_go_on(here, monkeypatch):
    assert run(*SINE.split(), "--out", "whole").status == 0
    words = (*SINE.split(), "--checkpoint", "run.ckpt", "--out", "stopped")

    def interrupt(progress, net, record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "__call__", interrupt)
        result = run(*words)
    assert result.status == 130
    assert result.last_error == (
        "xprnn: training interrupted after 3 epochs; the model so far is "
        f"{Path('stopped', 'model.safetensors')}; the same command with --resume goes on"
    )
    assert run(*words, "--resume").status == 0
    assert contents(here / "stopped") == contents(here / "whole")


def test_progress_goes_on_where_it_was(here, monkeypatch):
    words = (*SINE.split(), "--checkpoint", "run.ckpt", "--resume", "--out", "out")
    killed_after_epochs(monkeypatch, words, 6)
    lines = run(*words).err.splitlines()
    # The sixth epoch was shown, but no checkpoint was written after it.
    assert lines[0] == "epoch 5/8 is done, going on"
    assert [line.split(",")[0] for line in lines[1:]] == ["epoch 6/8", "epoch 7/8", "epoch 8/8"]
    words = [word.replace("run.ckpt", "bar.ckpt") for word in words]
    killed_after_epochs(monkeypatch, words, 6)
    bar = run(*words, terminal=True).err
    assert "8/8" in bar
    assert "is done" not in bar


def test_no_checkpoint_yet_is_told(here):
    for command, name in ((SINE, "run.ckpt"), (SERIES, "run-1.ckpt")):
        result = run(*command.split(), "--checkpoint", "run.ckpt", "--resume", "--out", "out")
        assert result.status == 0
        first = result.err.splitlines()[0]
        assert first == f"xprnn: there is no checkpoint '{name}' yet: beginning anew"


@pytest.mark.filterwarnings("default:the checkpoint:UserWarning")
def test_a_damaged_checkpoint_is_told_in_one_line(here, monkeypatch):
    words = (*SINE.split(), "--checkpoint", "run.ckpt", "--resume", "--out", "out")
    killed_after_epochs(monkeypatch, words, 4)
    (here / "run.ckpt").write_bytes((here / "run.ckpt").read_bytes()[:-9])
    result = run(*words)
    assert result.status == 0
    (line,) = [line for line in result.err.splitlines() if "warning" in line]
    assert line.startswith("xprnn: warning: the checkpoint 'run.ckpt' is not a whole safetensors f")
    assert line.endswith("resuming from the previous one, 'run.ckpt.previous'")


@pytest.mark.parametrize("command", [SINE, SERIES, WORDS], ids=["sine", "csv", "text"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--resume", "--resume needs --checkpoint FILE: which one to go on from"),
        ("--checkpoint old.ckpt", "there is a checkpoint 'old{}.ckpt' already: --resume goes on f"),
        ("--checkpoint corpus.txt/x", "can't write to the output folder 'corpus.txt': "),
        ("--checkpoint old.ckpt --resume", "'old{}.ckpt' is not a whole safetensors file"),
    ],
)
def test_what_can_not_be_is_told_before_the_training(here, monkeypatch, command, options, message):
    monkeypatch.delattr("xprnn.training.step.loss_and_grad")
    number = "-1" if command == SERIES else ""
    (here / f"old{number}.ckpt").write_text("an old one")
    result = run(*command.split(), *options.split())
    assert result.status == 1
    assert result.error.startswith("xprnn: error: ")
    assert message.format(number) in result.error
    assert (here / f"old{number}.ckpt").read_text() == "an old one"


def test_other_options_are_refused_by_name(here, monkeypatch):
    words = (*SINE.split(), "--checkpoint", "run.ckpt", "--resume", "--out", "out")
    killed_after_epochs(monkeypatch, words, 4)
    for more, message in (
        ("--hidden 7", "net.hidden_size is 7, in the checkpoint 6"),
        ("--lr 0.5", "optimizer.learning_rate is 0.5, in the checkpoint 0.02"),
        ("--seed 1", "batches are other data: of epoch 4, batch 1, target has other"),
        ("--epochs 2", "epochs is 2: expected at least 4"),
    ):
        result = run(*words, *more.split())
        assert result.status == 1
        assert f"the checkpoint 'run.ckpt' is of another training: {message}" in result.error


@pytest.mark.parametrize("command", ["sine", "csv", "text"])
def test_the_help_names_the_options(command):
    out = run("train", command, "--help").out
    assert "--checkpoint FILE" in out
    assert "--resume" in out
