"""Wrapping and unwrapping: what all functions on dual arrays share.

A tangent has one more axis than its value, in front, for the K directions.  So most functions are
applied to a tangent as they are to a value, with the axes that count from the front moved by one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend.dual import kinks
from xprnn.backend.dual.array import DualArray
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array, Namespace

Axis: TypeAlias = int | tuple[int, ...] | None

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


class Wrapping:
    """Between dual arrays and their values and tangents; see `DualNamespace` for the parameters."""

    def __init__(
        self,
        xp: Namespace,
        is_array: Callable[[object], bool],
        to_host: Callable[[Array], HostArray],
        library: Any,
    ) -> None:
        self.xp, self.is_array, self.to_host, self.library = xp, is_array, to_host, library

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
                tangent = self.xp.broadcast_to(aligned(self.xp, tangent, value.ndim), shape)
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

    def _note(self, name: str, at: Array) -> None:
        kinks.note(name, self.to_host(at))


def aligned(xp: Namespace, tangent: Array, ndim: int) -> Array:
    """Return a tangent with axes of length 1 after its first, for a value of ``ndim`` axes."""
    missing = ndim + 1 - tangent.ndim
    if missing <= 0:
        return tangent
    width, *shape = tangent.shape
    return xp.reshape(tangent, (width, *(1,) * missing, *shape))


def moved(axis: int) -> int:
    """Return the axis of a tangent for an axis of its value."""
    return axis + 1 if axis >= 0 else axis


def moved_axes(axis: Axis, ndim: int) -> Any:
    """Return the axes of a tangent for those of its value; for None, all but the first."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    return tuple(map(moved, axis)) if isinstance(axis, tuple) else moved(axis)


def only_axis(a: Array, axis: int | None) -> int:
    """Return an axis, which may be left out if there is only one."""
    if axis is None and a.ndim != 1:
        raise ValueError(f"an array of {a.ndim} axes: expected the argument axis")
    return 0 if axis is None else axis


def _varies(args: Any) -> bool:
    if isinstance(args, tuple | list):
        return any(map(_varies, args))
    return isinstance(args, DualArray) and args.tangent is not None


def _bare(args: Any) -> Any:
    if isinstance(args, tuple | list):
        return type(args)(map(_bare, args))
    return args.value if isinstance(args, DualArray) else args
