"""Batches: the data of one training step each, and iterables of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from xprnn import checks
from xprnn.backend import describe, from_host, library_of, namespace_of
from xprnn.backend.entry import on_device_of
from xprnn.backend.host.arrays import Seed, generator, np, random_state, restore_random
from xprnn.backend.types import Array
from xprnn.engine.existing import check_existing, mask_of


class Batch(NamedTuple):
    """The data of one training step.

    Attributes
    ----------
    x : array, (T, B, I), or of integers, (T, B)
    target : array
        As the loss takes it: (T, B, O), or (B, O) for networks that return the last output; of
        integers, (T, B) or (B,).
    carry : bool
        Whether the sequences continue those of the previous batch, so that its final state is this
        batch's initial state.
    lengths : sequence of int or None
        How many of the T steps each sequence has, on the host; None: all of them.
    weights : array or None
        How much the target counts: see `xprnn.RNN.value_and_grad`.
    mask : array of bool, (T, B), or None
        Which steps exist, instead of lengths: see `xprnn.RNN.forward`.
    """

    x: Array
    target: Array
    carry: bool = False
    lengths: Sequence[int] | None = None
    weights: Array | None = None
    mask: Array | None = None


Pair: TypeAlias = tuple[Array, Array]
Batches: TypeAlias = Iterable[Batch | Pair] | Pair


def each_batch(batches: Batches) -> Iterator[Batch]:
    """Iterate over batches; a single batch or pair is an epoch of one batch.

    Raises
    ------
    TypeError
        If ``batches`` is not an iterable, or an item is neither a pair nor a `Batch`.
    """
    if is_single(batches):
        batches = (batches,)  # type: ignore[assignment]
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches is {type(batches).__name__}: expected an iterable of batches")
    for number, batch in enumerate(batches, start=1):
        if isinstance(batch, Batch):
            yield batch
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            yield Batch(*batch)
        else:
            raise TypeError(
                f"batch {number} is {_kind(batch)}: expected (x, target) or a "
                "Batch(x, target, lengths=...)"
            )


def _kind(batch: object) -> str:
    count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    return f"{type(batch).__name__}{count}"


def is_single(batches: object) -> bool:
    """Whether this is one batch or pair, and not an iterable of them."""
    pair = isinstance(batches, tuple) and len(batches) == 2 and hasattr(batches[0], "shape")
    return isinstance(batches, Batch) or pair


class minibatches:  # noqa: N801
    """Batches of a fixed number of sequences, in a new random order every epoch.

    Can be iterated any number of times, once per epoch.  The arrays of a batch are copies.

    Parameters
    ----------
    x : array, (T, N, I), or of integers, (T, N)
        N sequences.
    target : array, (T, N, O) or (N, O), or of integers, (T, N) or (N,)
    size : int
        Sequences per batch; the last batch of an epoch may be smaller.
    lengths : sequence of int, optional
        How many of the T steps each of the N sequences has, on the host.
    mask : array of bool, (T, N), optional
        Which steps exist, instead of lengths; on the host.
    weights : array, optional
        How much the target counts: (N,), (T, N) or of the target's shape.
    shuffle : bool
        False: always in the order of the arrays.
    rng : int, numpy.random.Generator or None
        The source of the random order.

    Raises
    ------
    TypeError, ValueError
        If the shapes or backends of the arrays do not fit each other, or the size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1)
    >>> [batch.x.ravel().tolist() for batch in minibatches(x, x, 2, shuffle=False)]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(
        self,
        x: Array,
        target: Array,
        size: int,
        *,
        lengths: Sequence[int] | None = None,
        mask: Array | None = None,
        weights: Array | None = None,
        shuffle: bool = True,
        rng: Seed = None,
    ) -> None:
        self.x, self.target = x, target
        self.size = checks.positive_int("size", size)
        self.shuffle = shuffle
        self._rng = generator(rng)
        self._xp, self._copy = namespace_of(x), library_of(x).copy
        self._axis = batch_axis(x, target)
        if x.shape[1] == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}: expected at least one sequence")
        existing = check_existing(lengths, mask, *x.shape[:2])
        self.lengths = existing if isinstance(existing, tuple) else None
        self.mask = None if isinstance(existing, tuple) else existing
        self.weights = weights
        # Of weights (N,) it is the first axis, of all others that of the target.
        self._weights_axis = weights_axis(weights, x, target, self._axis)

    def __len__(self) -> int:
        return _ceil(self.x.shape[1], self.size)

    def state(self) -> dict[str, Any]:
        """Return the state of the random generator, which decides the next epoch's order."""
        return random_state(self._rng)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state: the next epoch has the order that followed it then."""
        restore_random(self._rng, state)

    def __iter__(self) -> Iterator[Batch]:
        xp, count = self._xp, self.x.shape[1]
        order = self._rng.permutation(count) if self.shuffle else None
        for start in range(0, count, self.size):
            stop = min(start + self.size, count)
            numbers = range(count) if order is None else order
            part = [self.lengths[k] for k in numbers[start:stop]] if self.lengths else None
            with on_device_of(self.x):
                if order is None:
                    these = (slice(None),) * self._axis + (slice(start, stop), ...)
                    x, target = self.x[:, start:stop, ...], self.target[these]
                    x, target = self._copy(x), self._copy(target)
                else:
                    picked = from_host(order[start:stop], beside=self.x)
                    x = xp.take(self.x, picked, axis=1)
                    target = xp.take(self.target, picked, axis=self._axis)
                weights = self.weights
                if weights is not None:
                    these_ones = from_host(np.asarray(numbers[start:stop]), beside=self.x)
                    weights = xp.take(weights, these_ones, axis=self._weights_axis)
            mask = None if self.mask is None else self.mask[:, numbers[start:stop]]
            yield Batch(x, target, lengths=part, weights=weights, mask=mask)


class chunks:  # noqa: N801
    """Long sequences in chunks of a fixed number of steps, with the state carried over.

    The gradient stops at the border of a chunk: the cheap form of truncated backpropagation through
    time.  (In windowed truncation, ``window``, every loss reaches back equally far.)  Can be
    iterated any number of times, once per epoch.  The arrays of a chunk are copies.

    Parameters
    ----------
    x : array, (T, B, I), or of integers, (T, B)
    target : array, (T, B, O), or of integers, (T, B)
    steps : int
        Steps per chunk; the last chunk may be shorter.
    weights : array, optional
        How much the target counts: (B,), (T, B) or of the target's shape.
    mask : array of bool, (T, B), optional
        Which steps exist, on the host.  The state is held where one is missing, so a chunk without
        any passes on the state of the chunk before it.

    Raises
    ------
    TypeError, ValueError
        If the shapes or backends of the arrays do not fit each other, or the number of steps is not
        positive.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(5, 1, 1)
    >>> [(chunk.x.ravel().tolist(), chunk.carry) for chunk in chunks(x, x, 2)]
    [([0.0, 1.0], False), ([2.0, 3.0], True), ([4.0], True)]

    Without `xprnn.fit`, pass the state yourself:

    >>> import xprnn
    >>> net, state = xprnn.RNN(1, 3, 1, dtype="float64", rng=0), None
    >>> for chunk in chunks(x, x, 2):
    ...     run = net.forward(chunk.x, state if chunk.carry else None)
    ...     state = run.state
    """

    def __init__(
        self,
        x: Array,
        target: Array,
        steps: int,
        *,
        weights: Array | None = None,
        mask: Array | None = None,
    ) -> None:
        self.x, self.target, self.weights = x, target, weights
        self.steps = checks.positive_int("steps", steps)
        if batch_axis(x, target) == 0 or x.shape[0] == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and target {tuple(target.shape)}: "
                "expected (T, B, I) and (T, B, O), T at least 1"
            )
        weights_axis(weights, x, target, 1)
        self.mask = mask_of(check_existing(None, mask, *x.shape[:2]), x.shape[0])

    def __len__(self) -> int:
        return _ceil(self.x.shape[0], self.steps)

    def state(self) -> None:
        """Return None: the next epoch depends on nothing."""

    def restore(self, state: None) -> None:
        """Do nothing: every epoch is the same."""
        del state

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.x.shape[0], self.steps):
            stop = min(start + self.steps, self.x.shape[0])
            part = (self.x[start:stop, ...], self.target[start:stop, ...])
            with on_device_of(self.x):
                x, target = map(library_of(self.x).copy, part)
                weights = self.weights
                if weights is not None:
                    weights = weights[start:stop, ...] if weights.ndim > 1 else weights
                    weights = library_of(self.x).copy(weights)
            mask = None if self.mask is None else self.mask[start:stop]
            yield Batch(x, target, carry=start > 0, weights=weights, mask=mask)


def _ceil(count: int, each: int) -> int:
    return -(-count // each)


def weights_axis(weights: Array | None, x: Array, target: Array, axis: int) -> int:
    """Return the batch axis of weights; ``axis`` is the target's.

    Raises
    ------
    TypeError, ValueError
        If they are of another backend, or of another shape than weights can have.
    """
    if weights is None:
        return 0
    if namespace_of(weights) is not namespace_of(x):
        raise TypeError(
            f"x is {describe(x)}, weights is {describe(weights)}: expected one backend's arrays"
        )
    shape, places = tuple(weights.shape), tuple(target.shape)[: axis + 1]
    known = dict.fromkeys([places[-1:], places, tuple(target.shape)])
    if shape not in known:
        raise ValueError(
            f"weights has shape {shape}: expected {' or '.join(map(str, known))}, a weight for "
            "each sequence, output or entry"
        )
    return 0 if shape == places[-1:] else axis


def batch_axis(x: Array, target: Array) -> int:
    """Return the batch axis of the target: 1, or 0 if the target has no steps.

    Raises
    ------
    TypeError, ValueError
        If input and target are of different backends, or differ in sequences or steps.
    """
    xp = namespace_of(x)
    if namespace_of(target) is not xp:
        raise TypeError(
            f"x is {describe(x)}, target is {describe(target)}: expected one backend's arrays"
        )
    # Integers stand for one-hot vectors, so they have no feature axis.
    leading, axes = (a.ndim - (0 if xp.isdtype(a.dtype, "integral") else 1) for a in (x, target))
    given = f"x has shape {tuple(x.shape)} and target {tuple(target.shape)}"
    if leading != 2 or axes not in (1, 2):
        raise ValueError(
            f"{given}: expected (T, N, I), and (T, N, O) or (N, O); integers without the last axis"
        )
    if tuple(target.shape[:axes]) != tuple(x.shape[2 - axes : 2]):
        raise ValueError(f"{given}: expected the same numbers of steps T and of sequences N")
    return int(axes) - 1
