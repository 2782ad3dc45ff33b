"""Dropout masks.

A mask has entries 0, with probability ``rate``, and 1/(1-rate).  Its mean is 1, so that inference,
which drops nothing, needs no other factor.  Its derivative is itself: the backward pass multiplies
by the same mask.

References
----------
N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15
(2014).  One mask for all steps of a recurrence: Y. Gal and Z. Ghahramani, "A theoretically grounded
application of dropout in recurrent neural networks", NIPS 2016.
"""

from xprnn.backend import Backend, library_of
from xprnn.backend.host.arrays import Generator
from xprnn.backend.types import Array


def mask(
    backend: Backend, rng: Generator | None, rate: float, shape: tuple[int, ...]
) -> Array | None:
    """Return a dropout mask; None, for no dropout, without a generator or if the rate is zero."""
    if rng is None or rate == 0:
        return None
    kept = rng.random(shape, dtype="float32") >= rate
    return backend.asarray(kept / (1 - rate))


def masked(a: Array, m: Array | None) -> Array:
    """Return a, multiplied by a mask if there is one."""
    return a if m is None else library_of(a).times(a, m)
