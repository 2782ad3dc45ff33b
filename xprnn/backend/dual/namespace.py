"""The functions of the array API standard on dual arrays."""

from types import ModuleType
from typing import Any

from xprnn.backend.dual import kinks
from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.rules import BINARY, TIES, UNARY
from xprnn.backend.dual.shapes import Shapes
from xprnn.backend.dual.wrapping import Axis, aligned, moved, moved_axes, only_axis


class DualNamespace(Shapes):
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
        axis = only_axis(a, axis)
        y = self.xp.cumulative_sum(a, axis=axis, **options)
        along = moved(axis)
        return DualArray(
            self, y, None if t is None else self.xp.cumulative_sum(t, axis=along, **options)
        )

    def _reduced(self, name: str, x: object, axis: Axis, options: dict[str, Any]) -> DualArray:
        """Apply a linear reduction."""
        a, t = self.part(x)
        given = {key: value for key, value in options.items() if value is not None}
        function = getattr(self.xp, name)
        y = function(a, axis=axis, **given)
        if t is None:
            return DualArray(self, y)
        return DualArray(self, y, function(t, axis=moved_axes(axis, a.ndim), **given))

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
        along = moved_axes(axis, a.ndim)
        return DualArray(self, y, xp.sum(t * weight, axis=along, keepdims=keepdims))

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
        t = None if ta is None else aligned(self.xp, ta, y.ndim) @ b
        if tb is not None:
            share = a @ aligned(self.xp, tb, y.ndim)
            t = share if t is None else t + share
        return self.wrapped(y, t)

    def vecdot(self, x1: object, x2: object, /, *, axis: int = -1) -> Any:
        return self.sum(self.binary("multiply", x1, x2), axis=axis)
