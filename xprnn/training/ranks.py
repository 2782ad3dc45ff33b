"""What a training does together with other ranks: see `xprnn.distributed`.

A training of one process has none of this.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xprnn._version import __version__
from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator, np, random_state
from xprnn.backend.host.quoting import shortened
from xprnn.backend.types import Array
from xprnn.data.batches import Batch, Batches, each_batch
from xprnn.data.sharding import part_of, sequences_of, shard
from xprnn.distributed.buckets import Buckets, plan
from xprnn.distributed.compression import Compression
from xprnn.distributed.drawing import PartOfBatch
from xprnn.distributed.protocol import (
    Communicator,
    CompressingCommunicator,
    DeviceCommunicator,
    OverlappingCommunicator,
)
from xprnn.distributed.reduction import layouts, special, summed
from xprnn.distributed.team import Team
from xprnn.engine.gradients import GradientArray, without_rows
from xprnn.engine.network import RNN
from xprnn.losses import Loss
from xprnn.training.checkpoint.description import description, differences
from xprnn.training.checkpoint.parts import digest
from xprnn.training.evaluation import TotalLoss
from xprnn.training.reports import Report

_log = logging.getLogger("xprnn")

CHECK_EVERY = 100
"""Updates after which the ranks compare their weights."""


class Ranks:
    """The ranks of a training.

    Parameters
    ----------
    team : Team
    net : RNN
    loss : Loss

    Attributes
    ----------
    entries : (float, float)
        What the next update's gradient is a mean over: on this rank, and on all.
    count : int
        The sequences of the batch in progress.
    time_is_up : bool
        Whether rank 0's clock says that a checkpoint is due.
    """

    def __init__(self, team: Team, net: RNN, loss: Loss) -> None:
        self.team, self.net, self.mean = team, net, loss.reduction == "mean"
        check_way(team.communicator, net.backend)
        self.entries = (0.0, 0.0)
        self._accumulated = False
        self.count = 0
        self.time_is_up = False
        self.clock: Any = lambda: False
        self._first: Batch | None = None
        self._all_dense, self._alike, self._told = True, False, False
        self._planned: list[list[str]] = []
        self.compression: Compression | None = None
        if isinstance(team.communicator, CompressingCommunicator) and team.communicator.compress:
            self.compression = Compression(team.communicator, net.backend)
        host = not net.backend.library.is_accelerator(net.backend.device)
        if (
            isinstance(team.communicator, OverlappingCommunicator)
            and (host or isinstance(team.communicator, DeviceCommunicator))
            and self.compression is None
        ):
            self._planned = plan(net.architecture, net.parameters)
        self._buckets: Buckets | None = None
        team.abandon = self.abandon

    def parts(self, batches: Batches) -> Iterator[Batch]:
        """Iterate over this rank's parts of an epoch's batches."""
        for number, batch in enumerate(each_batch(batches)):
            # The shuffle and the data are compared once an epoch.
            self._first = batch if number == 0 else None
            self.count = int(batch.x.shape[1])
            if number == 0 and self.count < self.team.size and not self.team.rank:
                self._tell_idle()
            yield part_of(batch, self.team.rank, self.team.size)

    def _tell_idle(self) -> None:
        """Say once that some ranks have nothing to do."""
        if not self._told:
            self._told = True
            _log.warning(
                "a batch of %d sequences leaves %d of %d ranks without any, and they wait: larger "
                "batches or fewer ranks use all",
                self.count,
                self.team.size - self.count,
                self.team.size,
            )

    def drawing(self) -> Generator | None:
        """Return the generator of this rank's dropout masks; None without dropout."""
        architecture, rng = self.net.architecture, self.net.rng
        if not (architecture.dropout or architecture.recurrent_dropout):
            return None
        return PartOfBatch(rng, *self.sequences, self.count)

    @property
    def sequences(self) -> tuple[int, int]:
        """The rank's first sequence of the batch, and the one after its last."""
        return sequences_of(self.count, self.team.rank, self.team.size)

    def receiver(
        self, entries: Callable[[], float]
    ) -> Callable[[Mapping[str, GradientArray]], None] | None:
        """Return what takes gradients while others are still computed, if that is of use.

        Parameters
        ----------
        entries : callable
            Returns what this rank's part of the loss is a mean over.
        """
        communicator = self.team.communicator
        if not (
            self._planned
            and isinstance(communicator, OverlappingCommunicator)
            and communicator.overlap
        ):
            return None

        def receive(gradients: Mapping[str, GradientArray]) -> None:
            if self._buckets is None:
                mine = entries()
                whole = float(self.team.meet("a backward pass", mine)[:, 0].sum())
                self._open(mine, whole)
            assert self._buckets is not None
            self._buckets.take(gradients)

        return receive

    def abandon(self) -> None:
        """End the sums that were started; no update will use them."""
        buckets, self._buckets = self._buckets, None
        if buckets is not None:
            buckets.abandon(self.net.parameters)

    def _open(self, mine: float, whole: float) -> None:
        communicator = self.team.communicator
        assert isinstance(communicator, OverlappingCommunicator)
        share = mine / (whole or 1.0) if self.mean else 1.0
        self._buckets = Buckets(communicator, self.net.backend, self._planned, share)

    def after_batch(
        self, updates: int, epoch: int, mine: Report, gradients: Mapping[str, GradientArray]
    ) -> Report:
        """Return the report of the whole batch; compare weights and data where that is due."""
        weights = data = -1.0
        if updates and updates % CHECK_EVERY == 0:
            weights = self.checksum()
        if self._first is not None:
            data = checksum(self.net, {"x": self._first.x, "target": self._first.target})
        rows = self.team.meet(
            "a step",
            mine.loss,
            mine.entries,
            weights,
            data,
            special(gradients),
            float(self.clock()),
            layouts(gradients),
        )
        self._compare(rows[:, 2], f"the weights after {updates} updates", "")
        where = f"the first batch of epoch {epoch}"
        self._compare(rows[:, 3], where, ": expected the same data, shuffled with the same seed")
        losses, entries = rows[:, 0], rows[:, 1]
        self._all_dense = not rows[:, 4].any()
        self._alike = bool((rows[:, 6] == rows[0, 6]).all())
        self.time_is_up = bool(rows[0, 5])
        total = float(entries.sum())
        if not self.mean:
            return Report(mine.batch, float(losses.sum()), total)
        # A part without entries has no loss.
        some = entries > 0
        loss = float((losses[some] * entries[some]).sum()) / (total or 1.0)
        return Report(mine.batch, loss, total)

    def accumulate(self, mine: float, whole: float) -> None:
        """Note the entries of another batch of the next update."""
        before = self.entries if self._accumulated else (0.0, 0.0)
        self.entries, self._accumulated = (before[0] + mine, before[1] + whole), True

    def summed(
        self, gradients: Mapping[str, GradientArray], *, accumulated: bool
    ) -> dict[str, GradientArray]:
        """Return the gradient of the whole batch, or of all accumulated ones."""
        self._accumulated = False
        mine, whole = self.entries
        if not mine:
            # Rows of zeros would be taken for tokens that were seen.
            gradients = {name: without_rows(g) for name, g in gradients.items()}
        if accumulated:
            rows = self.team.meet("an update", special(gradients), layouts(gradients))
            self._all_dense = not rows[:, 0].any()
            self._alike = bool((rows[:, 1] == rows[0, 1]).all())
        if self._planned and self._buckets is None:
            self._open(mine, whole)
        started: dict[str, GradientArray] = {}
        if self._buckets is not None:
            self._buckets.take(gradients)
            sent = {name for names in self._planned for name in names}
            rest = {name: g for name, g in gradients.items() if name not in sent}
        else:
            rest = dict(gradients)
        found = summed(
            self.team.communicator,
            self.net.backend,
            rest,
            mine / whole if self.mean else 1.0,
            all_dense=self._all_dense,
            alike=self._alike,
            compression=self.compression,
        )
        if self._buckets is not None:
            started = self._buckets.finish()
            self._buckets = None
        return {name: started[name] if name in started else found[name] for name in gradients}

    def end_epoch(self, epoch: int, *, asked: bool) -> bool:
        """Compare the weights after an epoch; return whether a rank's callback asks to stop."""
        rows = self.team.meet(
            "the end of an epoch", self.checksum(), float(asked), float(self.clock())
        )
        self._compare(rows[:, 0], f"the weights at the end of epoch {epoch}", "")
        self.time_is_up = bool(rows[0, 2])
        return bool(rows[:, 1].any())

    def checksum(self) -> float:
        """Return the checksum of the weights."""
        return checksum(self.net, self.net.parameters)

    def added(self, total: TotalLoss) -> TotalLoss:
        """Return a loss over all ranks' parts of the validation data."""
        rows = self.team.meet("the validation", total.total, total.entries)
        some = rows[:, 1] > 0
        total.total, total.entries = float(rows[some, 0].sum()), float(rows[:, 1].sum())
        return total

    def agree(self, same: Mapping[str, Any]) -> None:
        """Refuse to train with ranks that differ.

        Raises
        ------
        RankError
            On every rank; it says what differs.
        """
        net = self.net
        mine = {
            "version": __version__,
            "overlap": getattr(self.team.communicator, "overlap", None),
            **description(same),
            "net.parameters": {k: _short(net, p) for k, p in net.parameters.items()},
            "net.rng": _short_text(str(random_state(net.rng))),
        }
        found = [json.loads(text) for text in self.team.texts(json.dumps(mine))]
        for rank, theirs in enumerate(found):
            different = differences(theirs, found[0], "", "on rank 0")
            if different:
                said = shortened("; ".join(different), 2000)
                raise self.team.apart(
                    f"rank {rank} differs from rank 0: {said} (the arguments, the seed of every "
                    "generator and the data have to be the same on all ranks)"
                )

    def whole_state(self, state: tuple[Array, ...], count: int) -> tuple[Array, ...]:
        """Return the carried state of all ``count`` sequences, (layers·D, B, H) each."""
        communicator, backend, found = self.team.communicator, self.net.backend, []
        bounds = [sequences_of(count, rank, self.team.size) for rank in range(self.team.size)]
        counts = [stop - start for start, stop in bounds]
        for part in state:
            host = np.moveaxis(backend.to_numpy(part), 1, 0)
            whole = communicator.gather(np.ascontiguousarray(host), counts)
            found.append(backend.asarray(np.ascontiguousarray(np.moveaxis(whole, 0, 1))))
        return tuple(found)

    def part_of_state(self, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return this rank's part of a carried state."""
        self.count = int(state[0].shape[1])
        start, stop = self.sequences
        return tuple(part[:, start:stop, :] for part in state)

    def _compare(self, column: Any, what: str, expected: str) -> None:
        if (column != column[0]).any():
            other = int(np.argmax(column != column[0]))
            raise self.team.apart(f"{what} differ between rank 0 and rank {other}{expected}")


def check_way(communicator: Communicator, backend: Backend) -> None:
    """Refuse a network that a communicator can't serve; say once if its gradients take a detour.

    Raises
    ------
    ValueError
        If the communicator is of another device than the network.
    """
    if isinstance(communicator, DeviceCommunicator):
        communicator.check_backend(backend)
    elif backend.library.is_accelerator(backend.device) and not _told and not communicator.rank:
        _told.append(True)
        _log.warning(
            "the gradients of a network on %s (%s) go through the host's memory on their way to "
            'the other ranks; communicator="nccl" leaves those of CuPy on the devices',
            backend.name,
            backend.library.device_name(backend.device),
        )


_told: list[bool] = []
"""Not empty once that was said."""


def whole(batches: Batches) -> Batches:
    """Return the batches of which `shard` takes a part, since a training takes it itself."""
    return batches.batches if isinstance(batches, shard) else batches


def checksum(net: RNN, arrays: Mapping[str, Array]) -> float:
    """Return a number that differs if the arrays' bits do, but for one chance in 2³²."""
    found = 0
    for array in arrays.values():
        found = zlib.crc32(np.ascontiguousarray(net.backend.to_numpy(array)).data.cast("B"), found)
    return float(found)


def _short(net: RNN, array: Array) -> str:
    return digest(net.backend.to_numpy(array))[:12]


def _short_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
