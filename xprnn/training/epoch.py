"""What a training adds up: an epoch's loss, and the best weights."""

import math
import time
from collections.abc import Mapping
from typing import Any

from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.engine.network import RNN
from xprnn.losses import Loss
from xprnn.training.evaluation import TotalLoss


class Epoch:
    """What adds up during an epoch.

    Attributes
    ----------
    total : TotalLoss
    carried : tuple of array or None
        The state that the last batch ended with.
    over : bool
        Whether the next batch begins another epoch.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss, self.total = loss, TotalLoss(loss)
        self._norm: Array | None = None
        self._restored: float | None = None
        self.carried: Any = None
        self.over = True
        self.started = self.before = 0.0

    def begin(self) -> None:
        """Begin an epoch."""
        self.total = TotalLoss(self.loss)
        self._norm, self._restored, self.over = None, None, False
        self.started, self.before = time.perf_counter(), 0.0

    def end(self) -> None:
        """End it; nothing is carried over to the next."""
        self.carried, self.over = None, True

    def add(self, value: float, entries: int, norm: Array | None) -> None:
        """Add a batch, whose loss is over so many entries."""
        self.total.add(value, entries)
        self.see(norm)

    def see(self, norm: Array | None) -> None:
        """Add the norm of an update, if there was one."""
        if norm is not None:
            # It stays where it is: to bring it to the host is to wait for the device.
            xp = namespace_of(norm)
            self._norm = norm if self._norm is None else xp.maximum(norm, self._norm)

    @property
    def norm(self) -> float | None:
        """The largest norm of the gradients before clipping."""
        known = (self._norm, self._restored)
        return max((float(norm) for norm in known if norm is not None), default=None)

    @property
    def seconds(self) -> float:
        """How long it has taken, also before an interruption."""
        return self.before + time.perf_counter() - self.started

    def state(self) -> dict[str, Any]:
        total = self.total
        return {
            "total": (total.total, total.entries, total.batches),
            "norm": self.norm,
            "carried": self.carried,
            "over": self.over,
            "seconds": 0.0 if self.over else self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.begin()
        self.total.total, self.total.entries, self.total.batches = state["total"]
        self._restored, self.carried, self.over = state["norm"], state["carried"], state["over"]
        self.before = state["seconds"]


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

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "parameters": self.parameters}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.value = state["epoch"], state["value"]
        self.parameters = state["parameters"]
