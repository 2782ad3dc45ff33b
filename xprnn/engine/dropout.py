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

from typing import NamedTuple

from xprnn.backend import Backend, library_of
from xprnn.backend.host.arrays import Generator, np
from xprnn.backend.host.pool import empty
from xprnn.backend.types import Array

NOT_COMPILED = (
    "forward and value_and_grad draw dropout masks, which a function that is being compiled can't: "
    "it would have the same masks at every call; expected a network without dropout, or a call "
    "outside of such a function"
)


class Masks(NamedTuple):
    """The masks of a network's pass; None for no dropout, and no entries for none anywhere.

    Attributes
    ----------
    between : tuple of array, (T, B, H·D), or None
        Of every layer's output, except the last.
    recurrent : tuple of array, (B, H), or None
        Of every layer in every direction.
    """

    between: tuple[Array | None, ...]
    recurrent: tuple[Array | None, ...]


NO_MASKS = Masks((), ())


def mask(
    backend: Backend, rng: Generator | None, rate: float, shape: tuple[int, ...]
) -> Array | None:
    """Return a dropout mask; None, for no dropout, without a generator or if the rate is zero.

    Raises
    ------
    ValueError
        While a function is being compiled, which would have this mask at every call.
    """
    if rng is None or rate == 0:
        return None
    kept = rng.random(dtype="float32", out=empty(shape, np.dtype("float32"))) >= rate
    # NumPy has no bfloat16; the backend rounds.
    name = "float64" if backend.dtype_name == "bfloat16" else backend.dtype_name
    drawn = backend.asarray(np.divide(kept, 1 - rate, out=empty(shape, np.dtype(name))))
    if backend.library.traced(drawn):
        raise ValueError(NOT_COMPILED)
    return drawn


def masked(a: Array, m: Array | None) -> Array:
    """Return a, multiplied by a mask if there is one."""
    return a if m is None else library_of(a).times(a, m)
