"""Sequences with missing steps in between: what follows what.

In a tape the state is held through a gap.  The time loops need not know where gaps are, because
they hold states and gradients step by step.  What handles all steps at once does: a gradient goes
from a step to the one before it that exists.
"""

from typing import NamedTuple

from xprnn.backend import Backend, library_of
from xprnn.backend.types import Array, Namespace


class Gaps(NamedTuple):
    """Where the steps of sequences with gaps are.

    Attributes
    ----------
    first, last : array of bool, (T, B, 1)
        Which step is the first of its sequence, and which the last.
    more : array of bool, (T, B, 1)
        Whether a later step of the sequence exists.
    following : array of int, (T·B,)
        For every step and sequence the row, of the T·B rows of all steps, of the next step that
        exists; any row where there is none.
    """

    first: Array
    last: Array
    more: Array
    following: Array


def find_gaps(backend: Backend, valid: Array | None) -> Gaps | None:
    """Return the gaps of a padding mask (T, B, 1); None if it is known that there are none.

    It is known where looking at the values takes no waiting: on the host, in code that is not
    being compiled.
    """
    if valid is None or valid.shape[0] < 3:
        return None
    xp, library = backend.xp, library_of(valid)
    if library.on_host(valid) and not library.traced(valid):
        begins = xp.astype(valid[1:, ...] & ~valid[:-1, ...], xp.int32)
        count = xp.sum(begins, axis=0) + xp.astype(valid[0, ...], xp.int32)
        if library.all_true(count <= 1):
            return None
    return _gaps(xp, valid)


def _gaps(xp: Namespace, valid: Array) -> Gaps:
    steps, batch = valid.shape[:2]
    library = library_of(valid)
    device = library.device_of(valid)
    exists = valid[..., 0]
    t = xp.broadcast_to(xp.arange(steps, device=device)[:, None], (steps, batch))
    none = xp.full_like(t, steps)
    # The first existing step from t on: a running minimum, in log T rounds of doubled distance.
    found, distance = xp.where(exists, t, none), 1
    while distance < steps:
        later = xp.concat((found[distance:, ...], none[:distance, ...]), axis=0)
        found, distance = xp.minimum(found, later), 2 * distance
    following = xp.concat((found[1:, ...], none[:1, ...]), axis=0)
    more = following < steps
    rows = xp.where(more, following, t) * batch + xp.arange(batch, device=device)[None, :]
    return Gaps(
        (exists & (t == found[:1, ...]))[..., None],
        (exists & ~more)[..., None],
        more[..., None],
        xp.reshape(rows, (steps * batch,)),
    )


def of_following(xp: Namespace, gaps: Gaps, a: Array) -> Array:
    """Return for every step the a (T, B, H) of the next step that exists; zero after the last."""
    library = library_of(a)
    taken = xp.reshape(library.taken(library.rows(a), gaps.following), a.shape)
    return library.zero_unless(gaps.more, taken)
