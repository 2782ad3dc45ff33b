"""The tolerances: when a gradient agrees with numeric derivatives.

An entry g of a gradient agrees with its numeric derivative n if ::

    |g - n| ≤ τ (m + 1e-3 max m) + ρ ε S + noise,    m = max(|g|, |n|)     (1)

where max m is the largest m of the array.  The reasons for each term:

τ is 1e-12 with forward mode, whose derivatives are exact to the rounding of as many operations as
backward has: 1e-12 are some thousand roundings of ε = 2e-16.

τ is 1e-9 with the complex step.  Its result is exact to a few roundings of ε = 2e-16, so this
allows thousands of roundings in backward.  τ is 1e-6 with central differences, whose own error is
about 1e-10 of the largest entry if the objective is of order one.  A wrong formula is off by far
more than either.

Entries below a thousandth of the largest are compared with that thousandth, because they are sums
of terms that cancel, and rounding is relative to the terms.

S is the size of the objective, √Σ (w max(1, |y|))² for outputs y and their gradients w.  In a
saturated network, gradients are small differences, such as 1 - h², of numbers of the size of w.
ρ is 16, and 4 with forward mode, which computes such differences as backward does.

The noise is the effect of rounding.  It is measured: on differences, and on the derivatives of
forward mode, which a long recurrence may amplify.  It is zero with the complex step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.testing.arrays import Index, index_at
from xprnn.testing.gradients.numeric import EPS, Direction, Slopes
from xprnn.testing.gradients.report import Finding

FORWARD = 1e-12
COMPLEX = 1e-9
ROUNDINGS = 16
FORWARD_ROUNDINGS = 4
CENTRAL = 1e-6
SMALL = 1e-3
SAME = 1e-4
"""How much the ratios of a gradient's entries to the derivatives may differ to be one factor."""
SMALLEST = 1e-200
"""Derivatives about this small count as zero: the complex step multiplies them by 1e-20, and the
product would underflow."""

Gradients = Mapping[str, HostArray]


@dataclass(frozen=True)
class Entries:
    """Probes of every entry of an array; see `xprnn.testing.gradients.numeric.Probes`."""

    name: str
    value: HostArray = field(repr=False)

    @property
    def count(self) -> int:
        """The number of probes."""
        return int(self.value.size)

    def direction(self, k: int) -> Direction:
        """Return the direction that changes entry k alone."""
        one = np.zeros(self.value.size)
        one[k] = 1.0
        return {self.name: one.reshape(self.value.shape)}

    def size(self, k: int) -> float:
        """Return the absolute value of entry k, but at least one."""
        # The step depends on the curvature of the activations, which is no larger for a weight of
        # 0.01 than for one of 1.
        return max(1.0, abs(float(self.value.flat[k])))

    def project(self, gradients: Gradients) -> HostArray:
        """Return the derivative along every probe according to the gradients."""
        return gradients[self.name].ravel()

    def index(self, k: int) -> Index | None:
        """Return the index of entry k."""
        return index_at(self.value, k)


@dataclass(frozen=True)
class Directions:
    """Probes along random directions, which change one array or all of them together."""

    name: str
    directions: tuple[Direction, ...] = field(repr=False)

    @property
    def count(self) -> int:
        """The number of probes."""
        return len(self.directions)

    def direction(self, k: int) -> Direction:
        """Return direction k."""
        return self.directions[k]

    def size(self, k: int) -> float:
        """Return one, which is the size of the entries of random directions."""
        del k
        return 1.0

    def project(self, gradients: Gradients) -> HostArray:
        """Return the derivative along every probe, an inner product with the gradients."""
        return np.array(
            [sum(np.sum(gradients[n] * d) for n, d in moved.items()) for moved in self.directions]
        )

    def index(self, k: int) -> Index | None:
        """Return None, because a direction is not an entry."""
        del k
        return None


def random_directions(
    variables: Mapping[str, HostArray], count: int, rng: Generator
) -> list[Directions]:
    """Return ``count`` random directions of each array alone, then of all arrays together."""
    drawn = [
        {name: np.asarray(rng.normal(size=value.shape)) for name, value in variables.items()}
        for _ in range(count)
    ]
    each = [Directions(name, tuple({name: d[name]} for d in drawn)) for name in variables]
    return [*each, Directions("all", tuple(drawn))]


@np.errstate(over="ignore", invalid="ignore")
def compare(
    probes: Entries | Directions,
    shape: Index | None,
    gradients: Gradients,
    slopes: Slopes,
    tolerance: float,
    size: float,
    roundings: int = ROUNDINGS,
) -> Finding:
    """Compare the gradient of an array with its numeric derivatives by (1).

    Parameters
    ----------
    probes : Entries or Directions
    shape : tuple of int, or None
        The shape of the array; None for directions that change all arrays.
    gradients : mapping of str to array
    slopes : Slopes
        The numeric derivatives along the probes.
    tolerance : float
        τ.
    size : float
        S.
    roundings : int
        ρ.
    """
    name, count, kinks = probes.name, probes.count, int(np.sum(slopes.kink))
    g, n = probes.project(gradients), slopes.value
    if not count:
        return Finding(name, shape, 0, 0, None, 0.0, 0.0, 0.0, "zero")
    m = np.maximum(np.abs(g), np.abs(n))
    m = m + SMALL * np.max(m, where=np.isfinite(m) & ~slopes.kink, initial=0.0)
    off = np.abs(g - n)
    # The error as a multiple of what is allowed: infinite if it is not finite, and negative at
    # kinks, which so are never the worst entry.
    rounding = roundings * EPS * size + slopes.noise + SMALLEST
    finite = np.isfinite(off)
    excess = np.where(finite, off / (tolerance * m + rounding), np.inf)
    excess = np.where(slopes.kink & np.isfinite(g), -1.0, excess)
    k = int(np.argmax(excess))
    parts = gradients.values() if shape is None else (gradients[name],)
    unseen = np.min(rounding) > np.max(m) / 8
    some = any(np.any(part) for part in parts)
    if not finite[k] or not all(np.all(np.isfinite(part)) for part in parts):
        verdict = "not finite"
    elif kinks == count:
        verdict = "kinks"
    elif excess[k] > 1:
        verdict = "wrong" if some else "wrongly zero"
    elif not some:
        verdict = "zero"
    else:
        verdict = "unseen" if unseen else "right"
    error = float(off[k] / m[k]) if m[k] else 0.0
    where = probes.index(k)
    factor = _factor(g, n, slopes) if verdict == "wrong" else None
    return Finding(
        name, shape, count - kinks, kinks, where, float(g[k]), float(n[k]), error, verdict, factor
    )


def _factor(g: HostArray, n: HostArray, slopes: Slopes) -> float | None:
    """Return the factor by which all of a gradient is off; None if there is none."""
    there = (np.abs(n) > np.maximum(SMALL * np.max(np.abs(n)), 1e3 * slopes.noise)) & ~slopes.kink
    if np.sum(there) < 2:
        return None
    ratios = g[there] / n[there]
    factor = float(np.median(ratios))
    return factor if np.all(np.abs(ratios - factor) <= SAME * abs(factor)) else None
