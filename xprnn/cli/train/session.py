"""The trainings of a command: their checkpoints, and how they end."""

import os
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from xprnn.backend import Backend
from xprnn.backend.host.files import check_writable, output_folder, remove_parts
from xprnn.backend.host.locks import Lock
from xprnn.backend.host.threads import blas_threads
from xprnn.cli.common import flush, one_line, results_folder, tell
from xprnn.cli.stops import stops
from xprnn.cli.train.options import rate_scale
from xprnn.cli.train.progress import Progress
from xprnn.data.batches import Batches
from xprnn.engine.network import RNN
from xprnn.optim import Optimizer
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.fit import fit
from xprnn.training.history import HasHistory, History, Record
from xprnn.training.step import NonFiniteLossError

MODEL, HISTORY = "model.safetensors", "history.jsonl"

DIVERGED = 3.0
"""How many times the loss of an untrained answer a network's must be that has diverged."""


class Session:
    """The trainings of a command, one or several, as a context manager.

    Inside, `fit` trains.  Whatever ends a training early (Ctrl-C, a loss that is not finite, a
    checkpoint that can't be written) ends the block without an error if there is something to save,
    and leaves every network whole.  Then `save` writes the model, `finishing` is around all that
    follows, and `status` says what happened and returns the exit status of the command.

    Until `finishing`, signals that ask the command to end do so inside `fit` alone; see `Stops`.

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
    error : BaseException or None
        Why a training ended early, if one did.
    """

    def __init__(self, args: Namespace, epochs: int) -> None:
        self.args = args
        self.histories: list[History] = []
        self.error: BaseException | None = None
        self._problems: list[str] = []
        self._progress = Progress(epochs)
        self._inside = ExitStack()

    def __enter__(self) -> "Session":
        self._inside.enter_context(self._progress)
        self._inside.enter_context(blas_threads(self.args.threads))
        stops.hold()
        return self

    def fit(
        self,
        net: RNN,
        batches: Batches,
        optimizer: Optimizer,
        checkpoint: Checkpoint | None,
        **options: Any,
    ) -> History:
        """Train a network with `xprnn.fit`, which takes the options and makes the history."""
        with stops.listening():
            history = fit(
                net,
                batches,
                optimizer=optimizer,
                clip_norm=self.args.clip,
                clip_by=self.args.clip_by,
                report_every=self.args.report_every,
                rate_scale=rate_scale(self.args),
                callbacks=[self._progress, _check_stops],
                checkpoint=checkpoint,
                communicator=self.args.communicator,
                **options,
            )
        self.histories.append(history)
        return history

    def skip(self, epochs: int) -> None:
        """Leave out epochs that the trainings together turn out not to need."""
        self._progress.skip(epochs)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._inside.close()
        if not isinstance(error, Exception | KeyboardInterrupt):
            return False
        # An error before the first step has no history: that network is as it was.
        if isinstance(error, HasHistory):
            self.histories.append(error.history)
        self.error = error
        return bool(self.histories)

    def save(self, folder: Path, write: Callable[[Path], object]) -> Path:
        """Write the model into a folder, or elsewhere if it can't be written there.

        Parameters
        ----------
        folder : Path
        write : callable
            Writes the model to a path.

        Returns
        -------
        Path
            Where the model is.

        Raises
        ------
        OSError
            If it can't be written anywhere.
        """
        wanted = folder / MODEL
        try:
            if not folder.exists():
                folder.mkdir(parents=True)
                self._problems.append(
                    f"the output folder {str(folder)!r} was gone and was made anew"
                )
            write(wanted)
            return wanted
        except OSError as error:
            self._problems.append(f"can't write {str(wanted)!r}: {error.strerror or error}")
        checkpoint: Path | None = self.args.checkpoint
        near = [] if checkpoint is None else [checkpoint.parent]
        for place in (*near, Path(), Path(tempfile.gettempdir()), Path.home()):
            other = place / f"xprnn-{folder.name}-{os.getpid()}-{MODEL}"
            with suppress(OSError):
                write(other)
                return other
        problems = "; ".join(self._problems)
        raise OSError(f"the model could not be saved anywhere: {problems}") from self.error

    @contextmanager
    def finishing(self, model: Path) -> Iterator[None]:
        """Let nothing that fails after the model was saved hide where it is."""
        try:
            with stops.listening():
                yield
            unwritten = flush(sys.stdout)
            if unwritten is not None:
                raise unwritten
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"interrupted; the model is {model}") from error
        except Exception as error:
            if self.args.debug:
                tell(traceback.format_exc().rstrip())
            printing = isinstance(error, OSError) and error.filename is None
            where = "can't print the results: " if printing else ""
            self._problems.append(f"{where}{one_line(error)}")
            flush(sys.stdout)

    def summary(self, backend: Backend, details: str = "") -> str:
        """Return a line: epochs, seconds, backend and seed."""
        epochs = sum(len(history) for history in self.histories)
        seconds = sum(history.seconds for history in self.histories)
        return (
            f"trained {epochs} epochs{details} in {seconds:.1f} s on {backend.name} "
            f"({backend.device}, {backend.dtype_name}), seed {self.args.seed}"
        )

    def warn_if_diverged(self, loss: float, plain: float, what: str, measure: str = "loss") -> None:
        """Say that a training made its network worse than an answer without any training.

        Parameters
        ----------
        loss : float
            Of the network that is kept.
        plain : float
            Of that answer.
        what : str
            The answer, in words.
        measure : str
            What both numbers are.
        """
        if self.error is None and not loss <= DIVERGED * plain:
            rate = self.args.lr
            given = "" if rate is None else f" than {rate:g}"
            tell(
                f"xprnn: warning: the training diverged: the {measure} is {loss:.3g}, and "
                f"{plain:.3g} for {what}; a smaller --lr{given} may help"
            )

    def quiet_status(self) -> int:
        """Return the exit status of a rank for which rank 0 says what happened."""
        if isinstance(self.error, KeyboardInterrupt):
            return stops.status
        return int(self.error is not None)

    def status(self, model: Path) -> int:
        """Say on stderr in a line what went wrong, if anything did; return the exit status."""
        error, problems = self.error, "".join(f"{problem}; " for problem in self._problems)
        if isinstance(error, KeyboardInterrupt):
            resume = "; the same command with --resume goes on" if self.args.checkpoint else ""
            what = str(error) or "interrupted between two trainings"
            tell(f"xprnn: {problems}{what}; the model so far is {model}{resume}")
            return stops.status
        if isinstance(error, NonFiniteLossError):
            tell(f"xprnn: error: {problems}{error}; it is {model}")
        elif error is not None:
            if self.args.debug:
                tell("".join(traceback.format_exception(error)).rstrip())
            tell(f"xprnn: error: {problems}{one_line(error)}; the model so far is {model}")
        elif problems:
            tell(f"xprnn: error: {problems}the model is {model}")
        return int(error is not None or bool(problems))


