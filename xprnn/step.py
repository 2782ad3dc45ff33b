"""One training step, and what a training run remembers between its steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xprnn.backend.types import Array
from xprnn.data.batches import Batch
from xprnn.history import History
from xprnn.losses import Loss
from xprnn.network import RNN
from xprnn.optim import Optimizer, Scalable, clip_by_norm, clip_by_value


class NonFiniteLossError(FloatingPointError):
    """The loss, or the weights that an update made, became NaN or infinite.

    The network then holds the last weights that gave a finite loss, or, with ``patience``, those of
    the best epoch if there was one.

    Attributes
    ----------
    what : str
        What is not finite.
    epoch, batch : int
        Where, both from 1.
    history : History
        The epochs completed before.
    """

    def __init__(self, what: str, epoch: int, batch: int, history: History) -> None:
        kept = "the last weights that gave a finite loss"
        if history.best_epoch:
            kept = f"the weights of epoch {history.best_epoch}, the best"
        super().__init__(
            f"{what} in epoch {epoch}, batch {batch}: the network keeps {kept}; "
            "a smaller learning rate or clip_norm=1.0 may help"
        )
        self.what, self.epoch, self.batch, self.history = what, epoch, batch, history


@dataclass
class TrainingStep:
    """One training step, and what it remembers from each to the next."""

    net: RNN
    loss: Loss
    optimizer: Optimizer
    clip_norm: float | None
    clip_value: float | None
    window: int | None

    def __post_init__(self) -> None:
        self.memory: Any = self.optimizer.init(self.net.parameters)
        self.batch = 0
        # Updates make new arrays, so keeping old weights means keeping references.
        self.good = self.finite = dict(self.net.parameters)

    def __call__(self, batch: Batch, state: Any, epoch: int, history: History) -> Any:
        """Return the loss, the norm before clipping (or None) and the final state."""
        # What is not finite is found out here and told as an error: a warning would only repeat it.
        with self.net.backend.library.quiet():
            return self._run(batch, state, epoch, history)

    def _run(self, batch: Batch, state: Any, epoch: int, history: History) -> Any:
        net = self.net
        value, gradient, final = net.loss_and_grad(
            batch.x, batch.target, self.loss, state, self.window
        )
        reported = float(value)
        if not math.isfinite(reported):
            self.fail(f"the loss is {reported}", history, epoch)
        self.good = dict(net.parameters)
        gradients, norm = gradient.parameters, None
        if self.clip_value is not None:
            gradients = clip_by_value(gradients, self.clip_value)
        if self.clip_norm is not None:
            gradients, norm = clip_by_norm(gradients, self.clip_norm)
        net.parameters, self.memory = self.optimizer.update(gradients, self.memory, net.parameters)
        return reported, norm, final

    def scale(self, factor: float) -> None:
        """Multiply the learning rate."""
        if not isinstance(self.optimizer, Scalable):
            raise TypeError(
                f"rate_scale is given, but {self.optimizer} has no learning rate to scale"
            )
        self.memory = self.optimizer.scaled(self.memory, factor)

    def check_weights(self, epoch: int, history: History) -> None:
        """Find an update that went wrong although its loss was finite."""
        bad = self.not_finite(self.net.parameters)
        if bad:
            self.fail(f"the update made {', '.join(bad)} infinite or NaN", history, epoch)
        self.finite = dict(self.net.parameters)

    def fail(self, what: str, history: History, epoch: int) -> None:
        # A saturated tanh gives a finite loss with infinite weights: those are no good.
        self.net.parameters = self.finite if self.not_finite(self.good) else self.good
        history.stopped = "non-finite"
        raise NonFiniteLossError(what, epoch, self.batch, history)

    def not_finite(self, parameters: Mapping[str, Array]) -> list[str]:
        """Return the names of the parameters with an entry that is infinite or NaN."""
        xp = self.net.backend.xp
        return [name for name, p in parameters.items() if not bool(xp.all(xp.isfinite(p)))]


class BestWeights:
    """The best weights so far."""

    def __init__(self, net: RNN, min_delta: float) -> None:
        self.net, self.min_delta = net, min_delta
        self.epoch, self.value = 0, math.inf
        self.parameters = dict(net.parameters)

    def note(self, epoch: int, value: float) -> None:
        if value < self.value - self.min_delta:
            self.epoch, self.value = epoch, value
            self.parameters = dict(self.net.parameters)


class TotalLoss:
    """A loss over several batches: a mean over all entries, or a sum."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.mean = loss, loss.reduction == "mean"
        self.total, self.entries, self.batches = 0.0, 0, 0

    def add(self, value: float, target: Array) -> None:
        entries = self.loss.entries(target)
        self.total += value * entries if self.mean else value
        self.entries += entries
        self.batches += 1

    def value(self) -> float:
        return self.total / max(1, self.entries) if self.mean else self.total
