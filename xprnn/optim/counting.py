"""Functions of the number of updates, which is an int, or an array in code that is compiled.

A compiled update serves every iteration, so there the number is an array, and what is computed from
it is computed in the precision of the library, not in Python's.
"""

import math

from xprnn.backend import namespace_of
from xprnn.backend.types import Array


def one_minus_power(base: float, t: int | Array) -> float | Array:
    """Return 1 - baseᵗ, for a base in [0, 1) and t ≥ 1."""
    if isinstance(t, int):
        return 1 - base**t
    if base == 0:
        return 1.0
    # 1 - 0.999 would lose three digits of single precision.  With a = tanh(x/2), 1 - eˣ is
    # -2a / (1 - a), in which nothing cancels for x ≤ 0.
    a = namespace_of(t).tanh(t * (0.5 * math.log(base)))
    return -2 * a / (1 - a)


def root(a: float | Array) -> float | Array:
    """Return √a."""
    return math.sqrt(a) if isinstance(a, float) else namespace_of(a).sqrt(a)
