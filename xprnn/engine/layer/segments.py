"""Time in segments: what makes a long sequence's gradients cost little, in memory and in time.

A sequence is cut into n segments of L steps.  The products before and after the time loop are taken
for a segment at once, and what a parameter gets is added up, from the last segment to the first::

    dW = Σ_k dW_k,   dW_k = Σ_t du(t) x(t)ᵀ over the steps t of segment k          (1)

and so for all others.  A forward pass may leave the states at the borders and nothing else; on the
way back each segment is computed a second time, by the same calls on the same numbers, so that the
gradients are the same to the bit.  Then a layer holds n states, and the tape of one segment::

    n·B·S + L·B·K numbers, instead of T·B·K                                        (2)

with K numbers a step and sequence on the tape, and S in a state.  That is smallest for L near √T;
but below some thousand rows a product runs slower, so a segment has at least that many.

References
----------
T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training deep nets with sublinear memory cost" (2016),
arXiv:1604.06174.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays
from xprnn.engine.loop.protocol import Trajectory
from xprnn.engine.normalization import Normalized

ROWS = 4096
"""L·B at least."""

STEPS = 8
"""L at least."""


class Kept(NamedTuple):
    """What a forward pass through one segment leaves behind.

    Attributes
    ----------
    normalized : Normalized or None
        Of W x, if the layer normalises.
    trajectory : Trajectory
    """

    normalized: Normalized | None
    trajectory: Trajectory


class Segment(NamedTuple):
    """A part of a sequence.

    Attributes
    ----------
    steps : slice
    before, after : tuple of array, (B, H) each
        The state before its first step, and that after its last.
    kept : Kept or None
        None: it is computed again when it is needed.
    """

    steps: slice
    before: Arrays
    after: Arrays
    kept: Kept | None


def least_steps(steps: int, batch: int) -> int:
    """Return how many steps a segment has at least."""
    return max(math.isqrt(steps - 1) + 1, -(-ROWS // max(batch, 1)), STEPS)


@lru_cache(maxsize=1024)
def cut(steps: int, batch: int) -> tuple[slice, ...]:
    """Return the segments of a sequence, as even as may be.

    Examples
    --------
    >>> cut(10_000, 1)
    (slice(0, 5000, None), slice(5000, 10000, None))
    """
    count = max(1, steps // least_steps(steps, batch))
    borders = [steps * k // count for k in range(count + 1)]
    return tuple(itertools.starmap(slice, itertools.pairwise(borders)))


def copied(xp: Namespace, arrays: Arrays) -> Arrays:
    """Return arrays that share no memory with these."""
    return tuple(xp.asarray(a, copy=True) for a in arrays)


def gathered(backend: Backend, whole: Array | None, steps: slice, piece: Array, all_: int) -> Array:
    """Put a segment's piece where it belongs in an array of all steps.

    Parameters
    ----------
    whole : array or None
        Given up: what is returned takes its place.  None: this is the first piece.
    piece : array, (L, ...)
    all_ : int
        T.
    """
    if piece.shape[0] == all_:
        return piece
    if whole is None:
        shape, xp = (all_, *piece.shape[1:]), backend.xp
        whole = xp.empty(shape, dtype=piece.dtype, device=backend.device)
    return backend.library.put_rows(whole, steps, piece)


def check_again(xp: Namespace, segment: Segment, kept: Kept) -> None:
    """Refuse a segment that, computed again, does not end as it did."""
    for then, states in zip(segment.after, kept.trajectory.states, strict=True):
        now = states[-1, ...]
        # What overflowed is no number, and unlike itself.
        if not bool(xp.all((now == then) | ((now != now) & (then != then)))):  # noqa: PLR0124
            raise ValueError(
                f"computed again, steps {segment.steps.start} to {segment.steps.stop - 1} end in "
                "another state than in the forward pass: with recompute=True neither x nor the "
                "parameters may change between the forward and the backward pass"
            )


def joined(xp: Namespace, parts: Sequence[Kept]) -> Kept:
    """Return what one pass through all segments would have left behind."""
    first, *others = parts
    if not others:
        return first
    trajectories = [part.trajectory for part in parts]
    states = tuple(
        # The state before a segment is the one after the segment before it.
        xp.concat([whole, *(more[1:, ...] for more in later)])
        for whole, *later in zip(*(one.states for one in trajectories), strict=True)
    )
    saved = tuple(xp.concat(one) for one in zip(*(one.saved for one in trajectories), strict=True))
    norms = _concat(xp, [one.normalized for one in trajectories])
    return Kept(_concat(xp, [part.normalized for part in parts]), Trajectory(states, saved, norms))


def _concat(xp: Namespace, parts: Sequence[Normalized | None]) -> Normalized | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Normalized(*(xp.concat(list(one)) for one in zip(*found, strict=True)))
