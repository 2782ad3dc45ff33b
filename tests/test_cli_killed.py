"""Sixty SIGKILLs and sixty other signals at random moments, resumed: nothing is lost."""

import random
import signal
import subprocess
import sys

import pytest

from tests.cli_tools import contents, environment
from xprnn import RNN

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX"),
]

COUNT = 60
# Several checkpoints a second, and no pictures, which are not what is killed here.
COMMAND = """
import sys
from xprnn import diagnostics
from xprnn.cli import main
from xprnn.training.checkpoint import options
options.MINUTES = 0.002
diagnostics.save_figure = lambda figure, path: None
sys.exit(main(sys.argv[1:]))
"""
WORDS = (
    "train sine --hidden 8 --layers 2 --dropout 0.2 --optimizer adam --epochs 8000 "
    "--checkpoint run.ckpt --resume --out"
)


def start(folder, out):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *WORDS.split(), out],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGKILL], [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]],
    ids=["killed", "stopped"],
)
def test_a_training_that_is_stopped_again_and_again_ends_with_the_same_files(tmp_path, numbers):
    drawn = random.Random(0)
    with start(tmp_path, "whole") as process:
        assert process.wait() == 0
    whole = contents(tmp_path / "whole")
    stopped = told = rounds = 0
    while stopped < COUNT:
        for file in tmp_path.glob("run.ckpt*"):
            file.unlink()
        rounds += 1
        ended = False
        while not ended:
            with start(tmp_path, f"stopped-{rounds}") as process:
                try:
                    _, err = process.communicate(timeout=drawn.uniform(0.5, 3.0))
                except subprocess.TimeoutExpired:
                    number = drawn.choice(numbers)
                    process.send_signal(number)
                    _, err = process.communicate()
                    stopped += 1
                status = process.returncode
            ended = status == 0
            if number_of_saved := err.count("the model so far is "):
                assert number_of_saved == 1
                told += 1
                assert RNN.load(tmp_path / f"stopped-{rounds}" / "model.safetensors").layers == 2
            # A signal that comes while Python is loading ends the process before there is anything.
            assert ended or status in {*(128 + n for n in numbers), *(-n for n in numbers)}
        assert contents(tmp_path / f"stopped-{rounds}") == whole
        hidden = [file.name for file in tmp_path.rglob(".*")]
        assert hidden == []
    if signal.SIGKILL not in numbers:
        assert told > COUNT // 3
