"""Sums over the ranks that run while the gradients of lower layers are still computed.

The gradients of the layers above the lowest are put together, from the top down, in buckets of some
4 MiB.  Which gradients share a bucket follows from the network alone, so every rank starts the same
sums in the same order, and the bits do not depend on when they are started.
"""

import math
from collections.abc import Mapping, Sequence

from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.distributed.protocol import OverlappingCommunicator, Started
from xprnn.distributed.reduction import Packed, packed
from xprnn.engine.architecture import Architecture
from xprnn.engine.gradients import GradientArray

BUCKET = 4 << 20
"""Bytes from which on a bucket is sent."""
LEAST = 2 * BUCKET
"""Bytes of all buckets together for which they are worth it: else there is one message."""


def plan(architecture: Architecture, parameters: Mapping[str, Array]) -> list[list[str]]:
    """Return the parameters whose gradients share each bucket; empty: they are too small.

    Gradients of the lowest layer are the last to be known, and they and those of embedding and
    readout may be sparse or factored.
    """
    buckets: list[list[str]] = [[]]
    size = total = 0
    for direction in reversed(architecture.stack):
        if not direction.layer:
            continue
        W, U, b, units, gains = direction.names
        names = [W, U, *([direction.P] if direction.P else []), b, *(units or ()), *(gains or ())]
        for name in names:
            if name in parameters:
                p = parameters[name]
                buckets[-1].append(name)
                size += math.prod(p.shape) * p.dtype.itemsize
        if size >= BUCKET:
            buckets.append([])
            total, size = total + size, 0
    if total + size < LEAST:
        return []
    return [bucket for bucket in buckets if bucket]


class Buckets:
    """The buckets of one update.

    Parameters
    ----------
    communicator : OverlappingCommunicator
    backend : Backend
    planned : list of list of str
        See `plan`.
    share : float
        The factor of this rank's gradients.
    """

    def __init__(
        self,
        communicator: OverlappingCommunicator,
        backend: Backend,
        planned: Sequence[Sequence[str]],
        share: float,
    ) -> None:
        self.communicator, self.backend, self.share = communicator, backend, share
        self._planned = planned
        self._started: list[tuple[Packed, Started]] = []

    def take(self, gradients: Mapping[str, GradientArray]) -> None:
        """Start the sums of the buckets that are complete with these gradients."""
        for _, started in self._started:
            # MPI moves messages while it is called.
            started.poke()
        for names in self._planned[len(self._started) :]:
            if not gradients.keys() >= set(names):
                break
            part = packed(
                self.communicator, self.backend, {k: gradients[k] for k in names}, self.share
            )
            self._started.append((part, self.communicator.start_all_reduce(part.arrays)))

    def finish(self) -> dict[str, GradientArray]:
        """Return the sums, when there are all."""
        found: dict[str, GradientArray] = {}
        for part, started in self._started:
            started.wait()
            found |= {name: self.backend.asarray(view) for name, view in part.views.items()}
        self._started = []
        return found

    def abandon(self, parameters: Mapping[str, Array]) -> None:
        """Take part in the sums that the other ranks have started or will start; drop them."""
        zeros = self.backend.xp.zeros_like
        left = self._planned[len(self._started) :]
        self.take({name: zeros(parameters[name]) for names in left for name in names})
        self.finish()
