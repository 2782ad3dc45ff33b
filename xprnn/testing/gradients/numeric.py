"""Numeric derivatives of a function of named arrays, on the host.

Along a direction d, with a step t::

    (f(θ + t d) - f(θ - t d)) / 2t              central differences       (1)
    Im f(θ + i t d) / t                         complex step              (2)

The error of (1) is t²/6 · f''' plus the effect of rounding, ε f/t.  It is smallest when the two are
equal, with t about ε^⅓, or that times the entry if the entry is larger than one.  Halving the step
shows whether the function is smooth there (see `_roughness`).  If it is not, the step is made
smaller.  Where the function is still not smooth at the smallest step, it has a kink, and no
derivative.

(2) subtracts nothing, so t can be so small that t² vanishes, and the derivative is exact to
rounding.  It needs a function that accepts complex numbers and is analytic.  tanh is; relu and abs
are not.

References
----------
W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM
Review 40 (1998), 110-112.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Namespace

Direction: TypeAlias = Mapping[str, HostArray]
"""By name, the change of each array; arrays that do not change are left out."""

EPS = float(np.finfo(np.float64).eps)
STEP = EPS ** (1 / 3)
RUNGS = (1.0, 2.0**-5, 2.0**-10)
"""The steps, as multiples of `STEP`.  With the smallest, rounding has an effect of ε/t = 4e-8; a
smaller one would leave too few digits to compare."""
TINY = 1e-20
"""The complex step.  Its square vanishes even next to numbers of 1e-12."""
WITNESS = 1e-5
"""The complex step is used only if it agrees with central differences to this relative error.  They
agree to about 1e-8 unless the function loses the imaginary part somewhere, which makes the
difference far larger."""


class Pushed(NamedTuple):
    """The value of a function, and its derivatives along K directions, (K,)."""

    value: float
    slopes: HostArray


@dataclass(frozen=True)
class Function:
    """A sum of terms that depends on named arrays.

    Attributes
    ----------
    variables : mapping of str to array
        θ, float64.
    terms : callable
        Takes new values for some of the variables, and returns the terms, one-dimensional, whose
        sum is f.  Complex arrays give complex terms.
    grain : float
        The size of the largest numbers that cancel within a term, as in the logarithm of a softmax.
        The rounding of a term is relative to them.
    push : callable or None
        ``push(at, tangents)`` takes values for all variables, and their changes along K directions,
        (K, ...), of those that change; it returns a `Pushed`.
    """

    variables: Mapping[str, HostArray]
    terms: Callable[[Direction], HostArray]
    grain: float = 0.0
    push: Callable[[Direction, Direction], Pushed] | None = None

    def along(self, direction: Direction, t: complex) -> HostArray:
        """Return the terms of f(θ + t d)."""
        return self.terms({name: self.variables[name] + t * d for name, d in direction.items()})


class Probes(Protocol):
    """Directions along which a function is differentiated, of which it has ``count``."""

    @property
    def count(self) -> int: ...

    def direction(self, k: int) -> Direction:
        """Return direction k."""
        ...

    def size(self, k: int) -> float:
        """Return the factor by which `STEP` is multiplied for direction k."""
        ...


class Slopes(NamedTuple):
    """Numeric derivatives along directions, in one-dimensional arrays.

    Attributes
    ----------
    value : array
    noise : array
        How far rounding may have moved each value.
    kink : array of bool
        Whether there is no derivative.
    """

    value: HostArray
    noise: HostArray
    kink: HostArray


_WORDS = """
abs argmax argmin argsort atan2 ceil clip conj copysign floor floor_divide greater greater_equal
hypot imag less less_equal logaddexp max maximum min minimum real remainder round sign signbit sort
std trunc var
"""


REAL_ONLY = frozenset(_WORDS.split())
"""Functions that the standard defines for real numbers only, or that mean something else for
complex ones: abs is no longer ±x, and var takes squares of absolute values."""


class NotAnalyticError(TypeError):
    """A function is not analytic, so a complex step can't find its derivative."""


