"""Trainings that are stopped at a chosen point, as if the process was killed there."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from xprnn import RNN, Checkpoint, History, fit
from xprnn.engine.network import loss_and_grad
from xprnn.training.checkpoint import writer
from xprnn.training.checkpoint.tree import Packer, named_kinds

Made = tuple[RNN, dict[str, Any]]
"""A network, and the arguments of `fit`."""


class Killed(BaseException):
    """Stands for the death of the process: nobody catches it."""


@contextmanager
def killed_after_write(number: int):
    """Kill the training inside right after a number of checkpoints was written."""
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
    """Kill the training inside in the middle of the training step with this number."""
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
    """Return all results of a training, to the bit."""
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
    """Check that a training that is stopped in its fifth step and resumed has the same results."""
    wanted = remains(*train(make))
    with killed_in_step(5):
        train(make, Checkpoint(path, every_steps=1))
    net, history = train(make, Checkpoint(path, resume=True))
    assert history.resumed == 4
    assert remains(net, history) == wanted
