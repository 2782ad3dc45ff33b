"""The worst entry of an array, against the same array of the reference."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class Worst(NamedTuple):
    """The entry with the largest error, measured by what is allowed there.

    Attributes
    ----------
    error, tolerance : float
        Relative to the norm of the reference's array.
    at : tuple of int
        Its index.
    """

    error: float
    tolerance: float
    at: tuple[int, ...]


def norm(arrays: Iterable[HostArray]) -> float:
    """Return the largest absolute value of all entries; 0 if there are none."""
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def worst_entry(
    got: HostArray,
    want: HostArray,
    tolerance: float,
    *,
    scale: float = 1.0,
    slack: HostArray | float = 0.0,
) -> Worst:
    """Compare two host arrays of one shape.

    Parameters
    ----------
    got : array
    want : array
        Of the reference, finite.
    tolerance : float
        Relative to the norm of ``want``.
    scale : float
        What stands in for a norm of zero, above zero.
    slack : array or float
        What an entry may be off by besides, absolute.
    """
    if want.size == 0:
        return Worst(0.0, tolerance, ())
    size = norm([want]) or scale
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(np.asarray(got, "float64") - want) / size
    errors = np.where(np.isfinite(errors), errors, math.inf)
    allowed = np.broadcast_to(tolerance + slack / size, errors.shape)
    index = np.unravel_index(int(np.argmax(errors / allowed)), errors.shape)
    at = tuple(int(k) for k in index)
    return Worst(float(errors[at]), float(allowed[at]), at)
