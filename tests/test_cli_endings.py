"""However a training of the command line ends, its weights are saved, and a line says where."""

import contextlib
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli_tools import Terminal, contents, environment, keep_figures, run
from xprnn import RNN, _loading
from xprnn.backend.host.locks import Lock
from xprnn.cli import main
from xprnn.cli.stops import Stops, stops
from xprnn.cli.train import progress, session
from xprnn.training.checkpoint import options, writer
from xprnn.training.history import Record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and devices of POSIX"),
]

SINE = "train sine --hidden 4 --epochs 6"
ENDLESS = "train sine --hidden 4 --epochs 100000000"
SERIES = (
    "train csv sunspots --column SUNACTIVITY --hidden 3 --networks 2 --epochs 2 --window 4"
    " --batch 64"
)
WORDS = "train text corpus.txt --hidden 8 --epochs 2"
MODEL = "model.safetensors"
COMMANDS = pytest.mark.parametrize("command", [SINE, SERIES, WORDS], ids=["sine", "csv", "text"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the working folder, with a text in it; no pictures are drawn."""
    keep_figures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("the cat sat on the mat. a dog ran to it.\n" * 30)
    return tmp_path


def words(command, *more):
    return [sys.executable, "-W", "error", "-m", "xprnn", *command.split(), *more]


@contextlib.contextmanager
def started(command, *more, **options):
    """Start a command that trains, and wait for its first line on stderr."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(words(command, *more), env=environment(), text=True, **given) as process:
        try:
            assert process.stderr.readline().startswith("epoch 1/")
            yield process
        finally:
            process.kill()


def ended(process, number=signal.SIGTERM):
    """Stop a command, and return its exit status and the last line on stderr."""
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_the_model_and_says_where(here, number, status):
    with started(ENDLESS, "--out", "out") as process:
        code, line = ended(process, number)
    assert code == status
    told = r"xprnn: training interrupted after \d+ epochs; the model so far is (.*)"
    assert re.fullmatch(told, line)[1] == "out/model.safetensors"
    assert RNN.load(here / "out" / MODEL).hidden_size == 4
    assert set(contents(here / "out")) > {MODEL, "history.jsonl"}


def test_a_signal_that_is_ignored_stays_ignored(here):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(ENDLESS, "--out", "out", preexec_fn=ignore) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert ended(process)[0] == 143


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_that_the_program_ignores_or_handles_is_left_alone(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        mine = Stops()
        with mine.handled():
            assert signal.getsignal(signal.SIGHUP) is handler
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) == mine._handle
        assert mine.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.2, 0.3, 0.5, 0.7])
