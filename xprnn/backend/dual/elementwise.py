"""Elementwise functions on dual arrays, by the rules of `xprnn.backend.dual.rules`."""

import math
from collections.abc import Callable
from typing import Any

from xprnn.backend.dual import kinks
from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.rules import BINARY, JUMPS, TIES, UNARY
from xprnn.backend.dual.wrapping import Wrapping, aligned
from xprnn.backend.types import Array


class Elementwise(Wrapping):
    """The elementwise functions."""

    def unary(self, name: str, x: object) -> DualArray:
        """Apply an elementwise function of one argument."""
        a, t = self.part(x)
        y = -a if name == "negative" else getattr(self.xp, name)(a)
        if t is None:
            return DualArray(self, y)
        if name in JUMPS and kinks.wanted():
            self._note(name, JUMPS[name](self.xp, a) & (t != 0))
        return self.wrapped(y, _times(t, UNARY[name](self.xp, a, y)))

    def binary(self, name: str, left: object, right: object) -> DualArray:
        """Apply an operator, or an elementwise function of two arguments."""
        if name == "pow":
            return self.pow(left, right)
        (a, ta), (b, tb) = self.part(left), self.part(right)
        y = _OPERATORS[name](a, b) if name in _OPERATORS else getattr(self.xp, name)(a, b)
        if ta is None and tb is None:
            return DualArray(self, y)
        if name in TIES and kinks.wanted():
            self._note_tie(name, (a, ta), (b, tb), y.ndim)
        if name not in BINARY:
            return DualArray(self, y)
        of_a, of_b = BINARY[name](self.xp, a, b, y)
        return self.wrapped(y, self._sum(y.ndim, (ta, of_a), (tb, of_b)))

    def pow(self, left: object, right: object) -> DualArray:
        xp, (a, ta), (b, tb) = self.xp, self.part(left), self.part(right)
        y = a**b
        of_a = None if ta is None else b * a ** (b - 1)
        of_b = None
        if tb is not None:
            of_b = y * (xp.log(a) if hasattr(a, "shape") else math.log(a))
        return self.wrapped(y, self._sum(y.ndim, (ta, of_a), (tb, of_b)))

    def where(self, condition: object, x1: object, x2: object) -> DualArray:
        xp, chosen = self.xp, self.part(condition).value
        (a, ta), (b, tb) = self.part(x1), self.part(x2)
        y = xp.where(chosen, a, b)
        if ta is None and tb is None:
            return DualArray(self, y)
        ta, tb = (None if t is None else aligned(xp, t, y.ndim) for t in (ta, tb))
        one = ta if ta is not None else xp.zeros_like(tb)
        other = tb if tb is not None else xp.zeros_like(ta)
        return self.wrapped(y, xp.where(chosen, one, other))

    # The standard's names for the arguments.
    def clip(self, x: object, /, min: object = None, max: object = None) -> Any:  # noqa: A002
        if min is not None:
            x = self.binary("maximum", x, min) if _is_array(min) else self._limited(x, min, 1)
        if max is not None:
            x = self.binary("minimum", x, max) if _is_array(max) else self._limited(x, max, -1)
        return x

    def _limited(self, x: object, limit: object, side: int) -> DualArray:
        a, t = self.part(x)
        y = self.xp.clip(a, limit, None) if side > 0 else self.xp.clip(a, None, limit)
        if t is None:
            return DualArray(self, y)
        if kinks.wanted():
            self._note("clip", (a == limit) & (t != 0))
        inside = a > limit if side > 0 else a < limit
        return self.wrapped(y, self.xp.where(inside, t, self.xp.zeros_like(t)))

    def astype(self, x: object, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        del device
        xp, (a, t) = self.xp, self.part(x)
        y = xp.astype(a, dtype, copy=copy)
        if t is not None and not xp.isdtype(y.dtype, "real floating"):
            t = None
        return DualArray(self, y, None if t is None else xp.astype(t, dtype, copy=copy))

    def asarray(
        self, obj: object, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> Any:
        xp, options = self.xp, {"dtype": dtype, "device": device, "copy": copy}
        given = {name: value for name, value in options.items() if value is not None}
        a, t = self.part(obj)
        y = xp.asarray(a, **given)
        if t is not None and not xp.isdtype(y.dtype, "real floating"):
            t = None
        return DualArray(self, y, None if t is None else xp.asarray(t, **given))

    def _sum(self, ndim: int, *pairs: tuple[Array | None, Any]) -> Array | None:
        """Return the sum of tangents times partial derivatives."""
        total = None
        for tangent, partial in pairs:
            if tangent is None or partial is None:
                continue
            share = _times(aligned(self.xp, tangent, ndim), partial)
            total = share if total is None else total + share
        return total

    def _note_tie(self, name: str, left: Any, right: Any, ndim: int) -> None:
        (a, ta), (b, tb) = left, right
        ta, tb = (None if t is None else aligned(self.xp, t, ndim) for t in (ta, tb))
        moves = (ta != 0) if tb is None else (tb != 0) if ta is None else (ta != tb)
        self._note(name, (a == b) & moves)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "floor_divide": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
}
"""Operators take Python numbers on either side, which not all libraries' functions do."""


def _times(tangent: Array, partial: Any) -> Array | None:
    if partial is None:
        return None
    if isinstance(partial, int) and abs(partial) == 1:
        return tangent if partial == 1 else -tangent
    return tangent * partial


def _is_array(a: object) -> bool:
    return hasattr(a, "shape")
