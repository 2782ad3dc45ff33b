"""The derivatives of the standard's elementwise functions.

A rule takes the base library's namespace, the arguments and the value, and returns the partial
derivative with respect to every argument: an array, or 1, -1, or None for zero.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from xprnn.backend.types import Array, Namespace

Partial: TypeAlias = Any
UnaryRule: TypeAlias = Callable[[Namespace, Array, Array], Partial]
BinaryRule: TypeAlias = Callable[[Namespace, Array, Array, Array], tuple[Partial, Partial]]


def _chosen(xp: Namespace, first: Array, y: Array) -> tuple[Array, Array]:
    """Return 1 and 0 where the first argument was chosen, 0 and 1 elsewhere."""
    one = xp.astype(first, y.dtype)
    return one, 1 - one


def _same_sign(xp: Namespace, a: Array, y: Array) -> Array:
    return xp.where((a < 0) == (y < 0), xp.ones_like(y), -xp.ones_like(y))


UNARY: dict[str, UnaryRule] = {
    "negative": lambda xp, x, y: -1,
    "positive": lambda xp, x, y: 1,
    "abs": lambda xp, x, y: xp.sign(x),
    "square": lambda xp, x, y: 2 * x,
    "sqrt": lambda xp, x, y: 0.5 / y,
    "reciprocal": lambda xp, x, y: -(y * y),
    "exp": lambda xp, x, y: y,
    "expm1": lambda xp, x, y: y + 1,
    "log": lambda xp, x, y: 1 / x,
    "log1p": lambda xp, x, y: 1 / (1 + x),
    "log2": lambda xp, x, y: (1 / math.log(2)) / x,
    "log10": lambda xp, x, y: (1 / math.log(10)) / x,
    "sin": lambda xp, x, y: xp.cos(x),
    "cos": lambda xp, x, y: -xp.sin(x),
    "tan": lambda xp, x, y: 1 + y * y,
    "asin": lambda xp, x, y: 1 / xp.sqrt((1 - x) * (1 + x)),
    "acos": lambda xp, x, y: -1 / xp.sqrt((1 - x) * (1 + x)),
    "atan": lambda xp, x, y: 1 / (1 + x * x),
    "sinh": lambda xp, x, y: xp.cosh(x),
    "cosh": lambda xp, x, y: xp.sinh(x),
    "tanh": lambda xp, x, y: 1 - y * y,
    "asinh": lambda xp, x, y: 1 / xp.sqrt(1 + x * x),
    "acosh": lambda xp, x, y: 1 / xp.sqrt((x - 1) * (x + 1)),
    "atanh": lambda xp, x, y: 1 / ((1 - x) * (1 + x)),
    # Constant between their jumps.
    "sign": lambda xp, x, y: None,
    "floor": lambda xp, x, y: None,
    "ceil": lambda xp, x, y: None,
    "trunc": lambda xp, x, y: None,
    "round": lambda xp, x, y: None,
}

BINARY: dict[str, BinaryRule] = {
    "add": lambda xp, a, b, y: (1, 1),
    "subtract": lambda xp, a, b, y: (1, -1),
    "multiply": lambda xp, a, b, y: (b, a),
    "divide": lambda xp, a, b, y: (1 / b, -y / b),
    "hypot": lambda xp, a, b, y: (a / y, b / y),
    "atan2": lambda xp, a, b, y: (b / (a * a + b * b), -a / (a * a + b * b)),
    "logaddexp": lambda xp, a, b, y: (xp.exp(a - y), xp.exp(b - y)),
    # At a tie the derivative is that of the second argument: zero for relu, max(x, 0).
    "maximum": lambda xp, a, b, y: _chosen(xp, a > b, y),
    "minimum": lambda xp, a, b, y: _chosen(xp, a < b, y),
    "copysign": lambda xp, a, b, y: (_same_sign(xp, a, y), None),
    "remainder": lambda xp, a, b, y: (1, -xp.floor(a / b)),
    "floor_divide": lambda xp, a, b, y: (None, None),
    "nextafter": lambda xp, a, b, y: (1, None),
}

JUMPS: dict[str, Callable[[Namespace, Array], Array]] = {
    "abs": lambda xp, x: x == 0,
    "sign": lambda xp, x: x == 0,
    "sqrt": lambda xp, x: x == 0,
    "floor": lambda xp, x: x == xp.floor(x),
    "ceil": lambda xp, x: x == xp.floor(x),
    "trunc": lambda xp, x: (x == xp.floor(x)) & (x != 0),
    "round": lambda xp, x: 2 * xp.abs(x - xp.trunc(x)) == 1,
}
"""Of the functions with kinks or jumps: where they are."""

TIES = frozenset(
    ("maximum", "minimum", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
)
"""Functions that choose between two arguments, and have no derivative where these are equal."""