def _check_stops(net: RNN, record: Record) -> None:
    """Be a callback that ends the training if a signal was dropped."""
    del net, record
    stops.check()


def outputs(args: Namespace, name: str, *files: str) -> Path:
    """Return the folder to write to, which no other training writes to until the command ends.

    That its files can be written is known then, unless the disk becomes full.  What a killed
    process left of them is removed.

    Parameters
    ----------
    args : argparse.Namespace
    name : str
        The name of a new folder under ``runs/``, unless ``--out`` names one.
    *files : str
        The files that the command writes.

    Raises
    ------
    OSError
        If a file can't be written, or another training holds the folder; the message names it.
    """
    if getattr(args, "rank", 0):
        return Path()  # rank 0 writes
    folder = results_folder(args.out, name)
    args.held.enter_context(Lock(folder, f"the output folder {str(folder)!r}"))
    for file in files:
        try:
            check_writable(folder / file)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"can't write {str(folder / file)!r}: {reason}") from error
        remove_parts(folder / file)
    return folder


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
        If a file can't be written, or another training uses it.
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
    if getattr(args, "rank", 0):
        return [*found]  # rank 0 looks at the files
    output_folder(file.parent)
    for one in found:
        # Another training is named before what it writes can be in the way.
        with one.lock():
            check_writable(one.file)
    there = [one for one in found if one.file.exists() or one.previous.exists()]
    if there and not args.resume:
        raise FileExistsError(
            f"there is a checkpoint {str(there[0].file)!r} already: --resume goes on from it; to "
            "begin anew, remove it or name another file"
        )
    if args.resume and not there:
        tell(f"xprnn: there is no checkpoint {str(files[0])!r} yet: beginning anew")
    return [*found]
