"""How far two backends may differ: every tolerance, with its reason.

Two backends add the same numbers in different orders, and their tanh and exp differ in the last
bit or two, so they agree to rounding and no better.  Errors are relative to the largest entry of an
array, because a small entry may be the difference of large numbers, whose rounding it has.

No tolerance is chosen for the problem that is tested.  They depend on the dtype and the number of
steps only.  How much a problem amplifies rounding is measured in `xprnn.testing.parity.slack`, and
allowed on top.
"""

from xprnn.backend import HALVES
from xprnn.backend.host.floats import float_limits

FLOAT64 = 1e-12
"""The tolerance in float64: some thousand roundings of 1e-16."""

ROUNDINGS = 16
"""The number of roundings, in units of ε, that are allowed for each step."""


HALF_ROUNDINGS = 2
"""The same in float16 and bfloat16.  Sixteen for each step would be as large as the numbers; the
largest error of the suite's networks after eight steps is 2.5 ε in float16, on NumPy and torch, and
2.0 ε in bfloat16 on torch."""


def roundings(dtype: str) -> int:
    """Return the number of roundings of a dtype, in units of ε, that are allowed for each step."""
    return HALF_ROUNDINGS if dtype in HALVES else ROUNDINGS


def epsilon(dtype: str) -> float:
    """Return the distance from 1 to the next larger number of a dtype."""
    return float_limits(dtype).eps


def tolerance(dtype: str, steps: int) -> float:
    """Return the relative error allowed in output, state, loss, gradients and updates.

    It is 1e-12 in float64, 16·T·ε in float32, and 2·T·ε in float16 and bfloat16: the state goes
    through T steps, forward and backward, and each step rounds a few times (two products, a bias,
    an activation), so that errors grow with the number of steps.  (In float64 the formula would
    give less than 1e-12 up to 281 steps.  A fixed number is easier to remember.)

    Parameters
    ----------
    dtype : {"float64", "float32", "float16", "bfloat16"}
    steps : int
        T.

    Examples
    --------
    >>> tolerance("float64", 8), round(tolerance("float32", 8), 7)
    (1e-12, 1.53e-05)
    """
    return FLOAT64 if dtype == "float64" else roundings(dtype) * steps * epsilon(dtype)


def tolerance_after(dtype: str, steps: int, updates: int) -> float:
    """Return the relative error allowed in the parameters after a number of updates.

    It is ε for each update, because an update rounds the parameters by up to half of that, and a
    velocity as much; or `tolerance`, if that is more.  The effect of rounded gradients is not in
    it; see `xprnn.testing.parity.slack`.

    Parameters
    ----------
    dtype : {"float64", "float32", "float16", "bfloat16"}
    steps : int
        T.
    updates : int

    Examples
    --------
    >>> tolerance_after("float64", 8, 100), round(tolerance_after("float32", 8, 1000), 6)
    (1e-12, 0.000119)
    """
    # In 16 bits the parameters are kept in float32.
    kept = "float32" if dtype in HALVES else dtype
    return max(tolerance(dtype, steps), updates * epsilon(kept))