def test_ctrl_c_at_the_beginning_is_a_line(here, seconds):
    with subprocess.Popen(
        words(ENDLESS, "--out", "out"), env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        # Earlier, Python itself is not there yet.
        time.sleep(seconds + 0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if process.returncode == -signal.SIGINT:
        # On a busy machine Python itself was still starting.
        assert f"{os.sep}xprnn{os.sep}" not in err
        return
    assert process.returncode == 130
    line = err.splitlines()[-1]
    assert "Traceback" not in err
    if line != "xprnn: interrupted before there was anything to save":
        assert RNN.load(here / line.rpartition(" ")[2]).hidden_size == 4


@pytest.mark.parametrize(
    ("argv", "original", "command"),
    [
        (["-m"], ["python", "-W", "error", "-m", "xprnn", "info"], True),
        (["/usr/bin/xprnn", "info"], ["python", "/usr/bin/xprnn", "info"], True),
        (["-m"], ["python", "-m", "pytest", "xprnn"], False),
        (["-c"], ["python", "-c", "import xprnn"], False),
        (["train.py"], ["python", "train.py", "xprnn"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_only_the_command_line_handles_ctrl_c_while_loading(argv, original, command):
    assert _loading.is_command(argv, original) is command


def test_a_second_signal_waits_for_the_model(here, monkeypatch):
    save = RNN.save

    def twice(progress, net, record):
        os.kill(os.getpid(), signal.SIGTERM)

    def stopped(net, path):
        os.kill(os.getpid(), signal.SIGINT)
        save(net, path)

    monkeypatch.setattr(progress.Progress, "__call__", twice)
    monkeypatch.setattr(RNN, "save", stopped)
    before = signal.getsignal(signal.SIGTERM)
    result = run(*SINE.split(), "--out", "out")
    assert result.status == 130
    assert result.error == f"xprnn: interrupted; the model is {Path('out', MODEL)}"
    assert RNN.load(here / "out" / MODEL).hidden_size == 4
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_between_two_networks_is_not_lost(here, monkeypatch):
    fit = session.fit

    def then_stopped(*args, **options):
        history = fit(*args, **options)
        stops.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        return history

    monkeypatch.setattr(session, "fit", then_stopped)
    result = run(*SERIES.split(), "--out", "out")
    assert result.status == 143
    assert result.last_error.endswith(f"the model so far is {Path('out', MODEL)}")


def test_a_stop_that_python_dropped_is_noticed_after_the_epoch(here, monkeypatch):
    def dropped(progress, net, record):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(progress.Progress, "__call__", dropped)
    result = run(*SINE.split(), "--out", "out")
    assert result.status == 143
    assert "interrupted after 1 epochs" in result.error


def test_stops_listen_wait_and_raise():
    mine = Stops()
    with mine.handled():
        mine.hold()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), mine.listening():
            pytest.fail("listened before it raised what had waited")
        with mine.listening():
            pass
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert mine.status == 130
        with mine.listening(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        assert mine.status == 129


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@COMMANDS
def test_a_checkpoint_that_can_not_be_written_any_more(here, monkeypatch, command):
    write, written = writer.write, []

    def full(*args, **options):
        written.append(1)
        if len(written) > 2:
            raise OSError("can't write the checkpoint: No space left on device")
        write(*args, **options)

    monkeypatch.setattr(options, "MINUTES", 0.0)
    monkeypatch.setattr(writer, "write", full)
    result = run(*command.split(), "--out", "out", "--checkpoint", "run.ckpt")
    assert result.status == 1
    assert result.last_error == (
        "xprnn: error: can't write the checkpoint: No space left on device; the model so far is "
        f"{Path('out', MODEL)}"
    )
    assert RNN.load(here / "out" / MODEL).hidden_size in (3, 4, 8)
    assert any(name.startswith("history") for name in contents(here / "out"))
    monkeypatch.undo()
    keep_figures(monkeypatch)
    monkeypatch.chdir(here)
    again = (*command.split(), "--checkpoint", "run.ckpt", "--resume")
    assert run(*again, "--out", "out").status == 0
    assert run(*command.split(), "--out", "whole").status == 0
    assert contents(here / "out") == contents(here / "whole")


def test_ctrl_c_while_the_checkpoint_folder_is_gone(here):
    (here / "folder").mkdir()
    with started(ENDLESS, "--out", "out", "--checkpoint", "folder/run.ckpt") as process:
        shutil.rmtree("folder")
        code, line = ended(process)
    assert code == 143
    assert "can't write the checkpoint 'folder/run.ckpt': No such file" in line
    assert "the model so far is out/model.safetensors" in line
    assert RNN.load(here / "out" / MODEL).hidden_size == 4


def test_any_other_error_of_a_training_saves_it_too(here, monkeypatch):
    def fail(progress, net, record):
        if record.epoch == 2:
            raise MemoryError("no memory left")

    monkeypatch.setattr(progress.Progress, "__call__", fail)
    result = run(*SINE.split(), "--out", "out")
    assert result.status == 1
    model = Path("out", MODEL)
    assert result.error == f"xprnn: error: no memory left; the model so far is {model}"
    assert len((here / "out" / "history.jsonl").read_text().splitlines()) == 2
    assert "Traceback" in run(*SINE.split(), "--out", "out", "--debug").err


def test_an_output_folder_that_is_gone_is_made_anew(here):
    with started(ENDLESS, "--out", "out") as process:
        shutil.rmtree("out")
        code, line = ended(process)
    assert code == 143
    assert line.startswith("xprnn: the output folder 'out' was gone and was made anew; training i")
    assert RNN.load(here / "out" / MODEL).hidden_size == 4


@COMMANDS
def test_a_model_that_can_not_be_written_there_is_written_elsewhere(here, monkeypatch, command):
    def gone(*args, **options):
        # A file is in the place of the folder now.
        history = fit(*args, **options)
        if Path("out").is_dir():
            shutil.rmtree("out")
            Path("out").touch()
        return history

    fit = session.fit
    monkeypatch.setattr(session, "fit", gone)
    result = run(*command.split(), "--out", "out")
    assert result.status == 1
    assert result.last_error.startswith("xprnn: error: can't write 'out/model.safetensors': Not a ")
    model = here / result.last_error.rpartition("; the model is ")[2]
    assert RNN.load(model).hidden_size in (4, 6, 8)


def test_the_folder_of_the_checkpoint_comes_first_then_others(here, monkeypatch):
    (here / "other").mkdir()
    fit = session.fit

    def full(path, content, **options):
        if Path(path).parent.name in full.folders and Path(path).suffix == ".safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, content, **options)

    from xprnn.backend.host import safetensors

    real = safetensors.write_atomic
    monkeypatch.setattr(safetensors, "write_atomic", full)
    more = ("--out", "out", "--checkpoint", "other/run.ckpt", "--resume")
    full.folders = {"out"}
    model = run(*SINE.split(), *more).last_error.rpartition(" ")[2]
    assert Path(model).parent == Path("other")
    full.folders = {"out", "other"}
    model = run(*SINE.split(), *more).last_error.rpartition(" ")[2]
    assert Path(model).parent == Path()
    monkeypatch.setattr(safetensors, "write_atomic", lambda *_, **__: full.fail())
    full.fail = lambda: (_ for _ in ()).throw(FULL)
    result = run(*SINE.split(), *more)
    assert result.status == 1
    assert result.last_error.startswith("xprnn: error: the model could not be saved anywhere: can'")
    assert session.fit is fit


@COMMANDS
def test_stdout_that_nobody_reads(here, command):
    command = f"{' '.join(map(str, words(command, '--out', 'out')))} | true"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    model = "out/model.safetensors"
    assert last == f"xprnn: error: can't print the results: Broken pipe; the model is {model}"
    assert "Traceback" not in done.stderr
    assert RNN.load(here / model).hidden_size in (4, 6, 8)
    assert any(name.endswith(".png") for name in contents(here / "out"))


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@needs_full
@pytest.mark.parametrize(
    ("streams", "status"), [("stdout", 1), ("stderr", 0), ("stdout stderr", 1)]
)
def test_streams_to_a_full_disk(here, streams, status):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            words(SINE, "--out", "out"),
            env=environment(),
            stdout=full if "stdout" in streams else subprocess.DEVNULL,
            stderr=full if "stderr" in streams else subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == status
    if streams == "stdout":
        assert done.stderr.splitlines()[-1] == (
            "xprnn: error: can't print the results: No space left on device; the model is "
            "out/model.safetensors"
        )
    assert RNN.load(here / "out" / MODEL).hidden_size == 4


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed(here, closed):
    command = " ".join(map(str, words(SINE, "--out", "out")))
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], env=environment(), check=False)
    assert done.returncode == 0
    assert RNN.load(here / "out" / MODEL).hidden_size == 4


def test_a_terminal_that_goes_away_ends_no_training(here, monkeypatch):
    class Gone(Terminal):
        left = 200

        def write(self, text):
            self.left -= len(text)
            if self.left < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main([*SINE.split(), "--out", "out"]) == 0
    assert RNN.load(here / "out" / MODEL).hidden_size == 4


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), ValueError("closed file")])
def test_a_bar_that_can_not_be_moved_is_dropped(error):
    class Gone:
        def set_postfix(self, **shown):
            pass

        def update(self, more):
            raise error

    shown = progress.Progress(3)
    shown.bar = Gone()
    shown(RNN(1, 1, rng=0), Record(1, 0.5, None, None))
    assert shown.bar is None
    assert shown.state() == 1


def limited():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


def test_a_model_that_fits_though_the_checkpoint_does_not(here):
    done = subprocess.run(
        words(SINE, "--out", "out", "--checkpoint", "run.ckpt", "--hidden", "10"),
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )
    assert done.returncode == 1
    assert "can't write the checkpoint 'run.ckpt': File too large" in done.stderr
    assert done.stderr.endswith("the model so far is out/model.safetensors\n")
    assert RNN.load(here / "out" / MODEL).hidden_size == 10


@COMMANDS
@pytest.mark.parametrize(
    ("name", "reason"),
    [(MODEL, "Is a directory"), ("too long", "File name too long")],
)
def test_what_can_not_be_written_is_found_before_the_training(
    here, monkeypatch, command, name, reason
):
    monkeypatch.delattr("xprnn.training.step.loss_and_grad")
    out = "out" if name == MODEL else "x" * 300
    if name == MODEL:
        (here / "out" / MODEL).mkdir(parents=True)
    result = run(*command.split(), "--out", out)
    assert result.status == 1
    assert result.error.endswith(f": {reason}")
    assert "can't write" in result.error


@COMMANDS
def test_the_output_folder_is_held(here, monkeypatch, command):
    def refused(*args, **options):
        found.append(run(*command.split(), "--out", "out"))
        return fit(*args, **options)

    fit, found = session.fit, []
    monkeypatch.setattr(session, "fit", refused)
    assert run(*command.split(), "--out", "out").status == 0
    assert found[0].status == 1
    assert re.fullmatch(
        r"xprnn: error: the output folder 'out' is in use by (this|another) process", found[0].error
    )
    with Lock(here / "out", "out"):
        pass
    # After an error, too.
    monkeypatch.setattr(session, "fit", None)
    assert run(*command.split(), "--out", "out").status == 1
    with Lock(here / "out", "out"):
        pass


def test_what_a_killed_process_left_in_the_folder_is_removed(here):
    (here / "out").mkdir()
    for name in (".model.safetensors.0123abcd.part", ".history.jsonl.ab.part", ".other.ab.part"):
        (here / "out" / name).touch()
    assert run(*SINE.split(), "--out", "out").status == 0
    assert {name for name in contents(here / "out") if name.startswith(".")} == {".other.ab.part"}


@COMMANDS
def test_a_checkpoint_in_use_is_told_at_once(here, command):
    number = "-2" if command == SERIES else ""
    (here / f"run{number}.ckpt").touch()
    with Lock(here / f"run{number}.ckpt", "it"):
        for more in ((), ("--resume",)):
            words = (*command.split(), "--checkpoint", "run.ckpt", *more, "--out", "out")
            assert run(*words).error == (
                f"xprnn: error: the checkpoint 'run{number}.ckpt' is in use by this process"
            )
    assert not (here / "out").exists()


def test_the_same_bytes_as_before(here):
    """What is new costs no bit: two commands, one of them stopped and resumed."""
    for name in ("one", "two"):
        assert run(*SINE.split(), "--out", name).status == 0
    assert contents(here / "one") == contents(here / "two")
    assert np.isfinite(RNN.load(here / "one" / MODEL).parameters["bias_l0"]).all()
