"""Long sequences in segments: gradients that need less memory and less time.

A sequence is cut into n segments of L steps.  The products before and after the time loop are
computed for one segment at a time, and each parameter's gradient is summed from the last segment to
the first::

    dW = Σ_k dW_k,   dW_k = Σ_t du(t) x(t)ᵀ over the steps t of segment k          (1)

and likewise for the other parameters.

With gradient checkpointing (``recompute=True``) the forward pass stores the states at the borders
and nothing else, and the backward pass computes each segment a second time, by the same calls on
the same numbers, so that the gradients are the same to the bit.  (On a CUDA device a sequence is
cut only with gradient checkpointing, so there they are the same to rounding.)  A layer then holds n
states and the tape of one segment::

    n·B·S + L·B·K numbers, instead of T·B·K                                        (2)

with S numbers in a state, and K numbers on the tape for each step and sequence.  That is smallest
for L near √T; but with fewer than some thousand rows a product is slower per row, so a segment has
at least that many.

References
----------
T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training deep nets with sublinear memory cost" (2016),
arXiv:1604.06174.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.trees import tree
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays
from xprnn.engine.loop.protocol import Trajectory
from xprnn.engine.normalization import Normalized

ROWS = 4096
"""The least L·B, the number of rows of a segment's products."""

STEPS = 8
"""The least L."""


class SegmentTape(NamedTuple):
    """What the backward pass of one segment needs from its forward pass.

    Attributes
    ----------
    normalized : Normalized or None
        Of W x, if the layer normalises.
    trajectory : Trajectory
    """

    normalized: Normalized | None
    trajectory: Trajectory


@tree("steps")
class Segment(NamedTuple):
    """A number of consecutive steps.

    Attributes
    ----------
    steps : slice
    before, after : tuple of array, (B, H) each
        The state before the first step, and the state after the last.
    tape : SegmentTape or None
        None: the backward pass recomputes it.
    """

    steps: slice
    before: Arrays
    after: Arrays
    tape: SegmentTape | None


def least_steps(steps: int, batch: int) -> int:
    """Return the least number of steps in a segment."""
    return max(math.isqrt(steps - 1) + 1, -(-ROWS // max(batch, 1)), STEPS)


def cut(steps: int, batch: int) -> tuple[slice, ...]:
    """Return the segments of a sequence, as equal in length as possible.

    Examples
    --------
    >>> cut(10_000, 1)
    (slice(0, 5000, None), slice(5000, 10000, None))
    """
    if steps * batch < 2 * ROWS:
        return (slice(0, steps),)
    count = max(1, steps // least_steps(steps, batch))
    borders = [steps * k // count for k in range(count + 1)]
    return tuple(itertools.starmap(slice, itertools.pairwise(borders)))


def copied(xp: Namespace, arrays: Arrays) -> Arrays:
    """Return arrays that share no memory with these."""
    return tuple(xp.asarray(a, copy=True) for a in arrays)


def put_steps(
    backend: Backend, whole: Array | None, steps: slice, segment: Array, total: int
) -> Array:
    """Return an array of all steps with a segment's steps put into it.

    Parameters
    ----------
    whole : array, (T, ...), or None
        Given up: the result may take its place.  None: this is the first segment.
    segment : array, (L, ...)
    total : int
        T.
    """
    if segment.shape[0] == total:
        return segment
    if whole is None:
        shape, xp = (total, *segment.shape[1:]), backend.xp
        whole = xp.empty(shape, dtype=segment.dtype, device=backend.device)
    return backend.library.put_rows(whole, steps, segment)


def check_recomputed(backend: Backend, segment: Segment, recomputed: SegmentTape) -> None:
    """Refuse a recomputed segment that ends in another state than in the forward pass."""
    for then, states in zip(segment.after, recomputed.trajectory.states, strict=True):
        now = states[-1, ...]
        # A state that overflowed may hold NaN, which is not equal to itself.
        same = (now == then) | ((now != now) & (then != then))  # noqa: PLR0124
        if not backend.library.all_true(same):
            raise ValueError(
                f"computed again, steps {segment.steps.start} to {segment.steps.stop - 1} end in "
                "another state than in the forward pass: with recompute=True neither x nor the "
                "parameters may change between the forward and the backward pass"
            )


def join_tapes(xp: Namespace, tapes: Sequence[SegmentTape]) -> SegmentTape:
    """Return the tape that one pass over all segments would have left."""
    first, *others = tapes
    if not others:
        return first
    trajectories = [tape.trajectory for tape in tapes]
    states = tuple(
        # The state before a segment is also the last state of the segment before it.
        xp.concat([head, *(states[1:, ...] for states in rest)])
        for head, *rest in zip(*(one.states for one in trajectories), strict=True)
    )
    saved = tuple(xp.concat(one) for one in zip(*(one.saved for one in trajectories), strict=True))
    norms = _concat(xp, [one.normalized for one in trajectories])
    projected = _concat(xp, [tape.normalized for tape in tapes])
    return SegmentTape(projected, Trajectory(states, saved, norms))


def _concat(xp: Namespace, segments: Sequence[Normalized | None]) -> Normalized | None:
    given = [segment for segment in segments if segment is not None]
    if not given:
        return None
    return Normalized(*(xp.concat(list(one)) for one in zip(*given, strict=True)))
