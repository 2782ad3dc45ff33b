"""Sequences of unequal lengths: one array with padding, and batches with little of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from xprnn import checks
from xprnn.backend import describe, library_of, namespace_of
from xprnn.backend.entry import on_device_of
from xprnn.backend.host.arrays import (
    HostArray,
    Seed,
    generator,
    np,
    random_state,
    restore_random,
)
from xprnn.backend.types import Array
from xprnn.data.batches import Batch

SIDES = ("end", "front")


@overload
def pad(sequences: Sequence[Array]) -> tuple[Array, tuple[int, ...]]: ...
@overload
def pad(sequences: Sequence[Array], *, side: Literal["end"]) -> tuple[Array, tuple[int, ...]]: ...
@overload
def pad(sequences: Sequence[Array], *, side: Literal["front"]) -> tuple[Array, HostArray]: ...
def pad(
    sequences: Sequence[Array], *, side: str = "end"
) -> tuple[Array, tuple[int, ...] | HostArray]:
    """Return sequences as one time-major array, filled up with zeros, and which steps exist.

    Parameters
    ----------
    sequences : sequence of array, (T_k, I) each, or of integers, (T_k,)
        Of one array library.
    side : {"end", "front"}
        Where the zeros are.  At the front, the last steps of all sequences are side by side.

    Returns
    -------
    x : array, (T, B, I), or of integers, (T, B)
        T is the largest number of steps.
    lengths : tuple of int
        What `RNN.forward` and `Batch` take as ``lengths``.  With ``side="front"`` a mask instead,
        an array of bool, (T, B), on the host: what they take as ``mask``.

    Raises
    ------
    TypeError
        If they are no arrays, of different libraries, or of different dtypes.
    ValueError
        If there is no sequence, their shapes don't fit each other, or the side is another.

    Examples
    --------
    >>> import numpy as np
    >>> x, lengths = pad([np.array([[1.0], [2.0]]), np.array([[3.0]])])
    >>> x[..., 0].tolist(), lengths
    ([[1.0, 3.0], [2.0, 0.0]], (2, 1))
    >>> x, mask = pad([np.array([[1.0], [2.0]]), np.array([[3.0]])], side="front")
    >>> x[..., 0].tolist(), mask.tolist()
    ([[1.0, 0.0], [2.0, 3.0]], [[True, False], [True, True]])
    """
    checks.choice("side", side, SIDES)
    arrays = _checked("sequences", sequences)
    lengths = tuple(int(a.shape[0]) for a in arrays)
    steps = max(lengths)
    x = _stacked(arrays, steps, side)
    return x, (lengths if side == "end" else _at_the_end(lengths, steps))


def _at_the_end(lengths: Sequence[int], steps: int) -> HostArray:
    """Return the mask (T, B) of sequences whose padding is at the front."""
    return np.arange(steps)[:, None] >= steps - np.asarray(lengths)


class buckets:  # noqa: N801
    """Batches of sequences of similar lengths, so that little of a batch is padding.

    The sequences are sorted by length, in a new random order among equals every epoch, and cut into
    batches; the batches come in random order.  Can be iterated any number of times, once per epoch.

    Parameters
    ----------
    sequences : sequence of array, (T_k, I) each, or of integers, (T_k,)
    targets : sequence of array
        For each sequence, one target for each step, (T_k, O) or of integers (T_k,); or one for the
        whole sequence, (O,) or an integer.
    size : int
        Sequences per batch; one batch of an epoch may be smaller.
    side : {"end", "front"}
        Where the padding is: see `pad`.
    weights : sequence of float, optional
        How much each sequence counts.
    shuffle : bool
        False: the shortest sequences first, in the order given.
    rng : int, numpy.random.Generator or None
        The source of the random order.

    Raises
    ------
    TypeError, ValueError
        If sequences and targets do not fit each other, or the size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> sequences = [np.zeros((steps, 1)) for steps in (5, 2, 9, 2)]
    >>> [batch.lengths for batch in buckets(sequences, [0, 1, 0, 1], 2, shuffle=False)]
    [(2, 2), (5, 9)]
    """

    def __init__(
        self,
        sequences: Sequence[Array],
        targets: Sequence[Any],
        size: int,
        *,
        side: str = "end",
        weights: Sequence[float] | None = None,
        shuffle: bool = True,
        rng: Seed = None,
    ) -> None:
        self.size, self.shuffle = checks.positive_int("size", size), shuffle
        self.side = checks.choice("side", side, SIDES)
        self.sequences = _checked("sequences", sequences)
        beside = self.sequences[0]
        self._xp = namespace_of(beside)
        device = library_of(beside).device_of(beside)
        with on_device_of(beside):
            self.targets = _checked(
                "targets",
                [t if hasattr(t, "shape") else self._xp.asarray(t, device=device) for t in targets],
            )
        self.lengths = [int(a.shape[0]) for a in self.sequences]
        _check_count("targets", self.targets, len(self.sequences))
        target = self.targets[0]
        whole = 1 if self._xp.isdtype(target.dtype, "integral") else 2
        self._stepwise = target.ndim == whole
        for k, (a, steps) in enumerate(zip(self.targets, self.lengths, strict=True)):
            if self._stepwise and a.shape[0] != steps:
                raise ValueError(
                    f"targets[{k}] has shape {tuple(a.shape)}, and sequences[{k}] {steps} steps: "
                    "expected a target for each step, or one for the whole sequence"
                )
        self.weights = None
        if weights is not None:
            _check_count("weights", weights, len(self.sequences))
            self.weights = [checks.number(f"weights[{k}]", float(w)) for k, w in enumerate(weights)]
        self._rng = generator(rng)

    def __len__(self) -> int:
        return math.ceil(len(self.sequences) / self.size)

    def state(self) -> dict[str, Any]:
        """Return the state of the random generator, which decides the next epoch's order."""
        return random_state(self._rng)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state: the next epoch has the order that followed it then."""
        restore_random(self._rng, state)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.sequences)
        order = self._rng.permutation(count) if self.shuffle else np.arange(count)
        by_length = order[np.argsort(np.asarray(self.lengths)[order], kind="stable")]
        starts = np.arange(0, count, self.size)
        for start in self._rng.permutation(starts) if self.shuffle else starts:
            yield self._batch(by_length[start : start + self.size].tolist())

    def _batch(self, chosen: list[int]) -> Batch:
        beside = self.sequences[0]
        with on_device_of(beside):
            lengths, side = tuple(self.lengths[k] for k in chosen), self.side
            steps = max(lengths)
            x = _stacked([self.sequences[k] for k in chosen], steps, side)
            targets, weights = [self.targets[k] for k in chosen], None
            together = self._xp.stack
            target = _stacked(targets, steps, side) if self._stepwise else together(targets)
            if self.weights is not None:
                # In the dtype that a network of these sequences computes in.
                floats = x.dtype if self._xp.isdtype(x.dtype, "real floating") else None
                weights = self._xp.asarray(
                    [self.weights[k] for k in chosen],
                    dtype=floats,
                    device=library_of(beside).device_of(beside),
                )
        if side == "front":
            return Batch(x, target, weights=weights, mask=_at_the_end(lengths, steps))
        return Batch(x, target, lengths=lengths, weights=weights)


def _check_count(name: str, items: Sequence[object], count: int) -> None:
    if len(items) != count:
        raise ValueError(f"{name} has {len(items)} entries: expected one per sequence, {count}")


def _checked(name: str, arrays: Sequence[Array]) -> list[Array]:
    """Return arrays, known to be of one library and dtype, and to differ in the first axis only."""
    found = list(arrays)
    if not found:
        raise ValueError(f"{name} is empty: expected at least one array")
    first = found[0]
    for k, a in enumerate(found):
        # This refuses what is no array.
        if namespace_of(a) is not namespace_of(first) or a.dtype != first.dtype:
            raise TypeError(
                f"{name}[{k}] is {describe(a)}, {name}[0] is {describe(first)}: expected arrays "
                "of one library and dtype"
            )
        if a.ndim != first.ndim or a.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{name}[{k}] has shape {tuple(a.shape)}, {name}[0] {tuple(first.shape)}: expected "
                "the same shape but for the number of steps"
            )
    return found


def _stacked(arrays: Sequence[Array], steps: int, side: str) -> Array:
    """Return arrays beside each other, with zeros on one side of each that is shorter."""
    xp = namespace_of(arrays[0])
    return xp.stack([_extended(a, steps, side) for a in arrays], axis=1)


def _extended(a: Array, steps: int, side: str) -> Array:
    missing = steps - a.shape[0]
    if not missing:
        return a
    xp = namespace_of(a)
    zeros = xp.zeros((missing, *a.shape[1:]), dtype=a.dtype, device=library_of(a).device_of(a))
    return xp.concat([a, zeros] if side == "end" else [zeros, a], axis=0)
