"""The elementwise functions of a `Program` in CUDA C.

In a template, ``{0}``, ``{1}``, ... stand for the operands, each a local variable or a literal, and
``{f}`` for the suffix ``f`` where arithmetic is in float32: functions of doubles can be sixty times
slower on a device, so none is called there.  NaN, signs and ties follow the array API standard.
"""

from xprnn.backend.cuda.precision import HEAD, PRECISIONS, Precision, access
from xprnn.backend.host.arrays import np
from xprnn.backend.host.floats import rounded
from xprnn.engine.loop.program import BOOL, Node

__all__ = ["EXPRESSIONS", "PRECISIONS", "Precision", "expression", "literal", "prelude"]

_SAME_NAME = (
    *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "ceil", "floor", "trunc"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
    *("asinh", "acosh", "atanh"),
)

EXPRESSIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "pow": "pow{f}({0}, {1})",
    "floor_divide": "floor_divide({0}, {1})",
    "remainder": "modulo({0}, {1})",
    # The first operand if it is NaN; the second if that is NaN, because then no comparison is true.
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "atan2": "atan2{f}({0}, {1})",
    "hypot": "hypot{f}({0}, {1})",
    "logaddexp": "logaddexp({0}, {1})",
    "copysign": "copysign{f}({0}, {1})",
    "nextafter": "next_after({0}, {1})",
    "negative": "-{0}",
    "positive": "{0}",
    "abs": "fabs{f}({0})",
    "sign": "{0} > 0 ? 1 : {0} < 0 ? -1 : {0} == 0 ? 0 : {0}",
    "square": "{0} * {0}",
    "reciprocal": "1 / {0}",
    # Ties to even.
    "round": "rint{f}({0})",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    # Infinity minus infinity is NaN, and NaN equals nothing.
    "isfinite": "{0} - {0} == 0",
    "isinf": "{0} == {0} && {0} - {0} != 0",
    "isnan": "{0} != {0}",
    "signbit": "copysign{f}((real)1, {0}) < 0",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "{0} != {1}",
    "logical_not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "astype": "{0} ? 1 : 0",
} | {name: f"{name}{{f}}({{0}})" for name in _SAME_NAME}
"""The template of every operation."""

# As in NumPy: from the remainder, because rounding a rounded quotient may give another integer.
_FLOOR_DIVIDE = """real floor_divide(real a, real b) {
    if (b == 0) return a / b;
    const real m = fmod{f}(a, b);
    real q = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) q -= 1;
    if (q == 0) return copysign{f}((real)0, a / b);
    const real n = floor{f}(q);
    return q - n > (real)0.5 ? n + 1 : n;
}
"""

_MODULO = """real modulo(real a, real b) {
    const real m = fmod{f}(a, b);
    if (m == 0) return copysign{f}((real)0, b);
    return b != 0 && (b < 0) != (m < 0) ? m + b : m;
}
"""

_LOGADDEXP = """real logaddexp(real a, real b) {
    if (a == b) return a + (real)0.6931471805599453;
    const real d = a - b;
    return d > 0 ? a + log1p{f}(exp{f}(-d)) : d <= 0 ? b + log1p{f}(exp{f}(d)) : d;
}
"""

_NEXT_AFTER = """real next_after(real a, real b) { return nextafter{f}(a, b); }
"""

# The neighbour in 16 bits, by its bit pattern.
_NEXT_HALF = """real next_after(real a, real b) {
    if (a != a || b != b) return a + b;
    if (a == b) return b;
    unsigned short bits = 0;
    store(&bits, 0, a);
    if (a == 0) bits = b > 0 ? 0x0001 : 0x8001;
    else bits += (a < b) == (a > 0) ? 1 : -1;
    return load(&bits, 0);
}
"""


def prelude(precision: Precision, ops: set[str]) -> str:
    """Return the types, and the functions that these operations call."""
    helpers = {
        "floor_divide": _FLOOR_DIVIDE,
        "remainder": _MODULO,
        "logaddexp": _LOGADDEXP,
        "nextafter": _NEXT_HALF if precision.half else _NEXT_AFTER,
    }
    parts = [
        access(precision),
        *(
            HEAD + text.replace("{f}", precision.suffix)
            for op, text in helpers.items()
            if op in ops
        ),
    ]
    return "".join(parts)


def expression(op: str, operands: list[str], precision: Precision) -> str:
    """Return the expression that computes an operation."""
    return EXPRESSIONS[op].format(*operands, f=precision.suffix)


def literal(node: Node, precision: Precision) -> str:
    """Return a constant, rounded as in an array of the dtype."""
    if node.kind == BOOL:
        return "true" if node.value else "false"
    suffix = precision.suffix
    with np.errstate(over="ignore"):
        value = float(rounded(np.asarray(node.value), precision.dtype))
    if np.isnan(value):
        return f"(0.0{suffix} / 0.0{suffix})"
    if np.isinf(value):
        return f"({'-' if value < 0 else ''}1.0{suffix} / 0.0{suffix})"
    return f"({value!r}{suffix})" if np.signbit(value) else f"{value!r}{suffix}"
