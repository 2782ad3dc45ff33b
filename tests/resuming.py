"""Trainings that are stopped at a chosen point, as dead as a process that was killed."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from xprnn import RNN, Checkpoint, History, fit
from xprnn.engine.network import loss_and_grad
from xprnn.training.checkpoint import writer
from xprnn.training.checkpoint.tree import Packer, named_kinds

Made = tuple[RNN, dict[str, Any]]
"""A network, and what `fit` is called with."""


class Killed(BaseException):
    """The process is gone: nobody catches this, and what comes behind it is not done."""


@contextmanager
def killed_after_write(number: int):
    """Kill what happens inside right after so many checkpoints were written."""
    written, write = [], writer.write

    def counted(*args, **options):
        write(*args, **options)
        written.append(1)
        if len(written) == number:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "write", counted)
        with pytest.raises(Killed):
            yield


@contextmanager
def killed_in_step(number: int, error: type[BaseException] = Killed):
    """Kill what happens inside in the middle of so-manieth training step."""
    steps, step = [], loss_and_grad

    def counted(*args, **options):
        result = step(*args, **options)
        steps.append(1)
        if len(steps) == number:
            raise error
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xprnn.training.step.loss_and_grad", counted)
        with pytest.raises(error):
            yield


def train(make: Callable[[], Made], checkpoint: Checkpoint | None = None) -> tuple[RNN, History]:
    """Make everything anew, as a new process would, and train."""
    net, options = make()
    return net, fit(net, **options, checkpoint=checkpoint)


def remains(net: RNN, history: History) -> dict[str, Any]:
    """Return all that a training leaves behind, to the bit."""
    pack = Packer(net.backend, named_kinds(history.optimizer_state))
    memory = pack(history.optimizer_state, "memory")
    return {
        "weights": {k: net.backend.to_numpy(p).tobytes() for k, p in net.parameters.items()},
        "records": [tuple(map(repr, record)) for record in history.records],
        "stopped": history.stopped,
        "best_epoch": history.best_epoch,
        "memory": (memory, {k: a.tobytes() for k, a in pack.arrays.items()}),
        "random": net.rng.bit_generator.state["state"],
    }


def assert_resumes(make: Callable[[], Made], path: Any) -> None:
    """Stop a training in its fifth step, go on, and find all that one without a stop leaves."""
    wanted = remains(*train(make))
    with killed_in_step(5):
        train(make, Checkpoint(path, every_steps=1))
    net, history = train(make, Checkpoint(path, resume=True))
    assert history.resumed == 4
    assert remains(net, history) == wanted
