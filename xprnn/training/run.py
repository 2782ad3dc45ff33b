"""A training run: the loop over epochs, and what follows each of them.

`fit` makes a `TrainingRun` and calls its `run`.  For each epoch that calls a `TrainingStep` with
every batch, adds the results to an `Epoch`, evaluates the validation data and writes a `Record`
into the `History`.  It decides when the run ends: after the last epoch, by early stopping, or
because a callback asks for it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.data.batches import Batch, Batches, each_batch
from xprnn.data.sharding import shard
from xprnn.engine.network import RNN
from xprnn.losses import Loss
from xprnn.training.best import BestWeights
from xprnn.training.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    DataPosition,
    RandomGenerator,
    Stateful,
    StatefulCallbacks,
)
from xprnn.training.epoch import Epoch
from xprnn.training.evaluation import evaluate, total_loss
from xprnn.training.history import HasHistory, History, Record
from xprnn.training.places import first_in_data
from xprnn.training.step import TrainingStep

Callback: TypeAlias = Callable[[RNN, Record], object]
RateScale: TypeAlias = Callable[[Sequence[float]], float]


@runtime_checkable
class Watcher(Protocol):
    """A callback that also sees the first batch of every epoch, before its step.

    It must not change anything: `xprnn.diagnostics.GradientFlow` is one.
    """

    def __call__(self, net: RNN, record: Record) -> object: ...

    def watch(
        self,
        net: RNN,
        epoch: int,
        x: Array,
        target: Array,
        *,
        state: Arrays | None,
        lengths: Sequence[int] | None,
        loss: Loss,
        window: int | None,
        clip_norm: float | None,
    ) -> None:
        """See a batch, the state that it begins in, and how the training will use it.

        It also gets ``clip_by`` if that is not ``"network"``, and ``mask`` if the batch has one.
        """
        ...


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; the network holds the weights of the last update.

    Attributes
    ----------
    history : History
        The epochs completed before.
    problem : str
        Why the last update is not in the checkpoint, if it could not be written.
    """

    def __init__(self, history: History, problem: str = "") -> None:
        told = f"; {problem}" if problem else ""
        super().__init__(f"training interrupted after {len(history)} epochs{told}")
        self.problem = problem
        self.history = history


