"""Batches of windows that are cut out of a series when they are needed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import (
    Generator,
    HostArray,
    np,
    random_state,
    restore_random,
)
from xprnn.backend.types import Array
from xprnn.data.batches import Batch


class window_batches:  # noqa: N801
    """Windows of a series with what follows each.

    No more windows than those of a batch are in memory: windows of 168 values take 168 times as
    much memory as the series.

    Parameters
    ----------
    features : host array, (M, I)
        The series.
    ends : host array of integers, (K,)
        Where windows end: a window is ``features[end - length : end]``.
    targets : host array, (K, O)
    length : int
        T
    size : int
        Windows in a batch.
    asarray : callable
        Makes a backend's array of a host array.
    rng : Generator or None
        The source of the random order; None: always in the order of the series.
    least, most : int
        How many batches an epoch has, at least and at most.  One pass over the windows that would
        have fewer is followed by others; one that would have more is left half-way, and the next
        epoch draws anew.
    """

    def __init__(
        self,
        features: HostArray,
        ends: HostArray,
        targets: HostArray,
        length: int,
        size: int,
        *,
        asarray: Callable[[HostArray], Array],
        rng: Generator | None = None,
        least: int = 1,
        most: int | None = None,
    ) -> None:
        self.features, self.ends, self.targets = features, ends, targets
        self.length, self.size = length, checks.positive_int("size", size)
        self._asarray, self._rng = asarray, rng
        if not len(ends):
            raise ValueError("there are no windows: expected at least one")
        one = -(-len(ends) // self.size)
        self._passes = -(-least // one)
        self._count = self._passes * one if most is None else min(self._passes * one, most)

    def __len__(self) -> int:
        return self._count

    def state(self) -> dict[str, Any] | None:
        """Return the state of the random generator, which decides the next epoch's order."""
        return None if self._rng is None else random_state(self._rng)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a state: the next epoch has the order that followed it then."""
        if self._rng is not None and state is not None:
            restore_random(self._rng, state)

    def __iter__(self) -> Iterator[Batch]:
        left = self._count
        for _ in range(self._passes):
            count = len(self.ends)
            order = np.arange(count) if self._rng is None else self._rng.permutation(count)
            for start in range(0, len(order), self.size):
                if left == 0:
                    return
                left -= 1
                yield self._batch(order[start : start + self.size])

    def _batch(self, picked: HostArray) -> Batch:
        times = np.arange(-self.length, 0)[:, None] + self.ends[picked]
        return Batch(self._asarray(self.features[times]), self._asarray(self.targets[picked]))
