"""When a gradient agrees with numeric derivatives.

An entry g of a gradient agrees with its numeric derivative n if ::

    |g - n| ≤ τ (m + 1e-3 max m) + 16 ε S + noise,   m = max(|g|, |n|)     (1)

with the largest m of the array.  Why each:

τ is 1e-9 with the complex step, which is right to some roundings of ε = 2e-16: that leaves backward
itself thousands.  It is 1e-6 with central differences, whose own error is 1e-10 or so of the
largest entry where the objective is of order one.  A wrong formula is off by far more than either.

Entries below a thousandth of the largest are held to that thousandth, because they are sums of
terms that cancel, and roundings are relative to the terms.

S is the size of the objective, √Σ (w max(1, |y|))² for outputs y and their gradients w.  Where a
network saturates, its gradients are small differences (as 1 - h² is) of numbers of the size of w.

The noise is what rounding does to differences: measured, and zero with the complex step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.testing.gradients.numeric import EPS, Direction, Slopes
from xprnn.testing.gradients.report import Finding, Index

COMPLEX = 1e-9
CENTRAL = 1e-6
SMALL = 1e-3
SMALLEST = 1e-200
"""What comes near it is zero: the complex step, times 1e-20, would underflow."""

Gradients = Mapping[str, HostArray]


@dataclass(frozen=True)
class Entries:
    """Every entry of an array."""

    name: str
    value: HostArray = field(repr=False)

    @property
    def count(self) -> int:
        """How many."""
        return int(self.value.size)

    def direction(self, k: int) -> Direction:
        """Return the direction of entry k."""
        one = np.zeros(self.value.size)
        one[k] = 1.0
        return {self.name: one.reshape(self.value.shape)}

    def size(self, k: int) -> float:
        """Return the size of entry k, at least one."""
        # A weight of 0.01 is as far from the bend of a tanh as one of 1.
        return max(1.0, abs(float(self.value.flat[k])))

    def project(self, gradients: Gradients) -> HostArray:
        """Return the derivatives that the gradients stand for."""
        return gradients[self.name].ravel()

    def index(self, k: int) -> Index | None:
        """Return the index of entry k."""
        return tuple(int(i) for i in np.unravel_index(k, self.value.shape))


@dataclass(frozen=True)
class Directions:
    """Random directions, of one array or of all together."""

    name: str
    directions: tuple[Direction, ...] = field(repr=False)

    @property
    def count(self) -> int:
        """How many."""
        return len(self.directions)

    def direction(self, k: int) -> Direction:
        """Return direction k."""
        return self.directions[k]

    def size(self, k: int) -> float:
        """Return one: their entries are of that size."""
        del k
        return 1.0

    def project(self, gradients: Gradients) -> HostArray:
        """Return the derivatives that the gradients stand for: inner products."""
        return np.array(
            [sum(np.sum(gradients[n] * d) for n, d in moved.items()) for moved in self.directions]
        )

    def index(self, k: int) -> Index | None:
        """Return None: a direction is no entry."""
        del k
        return None


def random_directions(
    variables: Mapping[str, HostArray], count: int, rng: Generator
) -> list[Directions]:
    """Return random directions of every array by itself, then of all of them together."""
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
) -> Finding:
    """Return how an array's gradient agrees with its numeric derivatives.

    Parameters
    ----------
    shape : tuple of int, or None
        The array's.
    size : float
        S.
    """
    name, count, kinks = probes.name, probes.count, int(np.sum(slopes.kink))
    g, n = probes.project(gradients), slopes.value
    if not count:
        return Finding(name, shape, 0, 0, None, 0.0, 0.0, 0.0, "zero")
    m = np.maximum(np.abs(g), np.abs(n))
    m = m + SMALL * np.max(m, where=np.isfinite(m) & ~slopes.kink, initial=0.0)
    off = np.abs(g - n)
    # By how many times the tolerance; what is not finite is beyond all, and kinks are left out.
    rounding = 16 * EPS * size + slopes.noise + SMALLEST
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
    return Finding(
        name, shape, count - kinks, kinks, where, float(g[k]), float(n[k]), error, verdict
    )