@dataclass
class TrainingRun:
    """A training run; see `xprnn.fit` for its parts."""

    step: TrainingStep
    batches: Batches
    epochs: int
    rate_scale: RateScale | None
    validation: Batches | None
    best: BestWeights | None
    patience: int | None
    callbacks: Sequence[Callback]

    def __post_init__(self) -> None:
        self.history, self.ranks = self.step.history, self.step.ranks
        self.epoch = Epoch(self.step.loss, self.step.net, self.ranks)
        self.writer: CheckpointWriter | None = None
        self.watchers = [each for each in self.callbacks if isinstance(each, Watcher)]

    def same(self) -> dict[str, Any]:
        """Return what is the same when the run is resumed, and on every rank."""
        step, backend = self.step, self.step.net.backend
        found: dict[str, Any] = {
            "net": step.net.architecture,
            "backend": backend.name,
            "dtype": backend.dtype_name,
            "optimizer": step.optimizer,
            "loss": step.loss,
            "batches": self._described("batches", self.batches),
            "validation": None,
            "window": step.window,
            "clip_norm": step.clip_norm,
            "clip_value": step.clip_value,
            "accumulate": step.accumulate,
            "rate_scale": self.rate_scale,
            # The number may change, as that of epochs may: the training until then is the same.
            "patience": None if self.patience is None else "given",
            "min_delta": None if self.best is None else self.best.min_delta,
        }
        if step.clip_by != "network":
            # Checkpoints from before there was a choice have no such entry.
            found["clip_by"] = step.clip_by
        if self.ranks is not None and self.ranks.compression is not None:
            found["compress"] = self.ranks.compression.communicator.compress
        if self.validation is not None:
            found["validation"] = self._described("validation", self.validation)
        return found

    def _described(self, name: str, batches: Batches) -> dict[str, Any]:
        return DataPosition(name, batches, self.step.net.backend, self.epochs).describe()

    def track(self, checkpoint: Checkpoint) -> None:
        """Write checkpoints during the run; first resume from the existing one, if told to."""
        step, backend, same = self.step, self.step.net.backend, self.same()
        position = DataPosition("batches", self.batches, backend, self.epochs)
        # What may not fit is restored first: the data, then the user's callbacks and the generator.
        parts: dict[str, Stateful] = {"epochs": _EpochReached(self), "batches": position}
        self.batches = position
        self.epoch.last_batch = lambda: position.last
        if self.validation is not None:
            self.validation = DataPosition("validation", self.validation, backend, self.epochs)
            parts["validation"] = self.validation
        parts["callbacks"] = StatefulCallbacks([*self.callbacks, self.rate_scale])
        # After the data, because reading it may have drawn from the generator.
        parts["random"] = RandomGenerator(getattr(step.net, "rng", None))
        parts |= {"step": step, "epoch": self.epoch, "history": self.history}
        if self.best is not None:
            parts["best"] = self.best
        if self.ranks is not None and self.ranks.compression is not None:
            parts["compression"] = self.ranks.compression
        team = None if self.ranks is None else self.ranks.team
        self.writer = CheckpointWriter(checkpoint, backend, parts, same, team)
        if self.ranks is not None:
            ranks, self.ranks.clock = self.ranks, self.writer.time_is_up
            self.writer.is_time = lambda: ranks.time_is_up
        if self.writer.begin():
            self.history.resumed = step.updates
            if self.history.stopped != "callback":
                self.history.stopped = self._why_it_ends() if self.epoch.over else ""

    def run(self) -> History:
        """Train until the run ends."""
        history = self.history
        try:
            while not history.stopped:
                self._run_epoch()
        except KeyboardInterrupt:
            history.stopped = "interrupted"
            raise TrainingInterrupted(history, self._flush()) from None
        except Exception as error:
            # Whoever catches it can save the history along with the network.
            cast("HasHistory", error).history = history
            raise
        finally:
            history.optimizer_state = self.step.optimizer_state
            if self.best is not None and self.best.epoch:
                self.step.net.parameters = self.best.parameters
            if self.writer is not None:
                self.writer.end()
        return history

    def _flush(self) -> str:
        """Write the last update's checkpoint, if there is one to write; return why it can't be."""
        try:
            if self.writer is not None:
                self.writer.flush()
        except KeyboardInterrupt:
            return "its last checkpoint was interrupted, too"
        except OSError as error:
            return str(error)
        return ""

    def _run_epoch(self) -> None:
        """Train for an epoch, or for the rest of a resumed one, and do everything that follows."""
        step, epoch, history = self.step, self.epoch, self.history
        if epoch.over:
            step.begin_epoch(step.epoch + 1)
            epoch.begin()
        self._train()
        loss = epoch.total.value(f"to train on in epoch {step.epoch}")
        validation_loss = self._validate()
        record = Record(step.epoch, loss, validation_loss, epoch.norm)
        history.records.append(record)
        history.seconds += epoch.seconds
        if self.best is not None and validation_loss is not None:
            self.best.compare(step.epoch, validation_loss)
            history.best_epoch = self.best.epoch
        if self.rate_scale is not None:
            losses = history.loss if self.validation is None else history.validation_loss
            step.scale_rate(self.rate_scale(cast("list[float]", losses)))
        # A list, because every callback is called, even after one that asks to stop.
        asked = any([callback(step.net, record) for callback in self.callbacks])  # noqa: C419
        if self.ranks is not None:
            asked = self.ranks.end_epoch(step.epoch, asked=asked)
        history.stopped = "callback" if asked else self._why_it_ends()
        epoch.end()
        if self.writer is not None:
            self.writer.after_epoch(step.epoch, last=bool(history.stopped))

    def _why_it_ends(self) -> str:
        """Return why the training ends with this epoch, or an empty string if it does not."""
        epoch, best = self.step.epoch, self.best
        if best is not None and self.patience is not None and epoch - best.epoch >= self.patience:
            return "patience"
        return "epochs" if epoch == self.epochs else ""

    def _train(self) -> None:
        """Take a training step with every batch of the epoch."""
        step, epoch = self.step, self.epoch
        ranks = self.ranks
        for batch in each_batch(self.batches) if ranks is None else ranks.parts(self.batches):
            before = step.updates
            try:
                carried = epoch.carried if batch.carry else None
                if self.watchers and step.batch == 0:
                    self._show(batch, carried)
                reports, norm, epoch.carried = step(batch, carried)
            except (TypeError, ValueError) as error:
                error.add_note(f"in epoch {step.epoch}, batch {max(step.batch, 1)}")
                raise
            epoch.add(reports, norm)
            if self.writer is not None and step.updates > before:
                if self.writer.due(step.updates):
                    self._read_reports()
                # A snapshot has the losses of all batches so far.
                if not step.reports.waiting:
                    self.writer.after_update(step.updates)
        if step.batch == 0:
            again = " (a generator can be used for one epoch only)" if step.epoch > 1 else ""
            raise ValueError(
                f"batches is empty in epoch {step.epoch}: expected at least one batch{again}"
            )
        self._read_reports()
        epoch.add_norm(step.update_accumulated())
        step.check_weights()

    def _show(self, batch: Batch, state: Any) -> None:
        """Show an epoch's first batch to those who watch."""
        step = self.step
        # Left out by default, so that watchers need not know of it.
        by: dict[str, Any] = {} if step.clip_by == "network" else {"clip_by": step.clip_by}
        if batch.mask is not None:
            by["mask"] = batch.mask
        for watcher in self.watchers:
            watcher.watch(
                step.net,
                step.epoch,
                batch.x,
                batch.target,
                state=state,
                lengths=batch.lengths,
                loss=step.loss,
                window=step.window,
                clip_norm=step.clip_norm,
                **by,
            )

    def _read_reports(self) -> None:
        """Add the reports that were not read yet."""
        step = self.step
        try:
            self.epoch.add(step.read_reports(), None)
        except ValueError as error:
            error.add_note(f"in epoch {step.epoch}, batch {step.batch}")
            raise

    def _validate(self) -> float | None:
        """Return the validation loss, or None without validation data."""
        if self.validation is None:
            return None
        step = self.step
        with step.net.backend.library.quiet():
            try:
                value = self._evaluated(self.validation)
            except ValueError as error:
                error.add_note("in the validation data")
                raise
            place = "" if math.isfinite(value) else first_in_data(step.net, self.validation)
        if not math.isfinite(value):
            step.fail(f"the validation loss is {value}", place=place)
        return value

    def _evaluated(self, batches: Batches) -> float:
        """Return the loss over data, of which every rank computes a part."""
        step = self.step
        if self.ranks is None:
            return evaluate(step.net, batches, loss=step.loss)
        communicator = self.ranks.team.communicator
        total = total_loss(step.net, shard(batches, communicator), step.loss)
        return self.ranks.added(total).value("to evaluate")


@dataclass
class _EpochReached:
    """The epoch that a run has reached; a resumed run must be asked for at least as many."""

    training: TrainingRun

    def state(self) -> int:
        return self.training.step.epoch

    def restore(self, state: int) -> None:
        if state > self.training.epochs:
            raise ValueError(f"epochs is {self.training.epochs}: expected at least {state}")
