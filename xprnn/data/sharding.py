"""A rank's part of every batch, for data-parallel training."""

from collections.abc import Iterator

from xprnn.backend import library_of
from xprnn.backend.entry import on_device_of
from xprnn.data.batches import Batch, Batches, batch_axis, each_batch, weights_axis
from xprnn.distributed.protocol import Communicator


class shard:  # noqa: N801
    """A rank's part of every batch: some of its sequences, one after another.

    Every rank iterates over the same batches, in the same order, and takes its sequences of each.
    So an epoch is the same for any number of ranks, however the batches are shuffled (with the same
    seed everywhere), and carried states stay with their sequences: of the streams of a language
    model each rank has some, from beginning to end.  If a batch has fewer sequences than there are
    ranks, some get none of it: a batch of no sequences.

    `xprnn.fit` does this by itself, with or without ``shard``; a loop of your own needs it.

    Parameters
    ----------
    batches : iterable of (x, target) or of Batch, or one pair
        The whole batches.
    communicator : Communicator

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> x = np.arange(3.0).reshape(1, 3, 1)
    >>> alone = xprnn.distributed.NoCommunicator()
    >>> batches = xprnn.data.minibatches(x, x, 2, shuffle=False)
    >>> [batch.x.ravel().tolist() for batch in shard(batches, alone)]
    [[0.0, 1.0], [2.0]]
    """

    def __init__(self, batches: Batches, communicator: Communicator) -> None:
        self.batches, self.communicator = batches, communicator

    def __iter__(self) -> Iterator[Batch]:
        rank, size = self.communicator.rank, self.communicator.size
        for batch in each_batch(self.batches):
            yield part_of(batch, rank, size)


def sequences_of(count: int, rank: int, size: int) -> tuple[int, int]:
    """Return a rank's first sequence of ``count``, and the one after its last."""
    return rank * count // size, (rank + 1) * count // size


def part_of(batch: Batch, rank: int, size: int) -> Batch:
    """Return a rank's sequences of a batch, in arrays of their own."""
    if size == 1:
        return batch
    x, target, weights = batch.x, batch.target, batch.weights
    axis = batch_axis(x, target)
    start, stop = sequences_of(int(x.shape[1]), rank, size)
    lengths = None if batch.lengths is None else batch.lengths[start:stop]
    mask = None if batch.mask is None else batch.mask[:, start:stop]
    copy = library_of(x).copy
    with on_device_of(x):
        x = copy(x[:, start:stop, ...])
        target = copy(target[(slice(None),) * axis + (slice(start, stop), ...)])
        if weights is not None:
            along = weights_axis(weights, batch.x, batch.target, axis)
            weights = copy(weights[(slice(None),) * along + (slice(start, stop), ...)])
    return Batch(x, target, batch.carry, lengths, weights, mask)
