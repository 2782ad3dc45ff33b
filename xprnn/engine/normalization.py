"""Layer normalisation of a projection.

::

    N(a) = (a - mean a) r,   r = 1 / √(var a + ε)                     (1)
    v = γ N(a)                                                        (2)

    dγ = dv N(a)     dn = γ dv                                        from (2)
    da = r (dn - mean dn - N(a) mean(dn N(a)))                        from (1)

with mean and variance over the last axis and ε = 1e-5.

References
----------
J. Ba, J. Kiros and G. Hinton, "Layer normalization" (2016), arXiv:1607.06450.
"""

from typing import NamedTuple

from xprnn.backend.types import Array, Namespace

EPSILON = 1e-5


class Normalized(NamedTuple):
    """N(a), (..., K), and r, (..., 1), which the backward pass needs."""

    n: Array
    r: Array


def normalize(xp: Namespace, a: Array) -> Normalized:
    """Return N(a) and r."""
    centred = a - xp.mean(a, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    r = 1 / xp.sqrt(variance + EPSILON)
    return Normalized(centred * r, r)  # (1)


def normalize_backward(
    xp: Namespace, normalized: Normalized, gain: Array, dv: Array
) -> tuple[Array, Array]:
    """Return da, and dγ of each row, (..., K), not yet summed."""
    n, r = normalized
    dn = dv * gain
    means = xp.mean(dn, axis=-1, keepdims=True), xp.mean(dn * n, axis=-1, keepdims=True)
    return r * (dn - means[0] - n * means[1]), dv * n
