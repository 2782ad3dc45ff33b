"""One training step: from a batch to new weights.

`TrainingRun` calls a `TrainingStep` once for each batch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from xprnn.backend.types import Array
from xprnn.data.batches import Batch
from xprnn.engine.gradients import GradientArray
from xprnn.engine.network import RNN, loss_and_grad
from xprnn.losses import Loss, mask_arguments
from xprnn.optim import InPlaceOptimizer, Optimizer, Scalable, clip_by_value
from xprnn.optim.arguments import NaNGradientError
from xprnn.optim.clipping import limit_norms
from xprnn.training.accumulation import Accumulation
from xprnn.training.evaluation import batch_mask
from xprnn.training.hint import hint_if_small
from xprnn.training.history import History
from xprnn.training.places import Places
from xprnn.training.ranks import Ranks
from xprnn.training.reports import Report, Reports


class NonFiniteLossError(FloatingPointError):
    """The loss, or the weights after an update, became NaN or infinite.

    The network then holds the last weights that gave a finite loss, or, with ``patience``, those of
    the best epoch if there was one.

    Attributes
    ----------
    what : str
        What is not finite, in words.
    place : str
        The first number that is not, in the forward pass of that batch or on the way back, such as
        ``"v at step 31, unit 7, layer 0, sequence 2 (inf)"``; of a validation loss also in which
        batch of the validation data.  Empty if it is unknown: with ``report_every`` above 1, if
        the update is not finite, or if the validation data can be read once only.
    epoch, batch : int
        Where it happened, both from 1.
    history : History
        The epochs completed before.
    read : (int, int) or None
        With ``report_every``, the first and the last batch of those whose losses were read
        together; the network then holds the weights from before the first.
    """

    def __init__(
        self,
        what: str,
        epoch: int,
        batch: int,
        history: History,
        read: tuple[int, int] | None = None,
        place: str = "",
    ) -> None:
        weights = "the last weights that gave a finite loss"
        if read is not None:
            weights = f"the weights before batch {read[0]}"
        if history.best_epoch:
            weights = f"the weights of epoch {history.best_epoch}, the best"
        found = "" if read is None else f" (losses are read together: here, after batch {read[1]})"
        first = f"; first non-finite: {place}" if place else ""
        super().__init__(
            f"{what} in epoch {epoch}, batch {batch}{found}: the network keeps {weights}{first}; "
            "a smaller learning rate or clip_norm=1.0 may help"
        )
        self.what, self.epoch, self.batch, self.history = what, epoch, batch, history
        self.read, self.place = read, place


@dataclass
class TrainingStep:
    """One training step, and what each step hands to the next.

    Attributes
    ----------
    optimizer_state : object
    updates : int
        How many updates were made so far.
    epoch, batch : int
        The position of the training, both from 1.
    good : dict of array
        The last weights that gave a finite loss.
    finite : dict of array
        The weights at the end of the last epoch, which are known to be finite.
    """

    net: RNN
    loss: Loss
    optimizer: Optimizer
    clip_norm: float | None
    clip_value: float | None
    window: int | None
    recompute: bool
    accumulate: int
    history: History
    report_every: int = 1
    clip_by: str = "network"
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        self.optimizer_state: Any = self.optimizer.init(self.net.parameters)
        self.updates = self.epoch = self.batch = 0
        # Updates make new arrays, so references to the old ones are enough.
        self.good = self.finite = dict(self.net.parameters)
        self.accumulation = Accumulation(self.loss)
        self.reports = Reports(self.net.backend.library, self.report_every * self.accumulate)
        kept = self.report_every == 1 and self.ranks is None
        self.places = Places(self.net, self.loss, self.window, self.recompute, kept=kept)
        # Accumulated gradients are dense, and only an InPlaceOptimizer takes factored ones.
        self.factored = self.accumulate == 1 and isinstance(self.optimizer, InPlaceOptimizer)

    def __call__(self, batch: Batch, state: Any) -> tuple[list[Report], Array | None, Any]:
        """Take the step with a batch that begins in ``state``.

        Every ``accumulate``-th batch makes an update, unless no batch since the last one had an
        entry: then there is no gradient, and the weights don't decay either.

        Returns
        -------
        reports : list of Report
            Of this batch and those before it that were not read; empty if they are read later.
        norm : array, zero-dimensional, or None
            The norm of the gradients before clipping (the largest of those that ``clip_by`` has
            limited); None without ``clip_norm`` or an update.
        state : tuple of array
            The network's final state.
        """
        self.batch += 1
        self.places.note(self.batch, batch, state)
        # Values that are not finite raise an error here; a warning would only repeat it.
        with self.net.backend.library.quiet():
            with self.reports.asking() as questions:
                value, gradient, final = loss_and_grad(
                    self.net,
                    batch.x,
                    batch.target,
                    self.loss,
                    state=state,
                    lengths=batch.lengths,
                    mask=batch.mask,
                    window=self.window,
                    weights=batch.weights,
                    rng=None if self.ranks is None else self.ranks.drawing(),
                    recompute=self.recompute,
                    factored=self.factored,
                    parameters_only=True,
                    done=self._receiver(batch),
                )
            if self.batch == 1 and not self.updates:
                hint_if_small(self.net, batch.x.shape[1])
            entries = self.entries(batch)
            if self.ranks is not None:
                return self._shared(value, entries, questions, gradient.parameters, final)
            known = self.reports.known(self.batch, value, entries)
            # Before the update, so that the weights are those that gave the last loss.
            if known is not None:
                reports = self.checked([known])
            else:
                self.reports.add(self.batch, value, entries, questions)
                reports = self.read_reports() if self.reports.due else []
            if reports:
                entries = reports[-1].entries
            if self.accumulate == 1:
                # A number on the device is not waited for: the update is made.
                none = isinstance(entries, int | float) and not entries
                return reports, None if none else self._update(gradient.parameters), final
            self.accumulation.add(gradient.parameters, entries)
        complete = self.accumulation.batches == self.accumulate
        return reports, self.update_accumulated() if complete else None, final

    def _shared(
        self,
        value: Array,
        entries: int | float | Array,
        questions: Any,
        gradients: dict[str, GradientArray],
        final: Any,
    ) -> tuple[list[Report], Array | None, Any]:
        """Take the step together with the other ranks, each of which has a part of the batch."""
        assert self.ranks is not None
        mine = self.reports.known(self.batch, value, entries)
        if mine is None:
            self.reports.add(self.batch, value, entries, questions)
            (mine,) = self.reports.read()
        if mine.fault:
            raise ValueError(mine.fault)
        whole = self.ranks.after_batch(self.updates, self.epoch, mine, gradients)
        reports = self.checked([whole])
        if self.accumulate == 1:
            if not whole.entries:
                self.ranks.abandon()
                return reports, None, final
            self.ranks.entries = mine.entries, whole.entries
            return reports, self._update(gradients), final
        self.accumulation.add(gradients, mine.entries)
        self.ranks.accumulate(mine.entries, whole.entries)
        complete = self.accumulation.batches == self.accumulate
        return reports, self.update_accumulated() if complete else None, final

    def _receiver(self, batch: Batch) -> Callable[[Mapping[str, GradientArray]], None] | None:
        """Return what takes gradients while others are computed, if there are other ranks."""
        if self.ranks is None or self.accumulate > 1:
            return None
        return self.ranks.receiver(lambda: float(self.entries(batch)))

    def read_reports(self) -> list[Report]:
        """Return the reports that were not read yet, after a look at what they say."""
        return self.checked(self.reports.read())

    def checked(self, reports: list[Report]) -> list[Report]:
        """Return reports if what they say is good; else go back to good weights and say so."""
        for report in reports:
            if report.fault:
                if len(reports) > 1:
                    # Updates were made since.
                    self.net.parameters = self.good
                self.batch = report.batch
                raise ValueError(report.fault)
            if not math.isfinite(report.loss):
                read = (reports[0].batch, reports[-1].batch) if self.report_every > 1 else None
                self.batch = report.batch
                place = "" if read is not None else self.places.in_forward(report.batch)
                self.fail(f"the loss is {report.loss}", read, place)
        if reports:
            self.places.forget(but=self.batch)
            self.good = dict(self.net.parameters)
        return reports

    def entries(self, batch: Batch) -> int | float | Array:
        """Return how many entries the loss of a batch is a sum or mean over."""
        mask = batch_mask(self.net, self.loss, batch, batch.target)
        return self.reports.entries(self.loss, batch.target, *mask_arguments(mask))

    def update_accumulated(self) -> Array | None:
        """Make the update of the accumulated batches, if any; return the norm before clipping."""
        if not self.accumulation.batches:
            return None
        gradients, entries = self.accumulation.gradients, self.accumulation.entries
        self.accumulation.clear()
        if self.ranks is not None:
            entries = self.ranks.entries[1]
        if not entries:
            return None
        with self.net.backend.library.quiet():
            return self._update(gradients)

    def _update(self, gradients: dict[str, GradientArray]) -> Array | None:
        try:
            return self._updated(gradients)
        except NaNGradientError as error:
            place = self.places.on_the_way_back(self.batch) if self.accumulate == 1 else ""
            self.fail(f"the gradient of {', '.join(error.names)} became NaN", None, place)

    def _updated(self, gradients: dict[str, GradientArray]) -> Array | None:
        net, norm = self.net, None
        if self.ranks is not None:
            gradients = self.ranks.summed(gradients, accumulated=self.accumulate > 1)
        if self.clip_value is not None:
            gradients = clip_by_value(gradients, self.clip_value)
        if self.clip_norm is not None:
            gradients, norm = limit_norms(gradients, self.clip_norm, self.clip_by)
        net.parameters, self.optimizer_state = self.optimizer.update(
            gradients, self.optimizer_state, net.parameters
        )
        self.updates += 1
        return norm

    def scale_rate(self, factor: float) -> None:
        """Multiply the learning rate by a factor."""
        if not isinstance(self.optimizer, Scalable):
            raise TypeError(
                f"rate_scale is given, but {self.optimizer} has no learning rate to scale"
            )
        self.optimizer_state = self.optimizer.scaled(self.optimizer_state, factor)

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch, self.batch = epoch, 0

    def check_weights(self) -> None:
        """Raise an error if an update made weights infinite or NaN, after a finite loss."""
        bad = self.not_finite(self.net.parameters)
        if bad:
            self.fail(f"the update made {', '.join(bad)} infinite or NaN")
        self.finite = dict(self.net.parameters)

    def fail(self, what: str, read: tuple[int, int] | None = None, place: str = "") -> NoReturn:
        """Go back to good weights and raise the error that says what is not finite."""
        # A saturated tanh gives a finite loss even with infinite weights.
        self.net.parameters = self.finite if self.not_finite(self.good) else self.good
        self.history.stopped = "non-finite"
        raise NonFiniteLossError(what, self.epoch, self.batch, self.history, read, place)

    def not_finite(self, parameters: Mapping[str, Array]) -> list[str]:
        """Return the names of the parameters with an entry that is infinite or NaN."""
        library = self.net.backend.library
        return [name for name, p in parameters.items() if not library.all_finite(p)]

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; to be called when no batch is accumulated."""
        return {
            "parameters": dict(self.net.parameters),
            "memory": self.optimizer_state,
            "updates": self.updates,
            "epoch": self.epoch,
            "batch": self.batch,
            "good": self.good,
            "finite": self.finite,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.net.parameters = state["parameters"]
        self.optimizer_state, self.updates = state["memory"], state["updates"]
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.good, self.finite = state["good"], state["finite"]
