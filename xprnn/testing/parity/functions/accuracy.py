"""How accurate tanh, exp, log and sqrt are, in units in the last place."""

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from xprnn.backend import Backend, MissingFunctionError
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.backend.host.floats import float_limits, rounded, spacing
from xprnn.testing.parity.report import Row
from xprnn.testing.parity.tolerances import tolerance

COUNT = 200
"""The numbers that each function is called with."""


def _signed(rng: Any, low: float, high: float) -> HostArray:
    sizes = np.exp(rng.uniform(math.log(low), math.log(high), size=COUNT))
    return np.asarray(sizes * np.where(rng.integers(0, 2, size=COUNT) == 1, 1.0, -1.0))


SAMPLES: Mapping[str, Callable[[Any, float], HostArray]] = {
    "tanh": lambda rng, _: _signed(rng, 1e-4, 20.0),
    "exp": lambda rng, top: _signed(rng, 1e-4, 0.95 * math.log(top)),
    "log": lambda rng, top: np.abs(_signed(rng, 1e-4, min(1e10, top / 2))),
    "sqrt": lambda rng, top: np.abs(_signed(rng, 1e-4, min(1e10, top / 2))),
}
"""By function, the numbers that it is called with, given the largest number of the dtype."""


def accuracies(backend: Backend) -> tuple[dict[str, float], list[Row]]:
    """Return the largest error of each function in units in the last place.

    A unit is the distance of two neighbouring numbers near the exact result.  The judge is mpmath,
    where it is installed.  Without it NumPy in float64 judges the narrower dtypes, and float64 is
    not judged.

    Returns
    -------
    ulps : dict of float
        By function.
    rows : list of Row
        The functions whose relative error is beyond the tolerance for some number.
    """
    dtype = backend.dtype_name
    exact = _mpmath()
    if exact is None and dtype == "float64":
        return {}, []
    ulps, rows = {}, []
    for name, sample in SAMPLES.items():
        limits = float_limits(dtype)
        x = rounded(sample(generator(0), limits.max), dtype)
        # Results below the smallest normal number may be flushed to zero.
        x = x[x > 0.95 * math.log(limits.smallest_normal)] if name == "exp" else x
        try:
            got = backend.to_numpy(getattr(backend.xp, name)(backend.asarray(x)))
        except MissingFunctionError:
            continue
        except Exception:
            # It fails on the small arrays, too, and is named there.
            continue
        wide = np.asarray(got, "float64")
        if exact is None:
            want = np.asarray(getattr(np, name)(x.astype("float64")))
            errors = np.abs(wide - want)
        else:
            pairs = [exact(name, float(a), float(b)) for a, b in zip(x, wide, strict=True)]
            want, errors = np.asarray([p[0] for p in pairs]), np.asarray([p[1] for p in pairs])
        with np.errstate(all="ignore"):
            unit = spacing(want, dtype)
            ulps[name] = float(np.max(np.where(np.isfinite(errors), errors / unit, math.inf)))
            relative = np.where(np.isfinite(errors), errors / np.abs(want), math.inf)
        at = int(np.argmax(relative))
        if relative[at] > tolerance(dtype, 1):
            where = f"{name} of {float(x[at])!r} is {float(wide[at])!r}"
            allowed = tolerance(dtype, 1)
            rows.append(Row("functions", float(relative[at]), allowed, where, name=name))
    return ulps, rows


def _mpmath() -> Callable[[str, float, float], tuple[float, float]] | None:
    """Return a function that computes exactly; None if mpmath is not installed."""
    try:
        mpmath = importlib.import_module("mpmath")
    except ImportError:
        return None

    def exact(name: str, x: float, got: float) -> tuple[float, float]:
        with mpmath.workprec(120):
            want = getattr(mpmath, name)(mpmath.mpf(x))
            return float(want), float(abs(want - mpmath.mpf(got)))

    return exact
