"""The trainings of a command: their checkpoints, and how they end."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from xprnn.backend import Backend
from xprnn.backend.host.files import output_folder
from xprnn.backend.host.threads import blas_threads
from xprnn.cli.train.options import rate_scale
from xprnn.cli.train.progress import Progress
from xprnn.data.batches import Batches
from xprnn.engine.network import RNN
from xprnn.optim import Optimizer
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.fit import fit
from xprnn.training.history import History
from xprnn.training.run import TrainingInterrupted
from xprnn.training.step import NonFiniteLossError

MODEL, HISTORY = "model.safetensors", "history.jsonl"


class Session:
    """The trainings of a command, one or several, as a context manager.

    Inside, `fit` trains.  An interruption, or a loss that is not finite, ends the block without an
    error and leaves every network whole, so that the results so far can be written after it.  Then
    `status` says what happened, and returns the exit status of the command.

    Parameters
    ----------
    args : argparse.Namespace
        With the options of `xprnn.cli.train.options`.
    epochs : int
        The epochs of all trainings together.

    Attributes
    ----------
    histories : list of History
        Those of all trainings, also of one that ended early.
    error : NonFiniteLossError, TrainingInterrupted or None
        Why a training ended early, if one did.
    """

    def __init__(self, args: Namespace, epochs: int) -> None:
        self.args = args
        self.histories: list[History] = []
        self.error: NonFiniteLossError | TrainingInterrupted | None = None
        self._progress = Progress(epochs)
        self._inside = ExitStack()

    def __enter__(self) -> "Session":
        self._inside.enter_context(self._progress)
        self._inside.enter_context(blas_threads(self.args.threads))
        return self

    def fit(
        self,
        net: RNN,
        batches: Batches,
        optimizer: Optimizer,
        checkpoint: Checkpoint | None,
        **options: Any,
    ) -> None:
        """Train a network with `xprnn.fit`, which takes the options."""
        history = fit(
            net,
            batches,
            optimizer=optimizer,
            clip_norm=self.args.clip,
            rate_scale=rate_scale(self.args),
            callbacks=[self._progress],
            checkpoint=checkpoint,
            **options,
        )
        self.histories.append(history)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._inside.close()
        if isinstance(error, NonFiniteLossError | TrainingInterrupted):
            self.error = error
            self.histories.append(error.history)
            return True
        return False

    def summary(self, backend: Backend, details: str = "") -> str:
        """Return a line: epochs, seconds, backend and seed."""
        epochs = sum(len(history) for history in self.histories)
        seconds = sum(history.seconds for history in self.histories)
        return (
            f"trained {epochs} epochs{details} in {seconds:.1f} s on {backend.name} "
            f"({backend.device}, {backend.dtype_name}), seed {self.args.seed}"
        )

    def status(self, model: Path) -> int:
        """Say on stderr why a training ended early, if one did; return the exit status."""
        if self.error is None:
            return 0
        if isinstance(self.error, TrainingInterrupted):
            resume = "; the same command with --resume goes on" if self.args.checkpoint else ""
            print(f"xprnn: {self.error}; the model so far is {model}{resume}", file=sys.stderr)
            return 130
        print(f"xprnn: error: {self.error}; it is {model}", file=sys.stderr)
        return 1


def checkpoints(args: Namespace, count: int | None = None) -> list[Checkpoint | None]:
    """Return the checkpoint that ``--checkpoint`` asks for, or a numbered one for each training.

    Parameters
    ----------
    args : argparse.Namespace
    count : int, optional
        The number of trainings; None: one, whose checkpoint has no number.

    Raises
    ------
    OSError
        If the folder can't be written to.
    FileExistsError
        If there is a checkpoint that ``--resume`` was not asked to go on from.
    """
    file: Path | None = args.checkpoint
    if file is None:
        return [None] * (count or 1)
    files = [file]
    if count is not None:
        files = [file.with_name(f"{file.stem}-{k}{file.suffix}") for k in range(1, count + 1)]
    found = [Checkpoint(file, resume=args.resume) for file in files]
    output_folder(file.parent)
    there = [one for one in found if one.file.exists() or one.previous.exists()]
    if there and not args.resume:
        raise FileExistsError(
            f"there is a checkpoint {str(there[0].file)!r} already: --resume goes on from it; to "
            "begin anew, remove it or name another file"
        )
    if args.resume and not there:
        message = f"xprnn: there is no checkpoint {str(files[0])!r} yet: beginning anew"
        print(message, file=sys.stderr, flush=True)
    return [*found]


@contextmanager
def saved(model: Path) -> Iterator[None]:
    """Let a Ctrl-C that comes after the model was saved say where the model is."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; the model is {model}") from error
