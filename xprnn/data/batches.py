"""Batches: what a training loop is fed with."""

from collections.abc import Iterator
from typing import NamedTuple

from xprnn import checks
from xprnn.backend import describe, from_host_beside, namespace_of
from xprnn.backend.host import Seed, generator
from xprnn.backend.types import Array


class Batch(NamedTuple):
    """One training step's worth of data.

    Attributes
    ----------
    x : array, (T, B, I)
    target : array
        (T, B, O), or (B, O) for networks that return the last output.
    carry : bool
        Whether the sequences go on where those of the batch before ended, so that its final state
        is this one's initial state.
    """

    x: Array
    target: Array
    carry: bool = False


class minibatches:  # noqa: N801
    """Sequences of one length, in batches of some of them, in a new random order every epoch.

    Can be iterated any number of times.

    Parameters
    ----------
    x : array, (T, N, I)
        N sequences.
    target : array, (T, N, O) or (N, O)
    size : int
        Sequences a batch; the last batch of an epoch may be smaller.
    shuffle : bool
    rng : int, numpy.random.Generator or None
        Where the order is drawn from.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not belong together, or the size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1)
    >>> [batch.x.ravel().tolist() for batch in minibatches(x, x, 2, shuffle=False)]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(
        self, x: Array, target: Array, size: int, *, shuffle: bool = True, rng: Seed = None
    ) -> None:
        self.x, self.target = x, target
        self.size = checks.positive_int("size", size)
        self.shuffle = shuffle
        self._rng = generator(rng)
        self._xp = namespace_of(x)
        _check_pair(x, target)
        if x.shape[1] == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}: expected at least one sequence")

    def __len__(self) -> int:
        return _ceil(self.x.shape[1], self.size)

    def __iter__(self) -> Iterator[Batch]:
        xp, count = self._xp, self.x.shape[1]
        order = self._rng.permutation(count) if self.shuffle else None
        for start in range(0, count, self.size):
            stop = min(start + self.size, count)
            if order is None:
                yield Batch(self.x[:, start:stop, ...], self.target[..., start:stop, :])
            else:
                picked = from_host_beside(self.x, order[start:stop])
                yield Batch(
                    xp.take(self.x, picked, axis=1),
                    xp.take(self.target, picked, axis=self.target.ndim - 2),
                )


class chunks:  # noqa: N801
    """Long sequences in chunks of some steps, the state carried over from each to the next.

    The gradient stops at a chunk's border: truncated backpropagation in its cheap form.  (It is not
    the windowed truncation, in which every loss reaches back equally far.)  Can be iterated any
    number of times.

    Parameters
    ----------
    x : array, (T, B, I)
    target : array, (T, B, O)
    steps : int
        Steps a chunk; the last chunk may be shorter.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not belong together, or the number of steps is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(5, 1, 1)
    >>> [(chunk.x.ravel().tolist(), chunk.carry) for chunk in chunks(x, x, 2)]
    [([0.0, 1.0], False), ([2.0, 3.0], True), ([4.0], True)]

    Outside of `xprnn.fit`, state goes in and out by hand:

    >>> import xprnn
    >>> net, state = xprnn.RNN(1, 3, 1, dtype="float64", rng=0), None
    >>> for chunk in chunks(x, x, 2):
    ...     run = net.forward(chunk.x, state if chunk.carry else None)
    ...     state = run.state
    """

    def __init__(self, x: Array, target: Array, steps: int) -> None:
        self.x, self.target = x, target
        self.steps = checks.positive_int("steps", steps)
        _check_pair(x, target)
        if target.ndim != x.ndim or x.shape[0] == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and target {tuple(target.shape)}: "
                "expected (T, B, I) and (T, B, O), T at least 1"
            )

    def __len__(self) -> int:
        return _ceil(self.x.shape[0], self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.x.shape[0], self.steps):
            stop = min(start + self.steps, self.x.shape[0])
            yield Batch(self.x[start:stop, ...], self.target[start:stop, ...], carry=start > 0)


def _ceil(count: int, each: int) -> int:
    return -(-count // each)


def _check_pair(x: Array, target: Array) -> None:
    """Refuse inputs and targets that do not have the same sequences (and steps)."""
    if namespace_of(x) is not namespace_of(target):
        raise TypeError(
            f"x is {describe(x)}, target is {describe(target)}: expected one backend's arrays"
        )
    given = f"x has shape {tuple(x.shape)} and target {tuple(target.shape)}"
    if x.ndim != 3 or target.ndim not in (2, 3):
        raise ValueError(f"{given}: expected (T, N, I), and (T, N, O) or (N, O)")
    if x.shape[1] != target.shape[-2] or (target.ndim == 3 and x.shape[0] != target.shape[0]):
        raise ValueError(f"{given}: expected the same numbers of steps T and of sequences N")
