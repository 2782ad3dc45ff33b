"""Dropout masks, drawn on the host so that a seed gives the same on every backend."""

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator
from xprnn.backend.types import Array


def mask(backend: Backend, rng: Generator, rate: float, shape: tuple[int, ...]) -> Array | None:
    """Return a mask of 0, with probability ``rate``, and 1/(1-rate); None if the rate is zero.

    Dividing where it is kept leaves the mean as it was, so inference needs no factor.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR
    15 (2014).  One mask for all steps of a recurrence: Y. Gal and Z. Ghahramani, "A theoretically
    grounded application of dropout in recurrent neural networks", NIPS 2016.
    """
    if rate == 0:
        return None
    kept = rng.random(shape, dtype="float32") >= rate
    return backend.asarray(kept / (1 - rate))
