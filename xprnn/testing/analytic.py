"""A namespace for complex numbers that refuses what they can't go through."""

from xprnn.backend.types import Namespace

_WORDS = """
abs argmax argmin argsort atan2 ceil clip conj copysign floor floor_divide greater greater_equal
hypot imag less less_equal logaddexp max maximum min minimum real remainder round sign signbit sort
std trunc var
"""

REAL_ONLY = frozenset(_WORDS.split())
"""What the standard has for real numbers alone, or what means something else for complex ones: abs
is no longer ±x, and var takes squares of absolute values."""


class NotAnalyticError(TypeError):
    """A function has no derivative that a complex step could find."""


class Analytic:
    """A namespace without the functions that are not analytic.

    Some libraries do take complex numbers in them, and lose the imaginary part, which is the
    derivative.

    Parameters
    ----------
    xp : namespace
    """

    def __init__(self, xp: Namespace) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> object:
        if name in REAL_ONLY:
            raise NotAnalyticError(f"xp.{name} is for real numbers")
        return getattr(self._xp, name)
