"""Numeric derivatives of a function of named arrays, on the host.

Along a direction d, with t a number::

    (f(θ + t d) - f(θ - t d)) / 2t              central differences       (1)
    Im f(θ + i t d) / t                         complex step              (2)

(1) is off by t²/6 · f''' and by rounding, ε f/t, and best where both are of a size: t about ε^⅓,
times the size of the entry that is moved if that is above one.  Whether the function is smooth
there is found out by halving the step (see `_roughness`); where it is not, the step is made
smaller, and what is rough at the smallest one is a kink, which has no derivative.

(2) subtracts nothing, so t can be so small that t² vanishes, and the derivative is right to
rounding.  It needs a function that takes complex numbers and is analytic, which tanh is and relu
and abs are not.

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
"""By name, how the arrays move; those that stay are left out."""

EPS = float(np.finfo(np.float64).eps)
STEP = EPS ** (1 / 3)
RUNGS = (1.0, 2.0**-5, 2.0**-10)
"""Steps by `STEP`.  The smallest has ε/t of 4e-8, beyond which there is nothing to compare with."""
TINY = 1e-20
"""The complex step: its square is lost even next to numbers of 1e-12."""
WITNESS = 1e-5
"""How near complex step and central differences must come for the first to be believed.  They do to
1e-8; a function that loses the imaginary part somewhere is off by far more."""


@dataclass(frozen=True)
class Function:
    """A sum of terms that depends on named arrays.

    Attributes
    ----------
    variables : mapping of str to array
        θ, float64.
    terms : callable
        Takes some of the variables, moved, and returns the terms, one-dimensional: their sum is f.
        Complex arrays give complex terms.
    grain : float
        The size of the largest numbers that are cancelled within a term, as those of a logarithm of
        a softmax are: rounding is relative to them.
    """

    variables: Mapping[str, HostArray]
    terms: Callable[[Direction], HostArray]
    grain: float = 0.0

    def along(self, direction: Direction, t: complex) -> HostArray:
        """Return the terms of f(θ + t d)."""
        return self.terms({name: self.variables[name] + t * d for name, d in direction.items()})


class Probes(Protocol):
    """Directions to differentiate along."""

    @property
    def count(self) -> int: ...

    def direction(self, k: int) -> Direction:
        """Return direction k."""
        ...

    def size(self, k: int) -> float:
        """Return what its step is to be multiplied by."""
        ...


class Slopes(NamedTuple):
    """Numeric derivatives along directions, one-dimensional each.

    Attributes
    ----------
    value : array
    noise : array
        How far rounding may have taken each of them.
    kink : array of bool
        Where there is none.
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
        That of f, see `rounding_of`.
    limit : float
        How rough it may be, relative to the slope.
    """
    count = probes.count
    value, rough, noise = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    kink = np.ones(count, dtype=bool)
    for rung in RUNGS:
        for k in np.flatnonzero(kink).tolist():
            step = rung * STEP * probes.size(k)
            value[k], rough[k] = _slope(f, probes.direction(k), at_rest, step)
            noise[k] = rounding / step
        # An entry whose slope is nearly zero is compared with the others' slopes.
        slopes = np.abs(value)
        allowed = limit * (slopes + 1e-3 * np.max(slopes, initial=0.0)) + 4 * noise
        # False for what is not finite, which no smaller step makes finite.
        kink &= rough > allowed
    return Slopes(value, noise, kink)


def rounding_of(f: Function, at_rest: HostArray, rng: Generator) -> float:
    """Return how much rounding changes f: measured, by moving everything by rounding errors."""
    # A term may stay as it is by chance, as it can't change by less than its last digit.
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

    It is tried once, in a direction that moves everything, and must agree with (1).
    """
    d = {name: np.asarray(rng.normal(size=a.shape)) for name, a in f.variables.items()}
    try:
        by_complex = np.sum(f.along(d, 1j * TINY).imag) / TINY
    except Exception as error:
        # Each library refuses complex numbers in words and types of its own.
        return f"{type(error).__name__}: {error}"
    for rung in RUNGS:
        slope, _ = _slope(f, d, at_rest, rung * STEP)
        allowed = WITNESS * max(abs(slope), abs(by_complex)) + 4 * rounding / (rung * STEP)
        if abs(slope - by_complex) <= allowed or not np.isfinite(slope):
            return None
    return (
        f"the slope in a random direction is {by_complex:.6g} by complex step and {slope:.6g} by "
        "central differences, so the function is not analytic, or has a kink right here"
    )


def _slope(f: Function, d: Direction, at_rest: HostArray, t: float) -> tuple[float, float]:
    """Return the derivative by (1), and its roughness."""
    whole, half = (_sides(f, d, at_rest, step) for step in (t, t / 2))
    return (whole[0] + whole[1]) / 2, _roughness(whole, half)


def _sides(f: Function, d: Direction, at_rest: HostArray, t: float) -> tuple[float, float]:
    """Return the slopes on both sides."""
    # Terms are subtracted before they are summed: those that d does not touch are then exactly
    # zero, and add no rounding.  (The sum is NumPy's pairwise one, whose own is smaller than that
    # of the terms.)
    above, below = f.along(d, t), f.along(d, -t)
    return float(np.sum(above - at_rest)) / t, float(np.sum(at_rest - below)) / t


def _roughness(whole: tuple[float, float], half: tuple[float, float]) -> float:
    """Return by how much a function is not smooth, given its slopes on both sides at t and t/2.

    Two numbers that are of order t² and t³ for a smooth function, but of the order of the jump J of
    the slope at a kink: how the mean of both sides changes, and whether their difference, t f'' and
    so on, fails to be halved.  A kink at distance δ < t/2 changes the first by J δ/2t, which misses
    one right at θ, and the second by J (1 - 3δ/t), which does not.
    """
    mean = abs(sum(whole) - sum(half)) / 2
    bend = abs((whole[0] - whole[1]) - 2 * (half[0] - half[1]))
    return max(mean, bend)
