"""Functions that move the entries of dual arrays: shapes, axes, joining, places."""

from collections.abc import Sequence
from typing import Any

from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.elementwise import Elementwise
from xprnn.backend.dual.wrapping import Axis, moved, moved_axes, only_axis


class Shapes(Elementwise):
    """The functions that compute nothing."""

    def matrix_transpose(self, x: object) -> DualArray:
        ndim = self.part(x).value.ndim
        return self.permute_dims(x, (*range(ndim - 2), ndim - 1, ndim - 2))

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
            lambda t: self.xp.expand_dims(t, axis=moved(axis)),
        )

    def squeeze(self, x: object, /, axis: Axis) -> DualArray:
        a = self.part(x).value
        return self._linear(
            x,
            lambda a: self.xp.squeeze(a, axis=axis),
            lambda t: self.xp.squeeze(t, axis=moved_axes(axis, a.ndim)),
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
            lambda t: self.xp.moveaxis(t, moved_axes(source, ndim), moved_axes(destination, ndim)),
        )

    def flip(self, x: object, /, *, axis: Axis = None) -> DualArray:
        ndim = self.part(x).value.ndim
        return self._linear(
            x,
            lambda a: self.xp.flip(a, axis=axis),
            lambda t: self.xp.flip(t, axis=moved_axes(axis, ndim)),
        )

    def roll(self, x: object, /, shift: Any, *, axis: Axis = None) -> DualArray:
        ndim = self.part(x).value.ndim
        if axis is None:
            raise TypeError("xp.roll without an axis has no rule for its derivative")
        return self._linear(
            x,
            lambda a: self.xp.roll(a, shift, axis=axis),
            lambda t: self.xp.roll(t, shift, axis=moved_axes(axis, ndim)),
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
            self, y, function([self.full_tangent(p, width) for p in parts], axis=moved(axis))
        )

    def unstack(self, x: object, /, *, axis: int = 0) -> tuple[DualArray, ...]:
        a, t = self.part(x)
        values = self.xp.unstack(a, axis=axis)
        tangents = [None] * len(values) if t is None else self.xp.unstack(t, axis=moved(axis))
        return tuple(DualArray(self, y, d) for y, d in zip(values, tangents, strict=True))

    def take(self, x: object, indices: object, /, *, axis: int | None = None) -> DualArray:
        (a, t), at = self.part(x), self.part(indices).value
        axis = only_axis(a, axis)
        y = self.xp.take(a, at, axis=axis)
        return DualArray(self, y, None if t is None else self.xp.take(t, at, axis=moved(axis)))

    def take_along_axis(self, x: object, indices: object, /, *, axis: int = -1) -> DualArray:
        xp, (a, t), at = self.xp, self.part(x), self.part(indices).value
        y = xp.take_along_axis(a, at, axis=axis)
        if t is None:
            return DualArray(self, y)
        each = xp.broadcast_to(at[None, ...], (t.shape[0], *at.shape))
        return DualArray(self, y, xp.take_along_axis(t, each, axis=moved(axis)))

    def sort(self, x: object, /, *, axis: int = -1, **options: Any) -> DualArray:
        a = self.part(x).value
        return self.take_along_axis(x, self.xp.argsort(a, axis=axis, **options), axis=axis)
