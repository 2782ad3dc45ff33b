"""How near is near enough between backends: every tolerance, with its reason.

Two backends add the same numbers in different orders, and their tanh and exp differ in the last
bit or two, so they agree to rounding and no further.  Errors are relative to an array's norm, its
largest entry, because an entry that is a small difference of large numbers has the rounding of the
large ones.

No tolerance is chosen for the case that is tested.  Those here depend on the dtype and on the
number of steps; what a problem makes of roundings is measured, in `xprnn.testing.parity.slack`, and
comes on top.
"""

from xprnn.backend.host.arrays import np

FLOAT64 = 1e-12
"""Of float64: some thousand roundings of 1e-16."""

ROUNDINGS = 16
"""How many roundings a step may leave behind."""


def epsilon(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype."""
    return float(np.finfo(dtype).eps)


def tolerance(dtype: str, steps: int) -> float:
    """Return how far a backend's output, loss, gradients or update may be from the reference's.

    1e-12 in float64.  In float32 16·T·ε: a state goes through T steps, forward and backward, and
    each rounds a handful of times (two products, a bias, an activation), so the errors add up with
    the steps.  (In float64 the same formula would be below 1e-12 up to 281 steps; a fixed number is
    easier to hold on to.)

    Parameters
    ----------
    dtype : {"float64", "float32"}
    steps : int
        T.

    Examples
    --------
    >>> tolerance("float64", 8), round(tolerance("float32", 8), 7)
    (1e-12, 1.53e-05)
    """
    return FLOAT64 if dtype == "float64" else ROUNDINGS * steps * epsilon(dtype)


def tolerance_after(dtype: str, steps: int, updates: int) -> float:
    """Return how far parameters may be after so many updates, were the gradients exact.

    Each update rounds the parameters to half an ε, and a velocity as much: so an ε an update, or
    `tolerance`, whichever is more.

    Parameters
    ----------
    dtype : {"float64", "float32"}
    steps : int
        T.
    updates : int
    """
    return max(tolerance(dtype, steps), updates * epsilon(dtype))
