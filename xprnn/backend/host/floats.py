"""The floating dtypes on the host: NumPy's own, and bfloat16, which NumPy does not have.

Numbers of bfloat16 are held in float32, whose exponent has as many bits and whose significand has
16 more, so nothing is lost.
"""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np

_DROPPED = 16
"""The bits of a float32 that a bfloat16 does not have, the lowest of the significand."""


class FloatLimits(NamedTuple):
    """The limits of a floating dtype, as `numpy.finfo` names them.

    Attributes
    ----------
    eps : float
        The distance from 1 to the next larger number.
    smallest_normal, smallest_subnormal, max : float
    """

    eps: float
    smallest_normal: float
    smallest_subnormal: float
    max: float


_BFLOAT16 = FloatLimits(2.0**-7, 2.0**-126, 2.0**-133, (2.0 - 2.0**-7) * 2.0**127)


def float_limits(dtype: str) -> FloatLimits:
    """Return the limits of a floating dtype.

    Examples
    --------
    >>> float_limits("bfloat16").eps, float_limits("float16").eps
    (0.0078125, 0.0009765625)
    """
    if dtype == "bfloat16":
        return _BFLOAT16
    found = np.finfo(dtype)
    return FloatLimits(*(float(getattr(found, name)) for name in FloatLimits._fields))


def host_float(dtype: str) -> str:
    """Return the dtype in which the host holds numbers of a floating dtype.

    Examples
    --------
    >>> host_float("bfloat16"), host_float("float64")
    ('float32', 'float64')
    """
    return "float32" if dtype == "bfloat16" else dtype


def rounded(a: HostArray, dtype: str) -> HostArray:
    """Return floats as the nearest numbers of a dtype, of two the even one.

    Examples
    --------
    >>> rounded(np.asarray([0.1, 1.00390625, 3.4e38]), "bfloat16")
    array([0.10009766, 1.        ,        inf], dtype=float32)
    """
    narrow = a.astype(host_float(dtype))
    if dtype != "bfloat16":
        return narrow
    bits = narrow.view(np.uint32)
    half = np.uint32(2 ** (_DROPPED - 1) - 1) + ((bits >> _DROPPED) & 1)
    kept = ((bits + half) >> _DROPPED) << _DROPPED
    # Adding to the bits of a NaN could make another number of it.
    return np.where(np.isnan(narrow), narrow, kept.view(np.float32))


def spacing(a: HostArray, dtype: str) -> HostArray:
    """Return, in float64, the distance of each float of a dtype from its neighbour.

    Examples
    --------
    >>> spacing(np.asarray([1.0, 3.0]), "bfloat16")
    array([0.0078125, 0.015625 ])
    """
    near = np.abs(np.spacing(rounded(a, dtype))).astype("float64")
    return near * 2.0**_DROPPED if dtype == "bfloat16" else near