class Analytic:
    """A namespace in which the functions that are not analytic raise NotAnalyticError.

    Some libraries accept complex numbers in those and drop the imaginary part, which is the
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


def complex_step(f: Function, probes: Probes) -> Slopes:
    """Return the derivatives by (2)."""
    count = probes.count
    value = np.array(
        [np.sum(f.along(probes.direction(k), 1j * TINY).imag) / TINY for k in range(count)]
    )
    return Slopes(value, np.zeros(count), np.zeros(count, dtype=bool))


def central(
    f: Function, probes: Probes, at_rest: HostArray, rounding: float, limit: float
) -> Slopes:
    """Return the derivatives by (1).

    Parameters
    ----------
    f : Function
    probes : Probes
    at_rest : array
        The terms of f(θ).
    rounding : float
        The effect of rounding on f; see `rounding_of`.
    limit : float
        The roughness, relative to the slope, above which there is a kink.
    """
    count = probes.count
    value, rough, noise = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    kink = np.ones(count, dtype=bool)
    for rung in RUNGS:
        for k in np.flatnonzero(kink).tolist():
            step = rung * STEP * probes.size(k)
            value[k], rough[k] = slope(f, probes.direction(k), at_rest, step)
            noise[k] = rounding / step
        # The roughness of an entry whose slope is nearly zero is relative to the other slopes.
        slopes = np.abs(value)
        allowed = limit * (slopes + 1e-3 * np.max(slopes, initial=0.0)) + 4 * noise
        # The comparison is false for NaN, which no smaller step would make finite.
        kink &= rough > allowed
    return Slopes(value, noise, kink)


def rounding_of(f: Function, at_rest: HostArray, rng: Generator) -> float:
    """Return how much rounding changes f, measured by changing all variables by rounding errors."""
    # A term may happen not to change, because it can't change by less than its last digit.
    found = EPS * (f.grain + float(np.sqrt(np.sum(at_rest * at_rest))))
    for _ in range(4):
        direction = {
            name: np.asarray(np.maximum(np.abs(a), 1) * rng.normal(size=a.shape))
            for name, a in f.variables.items()
        }
        found = max(found, abs(np.sum(f.along(direction, EPS) - at_rest)))
    return 4 * float(found)


def why_not_complex(f: Function, at_rest: HostArray, rounding: float, rng: Generator) -> str | None:
    """Return why the complex step can't be used; None if it can.

    It is tried once, in a random direction that changes all variables, and must agree with (1).
    """
    d = {name: np.asarray(rng.normal(size=a.shape)) for name, a in f.variables.items()}
    try:
        by_complex = np.sum(f.along(d, 1j * TINY).imag) / TINY
    except Exception as error:
        # Every library refuses complex numbers with another exception.
        return f"{type(error).__name__}: {error}"
    for rung in RUNGS:
        found, _ = slope(f, d, at_rest, rung * STEP)
        allowed = WITNESS * max(abs(found), abs(by_complex)) + 4 * rounding / (rung * STEP)
        if abs(found - by_complex) <= allowed or not np.isfinite(found):
            return None
    return (
        f"the slope in a random direction is {by_complex:.6g} by complex step and {found:.6g} by "
        "central differences, so the function is not analytic, or has a kink right here"
    )


def slope(f: Function, d: Direction, at_rest: HostArray, t: float) -> tuple[float, float]:
    """Return the derivative along a direction by (1), and the roughness of the function there."""
    whole, half = (_sides(f, d, at_rest, step) for step in (t, t / 2))
    return (whole[0] + whole[1]) / 2, _roughness(whole, half)


def _sides(f: Function, d: Direction, at_rest: HostArray, t: float) -> tuple[float, float]:
    """Return the slopes above and below θ."""
    # Terms are subtracted before they are summed.  So those that d does not change are exactly zero
    # and add no rounding errors.  (NumPy sums pairwise, which adds less than the terms have.)
    above, below = f.along(d, t), f.along(d, -t)
    return float(np.sum(above - at_rest)) / t, float(np.sum(at_rest - below)) / t


def _roughness(whole: tuple[float, float], half: tuple[float, float]) -> float:
    """Return how far a function is from smooth, given its slopes on both sides at t and t/2.

    It is the larger of two numbers: how much the mean of both sides changes with the step, and how
    far their difference, t f'' + ..., is from being halved with it.  For a smooth function they are
    of order t² and t³, and at a kink of the order of the jump J of the slope.  A kink at distance
    δ < t/2 changes the first by J δ/2t, which is zero if the kink is at θ itself, and the second by
    J (1 - 3δ/t), which is not.
    """
    mean = abs(sum(whole) - sum(half)) / 2
    bend = abs((whole[0] - whole[1]) - 2 * (half[0] - half[1]))
    return max(mean, bend)
