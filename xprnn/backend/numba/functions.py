"""Functions of one number written as plain arithmetic, so that loops over them are vectorised.

A loop that calls the C library's tanh can't be vectorised.  A loop over these runs about as fast as
one over products.  Their results are accurate to a few units in the last place, and infinities and
NaN are treated as in IEEE 754.
"""

from numba import njit

from xprnn.backend.host.arrays import np

# Only compiled code calls these, so they have no wrappers for Python and for C.
_jit = njit(
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
    forceinline=True,
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)
_f = np.float32

# Beyond this |x|, tanh is 1 to the last place.
_END32 = _f(9.0)
# The rational approximation of G. Guennebaud et al., Eigen 3.4, MathFunctionsImpl.h.
_P0, _P1, _P2, _P3 = map(
    _f, (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08)
)
_P4, _P5, _P6 = map(_f, (1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03))
_Q0, _Q1, _Q2, _Q3 = map(
    _f, (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
)
_ONE32 = _f(1.0)


@_jit
def tanh32(x):
    """Return tanh(x), x in float32."""
    # The comparisons are false for NaN, which so remains NaN.
    c = _END32 if x > _END32 else x
    c = -_END32 if c < -_END32 else c
    z = c * c
    p = _P0 * z + _P1
    p = p * z + _P2
    p = p * z + _P3
    p = p * z + _P4
    p = p * z + _P5
    p = p * z + _P6
    q = _Q0 * z + _Q1
    q = q * z + _Q2
    q = q * z + _Q3
    # Not c p / q: its product may be subnormal, and lose digits, where the quotient is not.
    y = c * (p / q)
    y = _ONE32 if y > _ONE32 else y
    return -_ONE32 if y < -_ONE32 else y


# exp(r) for |r| <= ln(2)/2 by the polynomial of S. Moshier's Cephes library, expf.c.
_LOG2E32, _LN2_HIGH32, _LN2_LOW32 = map(_f, (1.44269504088896341, 0.693359375, -2.12194440e-4))
_E0, _E1, _E2, _E3, _E4, _E5 = map(
    _f, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_LEAST32 = _f(-88.0)  # exp of this is below the smallest normal number, and taken as 0
_SHIFT32, _BITS32 = _f(12582912.0), 0x4B400000  # 1.5 · 2²³, see _SHIFT; and its bits


@_jit
def exp32(x):
    """Return exp(x) for x ≤ 0, in float32; 0 where it is below 2⁻¹²⁶."""
    c = _LEAST32 if x < _LEAST32 else x
    shifted = c * _LOG2E32 + _SHIFT32
    n = shifted - _SHIFT32
    r = (c - n * _LN2_HIGH32) - n * _LN2_LOW32
    e = _E0 * r + _E1
    e = e * r + _E2
    e = e * r + _E3
    e = e * r + _E4
    e = e * r + _E5
    e = e * (r * r) + (r + _ONE32)
    # n as an integer, from the bits of `shifted`: converting n itself is undefined for NaN.
    bits = np.int64(_f(shifted).view(np.int32)) - _BITS32 + 127
    return e * np.int32(bits << 23).view(np.float32)


# exp(r) for |r| <= ln(2)/2 by its series; and tanh near 0, where 1 - 2/(exp(2x) + 1) cancels, by
# the rational approximation of S. Moshier's Cephes library, tanh.c.
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93145751953125e-1, 1.42860682030941723212e-6
_SHIFT = 6755399441055744.0  # 1.5 · 2⁵²: adding it rounds to an integer, kept in the low bits


@_jit
def exp64(x):
    """Return exp(x), x in float64."""
    c = 710.0 if x > 710.0 else x
    c = -746.0 if c < -746.0 else c
    shifted = c * _LOG2E + _SHIFT
    n = shifted - _SHIFT
    r = (c - n * _LN2_HIGH) - n * _LN2_LOW
    e = 1.0 / 6227020800.0
    e = e * r + 1.0 / 479001600.0
    e = e * r + 1.0 / 39916800.0
    e = e * r + 1.0 / 3628800.0
    e = e * r + 1.0 / 362880.0
    e = e * r + 1.0 / 40320.0
    e = e * r + 1.0 / 5040.0
    e = e * r + 1.0 / 720.0
    e = e * r + 1.0 / 120.0
    e = e * r + 1.0 / 24.0
    e = e * r + 1.0 / 6.0
    e = e * r + 0.5
    e = e * r + 1.0
    e = e * r + 1.0
    # 2ⁿ as a product of two powers, each of which is in the range of normal numbers.
    whole = np.int64(n)
    half = whole >> 1
    a = np.int64((half + 1023) << 52)
    b = np.int64((whole - half + 1023) << 52)
    return e * a.view(np.float64) * b.view(np.float64)


@_jit
def tanh64(x):
    """Return tanh(x), x in float64."""
    a = -x if x < 0.0 else x
    c = 22.0 if a > 22.0 else a
    z = c * c
    p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
    q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z
    near = c + c * z * (p / (q + 4.84406305325125486048e3))
    far = 1.0 - 2.0 / (exp64(c + c) + 1.0)
    y = near if a < 0.625 else far
    # x itself where it is a zero, which has a sign, or NaN.
    return y if x > 0.0 else -y if x < 0.0 else x


@_jit
def maximum(x, y):
    """Return the larger number, NaN if either is NaN."""
    return x if x >= y or x != x else y  # noqa: PLR0124 - NaN


@_jit
def minimum(x, y):
    """Return the smaller number, NaN if either is NaN."""
    return x if x <= y or x != x else y  # noqa: PLR0124 - NaN


@_jit
def floor_divide(x, y):
    """Return the floor of x / y by NumPy's rules, from which Numba's ``//`` differs.

    The floor is not taken of the rounded quotient: 1 // 0.1 is 9, although 1 / 0.1 rounds to 10.
    """
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1
    if quotient == 0:
        return np.copysign(quotient, x / y)
    # The division is exact but for rounding, which is off by less than a half.
    return np.rint(quotient)
