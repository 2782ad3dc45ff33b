"""The epoch in progress: its metrics so far, and what its next batch needs.

`TrainingRun` begins it, adds every batch, and reads the metrics for the epoch's `Record`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.data.batches import Batch
from xprnn.engine.arguments import check_state
from xprnn.engine.network import RNN
from xprnn.losses import Loss
from xprnn.training.evaluation import TotalLoss
from xprnn.training.ranks import Ranks
from xprnn.training.reports import Report

NORMS = 64
"""How many norms are kept before the largest takes their place."""


class Epoch:
    """The epoch in progress.

    Attributes
    ----------
    total : TotalLoss
        The loss over the batches so far.
    carried : tuple of array or None
        The final state of the last batch, which a batch with ``carry`` begins with.
    over : bool
        Whether the next batch begins another epoch.
    """

    def __init__(self, loss: Loss, net: RNN, ranks: Ranks | None = None) -> None:
        self.loss, self.net, self.total = loss, net, TotalLoss(loss)
        self.ranks = ranks
        # Returns the last batch; whoever restores a position in the data sets it.
        self.last_batch: Callable[[], Batch] = lambda: Batch(None, None)
        self._norms: list[Array] = []
        self._restored_norm: float | None = None
        self.carried: Any = None
        self.over = True
        self._started = self._seconds_before = 0.0

    def begin(self) -> None:
        """Begin an epoch."""
        self.total = TotalLoss(self.loss)
        self._norms, self._restored_norm, self.over = [], None, False
        self._started, self._seconds_before = time.perf_counter(), 0.0

    def end(self) -> None:
        """End the epoch; no state is carried over to the next one."""
        self.carried, self.over = None, True

    def add(self, reports: Sequence[Report], norm: Array | None) -> None:
        """Add batches, and the norm of an update if there was one.

        A loss counts once per batch, whether or not the batch made an update.
        """
        for report in reports:
            self.total.add(report.loss, report.entries)
        self.add_norm(norm)

    def add_norm(self, norm: Array | None) -> None:
        """Add the norm of an update's gradients, if there is one."""
        if norm is not None:
            # It stays on the device: bringing it to the host would wait for the device.
            self._norms.append(norm)
            if len(self._norms) >= NORMS:
                self._norms = [self._largest_norm()]

    def _largest_norm(self) -> Array:
        norms, xp = self._norms, namespace_of(self._norms[0])
        return norms[0] if len(norms) == 1 else xp.max(xp.stack(norms))

    @property
    def norm(self) -> float | None:
        """The largest norm of the gradients before clipping."""
        known = [] if self._restored_norm is None else [self._restored_norm]
        if self._norms:
            self._norms = [self._largest_norm()]
            known.append(float(self._norms[0]))
        return max(known, default=None)

    @property
    def seconds(self) -> float:
        """How long the epoch has taken, including the time before an interruption."""
        return self._seconds_before + time.perf_counter() - self._started

    def state(self) -> dict[str, Any]:
        total, carried = self.total, self.carried
        if self.ranks is not None and carried is not None:
            # Only what is written is gathered from all ranks.
            carried = partial(self.ranks.whole_state, carried, self.ranks.count)
        return {
            "total": (total.total, total.entries, total.batches),
            "norm": self.norm,
            "carried": carried,
            "over": self.over,
            "seconds": 0.0 if self.over else self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.begin()
        self.total.total, self.total.entries, self.total.batches = state["total"]
        norm = state["norm"]
        self._restored_norm = None if norm is None else float(norm)
        carried, self.over = state["carried"], state["over"]
        self.carried = None if carried is None else self._checked(carried)
        self._seconds_before = state["seconds"]

    def _checked(self, carried: Any) -> Any:
        """Return a carried state from a file, known to be the final state of the last batch."""
        architecture, backend = self.net.architecture, self.net.backend
        count = int(self.last_batch().x.shape[1])
        shape = architecture.state_shape(count)
        state = check_state("the carried state", carried, backend, architecture.cell, shape)
        for k, part in enumerate(state):
            checks.finite(f"the carried state[{k}]", part, backend)
        return state if self.ranks is None else self.ranks.part_of_state(state)
