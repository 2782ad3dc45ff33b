"""What functions return for zeros of both signs, subnormal and largest numbers, infinities, NaN."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from xprnn.backend import Backend, MissingFunctionError, get_backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.floats import float_limits, host_float, rounded
from xprnn.backend.types import Array, Namespace
from xprnn.testing.parity.form import in_words, traceback_of
from xprnn.testing.parity.report import Row
from xprnn.testing.parity.tolerances import tolerance

UNARY: Mapping[str, Callable[[Namespace, Array], Array]] = {
    "abs": lambda xp, a: xp.abs(a),
    "sign": lambda xp, a: xp.sign(a),
    "sqrt": lambda xp, a: xp.sqrt(a),
    "exp": lambda xp, a: xp.exp(a),
    "log": lambda xp, a: xp.log(a),
    "tanh": lambda xp, a: xp.tanh(a),
    "isfinite": lambda xp, a: xp.isfinite(a),
    "clip": lambda xp, a: xp.clip(a, -0.5, 0.5),
    "operator -x": lambda _, a: -a,
    "operator 1 - x": lambda _, a: 1 - a,
    "operator 8.0 * x": lambda _, a: 8.0 * a,
    "operator x / 3.0": lambda _, a: a / 3.0,
    "operator x > 0": lambda _, a: a > 0,
    "operator x == x": lambda _, a: a == a,  # noqa: PLR0124
}
"""By name in `CALLS`, what is tried on every special value."""

BINARY: Mapping[str, Callable[[Namespace, Array, Array], Array]] = {
    "maximum": lambda xp, a, b: xp.maximum(a, b),
    "minimum": lambda xp, a, b: xp.minimum(a, b),
    "where": lambda xp, a, b: xp.where(a == a, b, a),  # noqa: PLR0124
    "operator x + p": lambda _, a, b: a + b,
    "operator x - p": lambda _, a, b: a - b,
    "operator x * p": lambda _, a, b: a * b,
    "operator x / p": lambda _, a, b: a / b,
    "operator x < p": lambda _, a, b: a < b,
}
"""By name in `CALLS`, what is tried on every pair of special values."""

_SIGNED_ZERO = ("abs", "sqrt", "tanh", "operator -x", "operator x * p")
"""Where the standard says which sign a zero has."""


def values(dtype: str) -> HostArray:
    """Return the special values of a dtype, those of bfloat16 in float32."""
    limits = float_limits(dtype)
    tiny, huge, eps = limits.smallest_normal, limits.max, limits.eps
    least = limits.smallest_subnormal
    found = np.asarray([0.0, least, tiny / 4, tiny, eps, 1.0, 1.0 + eps, huge, math.inf])
    return rounded(np.concatenate((found, -found, np.asarray([math.nan]))), dtype)


def special_values(backend: Backend) -> tuple[list[Row], tuple[str, ...]]:
    """Call the elementwise functions on special values, and compare with NumPy in the same dtype.

    NumPy has no bfloat16, and computes in float32, which has the same smallest normal number.
    The standard allows subnormal numbers to be taken for zero, so a function may return what NumPy
    returns for zeros there; and of two NaNs or two zeros either may be the larger.

    Returns
    -------
    rows : list of Row
        For each function that is wrong, one with the smallest input for which it is.
    notes : tuple of str
        Which functions take subnormal numbers for zero.
    """
    host = get_backend("numpy", dtype=host_float(backend.dtype_name))
    a = values(backend.dtype_name)
    left, right = (part.ravel() for part in np.meshgrid(a, a, indexing="ij"))
    rows, flushed = [], []
    calls: list[tuple[str, Callable[..., Array], tuple[HostArray, ...]]] = [
        *((name, call, (a,)) for name, call in UNARY.items()),
        *((name, call, (left, right)) for name, call in BINARY.items()),
    ]
    for name, call, given in calls:
        try:
            with np.errstate(all="ignore"):
                got = backend.to_numpy(call(backend.xp, *map(backend.asarray, given)))
        except MissingFunctionError:
            continue
        except Exception as error:
            what = f"{name} fails for special values: {in_words(error)}"
            trace = traceback_of(error)
            rows.append(Row("functions", math.inf, 0.0, what, name=name, trace=trace))
            continue
        exact = _agree(name, got, _called(call, host, given), backend.dtype_name)
        zeros = _agree(name, got, _called(call, host, map(_flushed, given)), backend.dtype_name)
        bad = np.flatnonzero(~(exact | zeros))
        if len(bad):
            at = int(bad[0])
            inputs = ", ".join(f"{float(part[at])!r}" for part in given)
            want = _called(call, host, given)[at].item()
            what = f"{name} of {inputs} is {got[at].item()!r}: expected {want!r}"
            rows.append(Row("functions", math.inf, 0.0, what, name=name))
        elif not np.all(exact):
            flushed.append(name.removeprefix("operator "))
    if not flushed:
        return rows, ()
    return rows, (f"takes subnormal numbers for zero: {', '.join(flushed)}",)


def _called(call: Callable[..., Any], host: Backend, given: Any) -> HostArray:
    with np.errstate(all="ignore"):
        return np.asarray(call(host.xp, *given))


def _flushed(a: HostArray) -> HostArray:
    small = np.abs(a) < np.finfo(a.dtype).smallest_normal
    return np.where(small, np.copysign(np.zeros_like(a), a), a)


def _agree(name: str, got: HostArray, want: HostArray, dtype: str) -> HostArray:
    """Return where two arrays agree: to rounding, and to a subnormal number near zero."""
    if want.dtype.kind != "f":
        return np.asarray(got == want)
    near = tolerance(dtype, 1)
    with np.errstate(all="ignore"):
        finite = np.isfinite(want) & np.isfinite(got)
        small = float(np.finfo(want.dtype).smallest_normal)
        wide = np.asarray(want, "float64"), np.asarray(got, "float64")
        close = np.abs(wide[0] - wide[1]) <= near * np.abs(wide[0]) + small
        same = np.where(finite, close, (got == want) | (np.isnan(got) & np.isnan(want)))
    if name in _SIGNED_ZERO:
        zero = (want == 0) & (got == 0)
        same &= ~zero | (np.signbit(want) == np.signbit(got))
    return np.asarray(same)
