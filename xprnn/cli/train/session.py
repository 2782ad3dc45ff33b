"""What the trainings share: options, checkpoints, progress, and how a training ends."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from xprnn import checks
from xprnn.backend.host.files import output_folder
from xprnn.cli.train.options import check_choices
from xprnn.engine.network import RNN
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.history import History, Record
from xprnn.training.run import TrainingInterrupted
from xprnn.training.step import NonFiniteLossError

MODEL, HISTORY = "model.safetensors", "history.jsonl"


def training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every training has, besides those of `xprnn.cli.train.options`."""
    add = parser.add_argument_group("run").add_argument
    add(
        "--threads",
        type=int,
        default=1,
        help="of BLAS while training (default 1; more pay for large networks on a quiet machine)",
    )
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="written every minute, so that a training that was stopped can go on",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from the checkpoint, if there is one; every other option as before",
    )


def check_training(args: argparse.Namespace) -> None:
    """Refuse what the options can't mean, in the words of the command line."""
    check_choices(args)
    checks.positive_int("--threads", args.threads)
    if args.epochs is not None:
        checks.positive_int("--epochs", args.epochs)
    if args.resume and args.checkpoint is None:
        raise ValueError("--resume needs --checkpoint FILE: which one to go on from")


def checkpoints(args: argparse.Namespace, count: int | None = None) -> list[Checkpoint | None]:
    """Return the checkpoints that were asked for: one, or one for each of some trainings, numbered.

    Before the work it is found out whether they can be written, and are not in the way.
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


class Progress:
    """Epoch, loss and time left: a bar on a terminal, about ten plain lines elsewhere.

    A callback of `xprnn.fit`, and a context manager around one or several of them; ``epochs`` are
    those of all together.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.done, self.restored = epochs, 0, 0
        self.started = time.perf_counter()
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.epochs, desc="training", unit="epoch", file=sys.stderr)
        return self

    def __call__(self, net: RNN, record: Record) -> None:
        """Show an epoch."""
        del net
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{record.loss:.4g}", refresh=False)
            self.bar.update()
            return
        every = max(1, self.epochs // 10)
        if self.done == 1 or self.done % every == 0 or self.done == self.epochs:
            each = (time.perf_counter() - self.started) / (self.done - self.restored)
            print(
                f"epoch {self.done}/{self.epochs}, loss {record.loss:.4g}, "
                f"{each * (self.epochs - self.done):.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def state(self) -> int:
        """Return how many epochs are done, for a checkpoint."""
        return self.done

    def restore(self, state: int) -> None:
        """Say that the training goes on."""
        more = state - self.done
        self.done, self.restored = state, self.restored + more
        if self.bar is not None:
            self.bar.update(more)
            return
        print(f"epoch {self.done}/{self.epochs} is done, going on", file=sys.stderr, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()


class Ending:
    """How a training ended: a context manager that lets the results so far be written first.

    Inside, `fit` may be interrupted or meet a loss that is not finite; the network is whole then.
    After it was saved, `status` says what happened and returns the command's exit status.

    Attributes
    ----------
    checkpoint : path or None
        That of `fit`, if there is one.
    histories : list of History
        To be appended to; the one of a training that ended early is appended here.
    """

    def __init__(self, checkpoint: Path | None = None) -> None:
        self.checkpoint = checkpoint
        self.histories: list[History] = []
        self.error: NonFiniteLossError | TrainingInterrupted | None = None

    def __enter__(self) -> "Ending":
        return self

    @property
    def epochs(self) -> int:
        """How many epochs were completed."""
        return sum(len(history) for history in self.histories)

    @property
    def seconds(self) -> float:
        """What they took."""
        return sum(history.seconds for history in self.histories)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, NonFiniteLossError | TrainingInterrupted):
            self.error = error
            self.histories.append(error.history)
            return True
        return False

    def status(self, model: Path) -> int:
        """Say on stderr if the training did not end by itself; return the exit status."""
        if self.error is None:
            return 0
        if isinstance(self.error, TrainingInterrupted):
            then = "" if self.checkpoint is None else "; the same command with --resume goes on"
            print(f"xprnn: {self.error}; the model so far is {model}{then}", file=sys.stderr)
            return 130
        print(f"xprnn: error: {self.error}; it is {model}", file=sys.stderr)
        return 1


@contextmanager
def saved(model: Path) -> Iterator[None]:
    """Let a Ctrl-C that comes after the model was saved say where it is."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; the model is {model}") from error
