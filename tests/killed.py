"""A training for `test_checkpoint_killed`, and a process that kills it again and again.

``python -c "from tests.killed import main; main(path, seed)"`` forks a child twenty times, which
resumes from the checkpoint, and kills it at some moment.  It is a separate module so that the
process that forks has loaded nothing but NumPy.
"""

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from xprnn import RNN, Checkpoint, fit
from xprnn.data import minibatches
from xprnn.optim import SGD, schedules
from xprnn.training.history import Record

KILLS, EPOCHS = 20, 60


def train(checkpoint: Checkpoint | None = None, *callbacks):
    """Train with every kind of state; writing a checkpoint takes about as long as a step."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(8, 24, 5)).astype("float32")
    target = np.tanh(np.cumsum(x, axis=0))
    net = RNN(5, 96, 5, cell="gru", recurrent_dropout=0.1, rng=1)
    rate = schedules.warm_up(schedules.cosine(0.3, 150), 10)
    history = fit(
        net,
        minibatches(x, target, 8, rng=rng),
        optimizer=SGD(rate, momentum=0.9, nesterov=True),
        epochs=EPOCHS,
        clip_norm=1.0,
        rate_scale=schedules.halve_on_rise,
        validation=minibatches(x, -target, 10, rng=rng),
        patience=EPOCHS,
        callbacks=callbacks,
        checkpoint=checkpoint,
    )
    return net, history


def main(path: str, seed: int) -> None:
    """Kill the children; print the last epoch reported and how many kills hit a write.

    Every other kill comes at a random moment of an epoch; the others come as soon as a temporary
    file appears, and so in the middle of a write.
    """
    file, random_ = Path(path), random.Random(seed)
    checkpoint, last, writing = Checkpoint(file, every_steps=1, resume=True), 0, 0
    for kill in range(KILLS):
        for part in parts_of(file):
            part.unlink()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            run_child(checkpoint, writer)
        os.close(writer)
        for _ in range(random_.choice([0, 0, 1, 1, 2])):
            last = max(last, *os.read(reader, 1))
        if kill % 2:
            deadline = time.monotonic() + 5
            while not parts_of(file) and time.monotonic() < deadline:
                pass
        else:
            time.sleep(random_.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(reader)
        if not os.WIFSIGNALED(status):
            sys.exit("a child came to an end before it was killed")
        writing += len(parts_of(file))
    print(last, writing)


def run_child(checkpoint: Checkpoint, writer: int) -> None:
    """Train, and report every epoch through a pipe; never return."""

    def tell(net: RNN, record: Record) -> None:
        os.write(writer, bytes([record.epoch]))

    with contextlib.suppress(BaseException):
        train(checkpoint, tell)
    os._exit(0)


def parts_of(file: Path) -> list[Path]:
    return list(file.parent.glob(f".{file.name}.*.part"))
