"""A training run: its parts, and the loop over epochs."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from xprnn.data.batches import Batches, each_batch
from xprnn.engine.network import RNN
from xprnn.training.checkpoint import Checkpoint, Keeper, Random, Several, Source, Stateful
from xprnn.training.epoch import BestWeights, Epoch
from xprnn.training.evaluation import evaluate
from xprnn.training.history import History, Record
from xprnn.training.step import TrainingStep

Callback: TypeAlias = Callable[[RNN, Record], object]
RateScale: TypeAlias = Callable[[Sequence[float]], float]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; the network holds the weights so far.

    Attributes
    ----------
    history : History
        The epochs completed before.
    """

    def __init__(self, history: History) -> None:
        super().__init__(f"training interrupted after {len(history)} epochs")
        self.history = history


@dataclass
class Training:
    """A training run; see `xprnn.fit` for what it consists of."""

    step: TrainingStep
    batches: Batches
    epochs: int
    rate_scale: RateScale | None
    validation: Batches | None
    best: BestWeights | None
    patience: int | None
    callbacks: Sequence[Callback]

    def __post_init__(self) -> None:
        self.history = self.step.history
        self.epoch = Epoch(self.step.loss)
        self.keeper: Keeper | None = None

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint now and then; go on from it if that was said."""
        step, backend = self.step, self.step.net.backend
        source = Source("batches", self.batches, backend)
        same: dict[str, Any] = {
            "net": step.net.architecture,
            "backend": backend.name,
            "dtype": backend.dtype_name,
            "optimizer": step.optimizer,
            "loss": step.loss,
            "batches": source.describe(),
            "validation": None,
            "window": step.window,
            "clip_norm": step.clip_norm,
            "clip_value": step.clip_value,
            "accumulate": step.accumulate,
            "rate_scale": self.rate_scale,
            # How long it lasts may change, as the epochs may: what is done until then is the same.
            "patience": None if self.patience is None else "given",
            "min_delta": None if self.best is None else self.best.min_delta,
        }
        # The data first: it may be other data, and then nothing else must have changed.
        parts: dict[str, Stateful] = {"epochs": _Reached(self), "batches": source}
        self.batches = source
        if self.validation is not None:
            parts["validation"] = self.validation = Source("validation", self.validation, backend)
            same["validation"] = self.validation.describe()
        parts |= {"step": step, "epoch": self.epoch, "history": self.history}
        if self.best is not None:
            parts["best"] = self.best
        parts["callbacks"] = Several([*self.callbacks, self.rate_scale])
        # The generator last, because going through the data may have drawn from it.
        parts["random"] = Random(getattr(step.net, "rng", None))
        self.keeper = Keeper(checkpoint, backend, parts, same)
        if self.keeper.begin():
            self.history.resumed = step.updates
            if self.history.stopped != "callback":
                self.history.stopped = self._end() if self.epoch.over else ""

    def run(self) -> History:
        """Train until it stops."""
        history = self.history
        try:
            while not history.stopped:
                self._epoch()
        except KeyboardInterrupt:
            history.stopped = "interrupted"
            if self.keeper is not None:
                with contextlib.suppress(KeyboardInterrupt):
                    self.keeper.flush()
            raise TrainingInterrupted(history) from None
        finally:
            history.optimizer_state = self.step.memory
            if self.best is not None and self.best.epoch:
                self.step.net.parameters = self.best.parameters
        return history

    def _epoch(self) -> None:
        """Train for an epoch, or for what is left of it, and do what follows one."""
        step, epoch, history = self.step, self.epoch, self.history
        if epoch.over:
            step.begin(step.epoch + 1)
            epoch.begin()
        self._train()
        validated = self._validate()
        record = Record(step.epoch, epoch.total.value(), validated, epoch.norm)
        history.records.append(record)
        history.seconds += epoch.seconds
        if self.best is not None and validated is not None:
            self.best.note(step.epoch, validated)
            history.best_epoch = self.best.epoch
        if self.rate_scale is not None:
            losses = history.loss if self.validation is None else history.validation_loss
            step.scale(self.rate_scale(cast("list[float]", losses)))
        # A list, because every callback is called, also after one that asks to stop.
        asked = any([callback(step.net, record) for callback in self.callbacks])  # noqa: C419
        history.stopped = "callback" if asked else self._end()
        epoch.end()
        if self.keeper is not None:
            self.keeper.epoch(step.epoch, last=bool(history.stopped))

    def _end(self) -> str:
        """Return why the training ends with this epoch, or nothing."""
        epoch, best = self.step.epoch, self.best
        if best is not None and self.patience is not None and epoch - best.epoch >= self.patience:
            return "patience"
        return "epochs" if epoch == self.epochs else ""

    def _train(self) -> None:
        step, epoch = self.step, self.epoch
        for batch in each_batch(self.batches):
            before = step.updates
            try:
                value, norm, epoch.carried = step(batch, epoch.carried if batch.carry else None)
            except (TypeError, ValueError) as error:
                error.add_note(f"in epoch {step.epoch}, batch {step.batch}")
                raise
            epoch.add(value, step.entries(batch), norm)
            if self.keeper is not None and step.updates > before:
                self.keeper.update(step.updates)
        if step.batch == 0:
            again = " (a generator can be used for one epoch only)" if step.epoch > 1 else ""
            raise ValueError(
                f"batches is empty in epoch {step.epoch}: expected at least one batch{again}"
            )
        epoch.see(step.finish())
        step.check_weights()

    def _validate(self) -> float | None:
        if self.validation is None:
            return None
        step = self.step
        with step.net.backend.library.quiet():
            validated = evaluate(step.net, self.validation, loss=step.loss)
        if not math.isfinite(validated):
            step.fail(f"the validation loss is {validated}")
        return validated


@dataclass
class _Reached:
    """The epoch that a training has reached, which must not be past its last."""

    training: Training

    def state(self) -> int:
        return self.training.step.epoch

    def restore(self, state: int) -> None:
        if state > self.training.epochs:
            raise ValueError(f"epochs is {self.training.epochs}: expected at least {state}")
