"""The functions of the array API standard on dual arrays.

A tangent has one more axis than its value, in front, for the K directions.  So most functions are
applied to a tangent as they are to a value, with the axes that count from the front moved by one.
"""

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from xprnn.backend.dual import kinks
from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.rules import BINARY, JUMPS, TIES, UNARY
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array, Namespace

Axis = int | tuple[int, ...] | None

_COMPARISONS = "equal not_equal less less_equal greater greater_equal isfinite isinf isnan signbit"
_LOGIC = "logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor"
_SEARCHES = "all any argmax argmin argsort count_nonzero nonzero searchsorted bitwise_invert"
_OTHERS = "zeros_like ones_like full_like empty_like isdtype result_type can_cast"
_WITHOUT = frozenset(f"{_COMPARISONS} {_LOGIC} {_SEARCHES} {_OTHERS}".split())
"""Functions whose results do not change with small changes of their arguments."""


class Part(NamedTuple):
    """A value and its tangent: what the rules compute with."""

    value: Array
    tangent: Array | None


class DualNamespace:
    """A namespace of the standard whose functions take and return dual arrays.

    A function that has no rule here is called as it is if none of its arguments has a tangent, and
    refused with its name otherwise.

    Parameters
    ----------
    xp : namespace
        Of the library that computes.
    is_array : callable
        Whether an object is an array of that library.
    to_host : callable
        Brings such an array to the host.
    library : object
        What `xprnn.backend.registry.find_library` returns for these arrays.
    """

    def __init__(
        self,
        xp: Namespace,
        is_array: Callable[[object], bool],
        to_host: Callable[[Array], HostArray],
        library: Any,
    ) -> None:
        self.xp, self.is_array, self.to_host, self.library = xp, is_array, to_host, library

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array_namespace_info__":
            raise AttributeError(name)
        found = getattr(self.xp, name)
        if name in UNARY:
            return lambda x: self.unary(name, x)
        if name in BINARY or name in TIES:
            return lambda a, b: self.binary(name, a, b)
        if isinstance(found, ModuleType):
            raise TypeError(f"xp.{name} has no derivatives here")
        if isinstance(found, type) or not callable(found):
            return found
        return lambda *args, **kwargs: self._without(name, found, args, kwargs)

    # Wrapping

    def constant(self, value: Array) -> DualArray:
        """Return an array that does not change along any direction."""
        return DualArray(self, value)

    def part(self, a: object) -> Part:
        """Return value and tangent of a dual array, an array or a number."""
        if isinstance(a, DualArray):
            return Part(a.value, a.tangent)
        return Part(a, None)

    def wrapped(self, value: Any, tangent: Array | None = None) -> DualArray:
        """Return a dual array, its tangent brought to the full shape."""
        if tangent is not None:
            shape = (tangent.shape[0], *value.shape)
            if tuple(tangent.shape) != shape:
                tangent = self.xp.broadcast_to(_aligned(self.xp, tangent, value.ndim), shape)
        return DualArray(self, value, tangent)

    def _without(
        self, name: str, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Call a function whose result has no tangent."""
        if name not in _WITHOUT and (_varies(args) or _varies(tuple(kwargs.values()))):
            raise TypeError(f"xp.{name} has no rule for its derivative")
        found = function(*_bare(args), **{key: _bare(value) for key, value in kwargs.items()})
        return self._wrap(found)

    def _wrap(self, found: Any) -> Any:
        if self.is_array(found):
            return DualArray(self, found)
        if isinstance(found, tuple) and hasattr(found, "_fields"):
            return type(found)(*map(self._wrap, found))
        return type(found)(map(self._wrap, found)) if isinstance(found, tuple | list) else found

    # Elementwise functions

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
        if name == "matmul":
            return self.matmul(left, right)
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
        ta, tb = (None if t is None else _aligned(xp, t, y.ndim) for t in (ta, tb))
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

    # Sums and the like

    # The standard's names for the functions.
    def sum(
        self, x: object, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False
    ) -> Any:
        return self._reduced("sum", x, axis, {"dtype": dtype, "keepdims": keepdims})

    def mean(self, x: object, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
        return self._reduced("mean", x, axis, {"keepdims": keepdims})

    def max(self, x: object, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
        return self._extreme("max", x, axis, keepdims=keepdims)

    def min(self, x: object, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
        return self._extreme("min", x, axis, keepdims=keepdims)

    def var(
        self, x: object, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
    ) -> Any:
        centred = self.binary("subtract", x, self.mean(x, axis=axis, keepdims=True))
        total = self.sum(centred * centred, axis=axis, keepdims=keepdims)
        count = centred.size / max(1, total.size)
        return total / (count - correction)

    def std(
        self, x: object, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
    ) -> Any:
        return self.unary("sqrt", self.var(x, axis=axis, correction=correction, keepdims=keepdims))

    def cumulative_sum(self, x: object, /, *, axis: int | None = None, **options: Any) -> Any:
        a, t = self.part(x)
        axis = _only_axis(a, axis)
        y = self.xp.cumulative_sum(a, axis=axis, **options)
        moved = _moved(axis)
        return DualArray(
            self, y, None if t is None else self.xp.cumulative_sum(t, axis=moved, **options)
        )

    def _reduced(self, name: str, x: object, axis: Axis, options: dict[str, Any]) -> DualArray:
        """Apply a linear reduction."""
        a, t = self.part(x)
        given = {key: value for key, value in options.items() if value is not None}
        function = getattr(self.xp, name)
        y = function(a, axis=axis, **given)
        if t is None:
            return DualArray(self, y)
        return DualArray(self, y, function(t, axis=_moved_axes(axis, a.ndim), **given))

    def _extreme(self, name: str, x: object, axis: Axis, *, keepdims: bool) -> DualArray:
        xp, (a, t) = self.xp, self.part(x)
        function = getattr(xp, name)
        y = function(a, axis=axis, keepdims=keepdims)
        if t is None:
            return DualArray(self, y)
        hit = a == function(a, axis=axis, keepdims=True)
        if kinks.wanted():
            share = xp.astype(hit, a.dtype)
            several = xp.sum(share, axis=axis, keepdims=True) > 1
            self._note(name, hit & several & (t != 0))
        # At a tie the mean of the tied entries' derivatives.
        weight = xp.astype(hit, a.dtype)
        weight = weight / xp.sum(weight, axis=axis, keepdims=True)
        moved = _moved_axes(axis, a.ndim)
        return DualArray(self, y, xp.sum(t * weight, axis=moved, keepdims=keepdims))

    # Products

    def matmul(self, x1: object, x2: object) -> DualArray:
        (a, ta), (b, tb) = self.part(x1), self.part(x2)
        y = a @ b
        if ta is None and tb is None:
            return DualArray(self, y)
        if a.ndim == 1 or b.ndim == 1:
            # As one row, or one column, whose axis the product loses.
            rows = self.reshape(x1, (1, *a.shape)) if a.ndim == 1 else x1
            columns = self.reshape(x2, (*b.shape, 1)) if b.ndim == 1 else x2
            return self.reshape(self.matmul(rows, columns), tuple(y.shape))
        t = None if ta is None else _aligned(self.xp, ta, y.ndim) @ b
        if tb is not None:
            share = a @ _aligned(self.xp, tb, y.ndim)
            t = share if t is None else t + share
        return self.wrapped(y, t)

    def matrix_transpose(self, x: object) -> DualArray:
        ndim = self.part(x).value.ndim
        return self.permute_dims(x, (*range(ndim - 2), ndim - 1, ndim - 2))

    def vecdot(self, x1: object, x2: object, /, *, axis: int = -1) -> Any:
        return self.sum(self.binary("multiply", x1, x2), axis=axis)

    # Shapes and places

    def reshape(self, x: object, /, shape: Sequence[int], *, copy: bool | None = None) -> DualArray:
        del copy
        a, t = self.part(x)
        y = self.xp.reshape(a, tuple(shape))
        if t is None:
            return DualArray(self, y)
        return DualArray(self, y, self.xp.reshape(t, (t.shape[0], *y.shape)))

    def broadcast_to(self, x: object, /, shape: Sequence[int]) -> DualArray:
        a, t = self.part(x)
        return self.wrapped(self.xp.broadcast_to(a, tuple(shape)), t)

    def broadcast_arrays(self, *arrays: object) -> list[DualArray]:
        values = self.xp.broadcast_arrays(*(self.part(a).value for a in arrays))
        return [self.wrapped(y, self.part(a).tangent) for y, a in zip(values, arrays, strict=True)]

    def expand_dims(self, x: object, /, *, axis: int = 0) -> DualArray:
        return self._linear(
            x,
            lambda a: self.xp.expand_dims(a, axis=axis),
            lambda t: self.xp.expand_dims(t, axis=_moved(axis)),
        )

    def squeeze(self, x: object, /, axis: Axis) -> DualArray:
        a = self.part(x).value
        return self._linear(
            x,
            lambda a: self.xp.squeeze(a, axis=axis),
            lambda t: self.xp.squeeze(t, axis=_moved_axes(axis, a.ndim)),
        )

    def permute_dims(self, x: object, /, axes: Sequence[int]) -> DualArray:
        ndim = self.part(x).value.ndim
        return self._linear(
            x,
            lambda a: self.xp.permute_dims(a, tuple(axes)),
            lambda t: self.xp.permute_dims(t, (0, *(axis % ndim + 1 for axis in axes))),
        )

    def moveaxis(self, x: object, source: Axis, destination: Axis, /) -> DualArray:
        ndim = self.part(x).value.ndim
        return self._linear(
            x,
            lambda a: self.xp.moveaxis(a, source, destination),
            lambda t: self.xp.moveaxis(
                t, _moved_axes(source, ndim), _moved_axes(destination, ndim)
            ),
        )

    def flip(self, x: object, /, *, axis: Axis = None) -> DualArray:
        ndim = self.part(x).value.ndim
        return self._linear(
            x,
            lambda a: self.xp.flip(a, axis=axis),
            lambda t: self.xp.flip(t, axis=_moved_axes(axis, ndim)),
        )

    def roll(self, x: object, /, shift: Any, *, axis: Axis = None) -> DualArray:
        ndim = self.part(x).value.ndim
        if axis is None:
            raise TypeError("xp.roll without an axis has no rule for its derivative")
        return self._linear(
            x,
            lambda a: self.xp.roll(a, shift, axis=axis),
            lambda t: self.xp.roll(t, shift, axis=_moved_axes(axis, ndim)),
        )

    def tril(self, x: object, /, *, k: int = 0) -> DualArray:
        return self._linear(x, lambda a: self.xp.tril(a, k=k))

    def triu(self, x: object, /, *, k: int = 0) -> DualArray:
        return self._linear(x, lambda a: self.xp.triu(a, k=k))

    def concat(self, arrays: Sequence[object], /, *, axis: int | None = 0) -> DualArray:
        if axis is None:
            arrays = [self.reshape(a, (-1,)) for a in arrays]
        return self._joined("concat", arrays, axis or 0)

    def stack(self, arrays: Sequence[object], /, *, axis: int = 0) -> DualArray:
        return self._joined("stack", arrays, axis)

    def _joined(self, name: str, arrays: Sequence[object], axis: int) -> DualArray:
        parts = [self.part(a) for a in arrays]
        function = getattr(self.xp, name)
        y = function([part.value for part in parts], axis=axis)
        width = next((p.tangent.shape[0] for p in parts if p.tangent is not None), None)
        if width is None:
            return DualArray(self, y)
        return DualArray(
            self, y, function([self.full_tangent(p, width) for p in parts], axis=_moved(axis))
        )

    def unstack(self, x: object, /, *, axis: int = 0) -> tuple[DualArray, ...]:
        a, t = self.part(x)
        values = self.xp.unstack(a, axis=axis)
        tangents = [None] * len(values) if t is None else self.xp.unstack(t, axis=_moved(axis))
        return tuple(DualArray(self, y, d) for y, d in zip(values, tangents, strict=True))

    def take(self, x: object, indices: object, /, *, axis: int | None = None) -> DualArray:
        (a, t), at = self.part(x), self.part(indices).value
        axis = _only_axis(a, axis)
        y = self.xp.take(a, at, axis=axis)
        return DualArray(self, y, None if t is None else self.xp.take(t, at, axis=_moved(axis)))

    def take_along_axis(self, x: object, indices: object, /, *, axis: int = -1) -> DualArray:
        xp, (a, t), at = self.xp, self.part(x), self.part(indices).value
        y = xp.take_along_axis(a, at, axis=axis)
        if t is None:
            return DualArray(self, y)
        each = xp.broadcast_to(at[None, ...], (t.shape[0], *at.shape))
        return DualArray(self, y, xp.take_along_axis(t, each, axis=_moved(axis)))

    def sort(self, x: object, /, *, axis: int = -1, **options: Any) -> DualArray:
        a = self.part(x).value
        return self.take_along_axis(x, self.xp.argsort(a, axis=axis, **options), axis=axis)

    # Parts of these

    def full_tangent(self, part: Part, width: int) -> Array:
        """Return the tangent, zeros if there is none."""
        if part.tangent is not None:
            return part.tangent
        zeros = self.xp.zeros_like(part.value)[None, ...]
        return self.xp.broadcast_to(zeros, (width, *part.value.shape))

    def _linear(
        self,
        x: object,
        function: Callable[[Array], Array],
        of_tangent: Callable[[Array], Array] | None = None,
    ) -> DualArray:
        a, t = self.part(x)
        if t is None:
            return DualArray(self, function(a))
        return DualArray(self, function(a), (of_tangent or function)(t))

    def _sum(self, ndim: int, *pairs: tuple[Array | None, Any]) -> Array | None:
        """Return the sum of tangents times partial derivatives."""
        total = None
        for tangent, partial in pairs:
            if tangent is None or partial is None:
                continue
            share = _times(_aligned(self.xp, tangent, ndim), partial)
            total = share if total is None else total + share
        return total

    def _note_tie(self, name: str, left: Any, right: Any, ndim: int) -> None:
        (a, ta), (b, tb) = left, right
        ta, tb = (None if t is None else _aligned(self.xp, t, ndim) for t in (ta, tb))
        moves = (ta != 0) if tb is None else (tb != 0) if ta is None else (ta != tb)
        self._note(name, (a == b) & moves)

    def _note(self, name: str, at: Array) -> None:
        kinks.note(name, self.to_host(at))


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


def _aligned(xp: Namespace, tangent: Array, ndim: int) -> Array:
    """Return a tangent with axes of length 1 after its first, for a value of ``ndim`` axes."""
    missing = ndim + 1 - tangent.ndim
    if missing <= 0:
        return tangent
    width, *shape = tangent.shape
    return xp.reshape(tangent, (width, *(1,) * missing, *shape))


def _moved(axis: int) -> int:
    return axis + 1 if axis >= 0 else axis


def _moved_axes(axis: Axis, ndim: int) -> Any:
    if axis is None:
        return tuple(range(1, ndim + 1))
    return tuple(map(_moved, axis)) if isinstance(axis, tuple) else _moved(axis)


def _only_axis(a: Array, axis: int | None) -> int:
    """Return an axis, which may be left out if there is only one."""
    if axis is None and a.ndim != 1:
        raise ValueError(f"an array of {a.ndim} axes: expected the argument axis")
    return 0 if axis is None else axis


def _is_array(a: object) -> bool:
    return hasattr(a, "shape")


def _varies(args: Any) -> bool:
    if isinstance(args, tuple | list):
        return any(map(_varies, args))
    return isinstance(args, DualArray) and args.tangent is not None


def _bare(args: Any) -> Any:
    if isinstance(args, tuple | list):
        return type(args)(map(_bare, args))
    return args.value if isinstance(args, DualArray) else args
