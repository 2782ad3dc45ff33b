"""Any library's arrays, with tangents: the library that computes exact directional derivatives."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.namespace import DualNamespace
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, DType, Namespace


class Dual(Library):
    """The dual arrays of a library; see `xprnn.backend.dual`.

    What the library has faster than the standard, it does on values and tangents.

    Parameters
    ----------
    base : Library
    """

    def __init__(self, base: Library) -> None:
        self.base = base
        self.name, self.module = f"dual {base.name}", base.module
        self.install, self.synchronous = base.install, base.synchronous
        xp = base.namespace()
        self.xp = DualNamespace(xp, base.is_array, base.to_host, self)

    def namespace(self) -> Namespace:
        return self.xp

    def is_array(self, a: object) -> bool:
        return isinstance(a, DualArray) and a.space.library is self

    def device(self, spec: object) -> Device:
        return self.base.device(spec)

    def devices(self) -> tuple[str, ...]:
        return self.base.devices()

    def device_of(self, a: Array) -> Device:
        return self.base.device_of(a.value)

    def device_name(self, device: Device) -> str:
        return self.base.device_name(device)

    def from_host(self, a: HostArray, device: Device) -> Array:
        return self.xp.constant(self.base.from_host(a, device))

    def to_host(self, a: Array) -> HostArray:
        return self.base.to_host(a.value)

    def synchronize(self, result: object = None) -> None:
        self.base.synchronize(result)

    def quiet(self) -> AbstractContextManager[object]:
        return self.base.quiet()

    def step_products(self, batch: int, U: Array) -> AbstractContextManager[object]:
        return self.base.step_products(batch, U.value)

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        return self.xp.constant(self.base.zeros(shape, dtype, device))

    def copy(self, a: Array) -> Array:
        return self._mapped(a, self.base.copy)

    def all_finite(self, a: Array) -> bool:
        return self.base.all_finite(a.value)

    def product(self, a: Array, b: Array, row: Array | None = None) -> Array:
        if a.tangent is None and b.tangent is None and (row is None or row.tangent is None):
            return self.xp.constant(
                self.base.product(a.value, b.value, None if row is None else row.value)
            )
        product = a @ b
        return product if row is None else product + row

    def add_product(self, a: Array, left: Array, right: Array) -> Array:
        return a + self.product(left.T, right)

    def add_overwriting(self, a: Array, b: Array) -> Array:
        return a + b

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        del count  # with it, there may be more sums than indices
        found, sums = self.base.sum_by_index(rows.value, index.value)
        return self.xp.constant(found), self.xp.wrapped(sums, self._summed(rows, index.value, sums))

    def _summed(self, rows: Array, index: Array, sums: Array) -> Array | None:
        """Return the sums of the tangents of rows, of all directions as one matrix."""
        if rows.tangent is None:
            return None
        xp, t = self.base.namespace(), rows.tangent
        width, count, columns = t.shape
        wide = xp.reshape(xp.permute_dims(t, (1, 0, 2)), (count, width * columns))
        _, summed = self.base.sum_by_index(self.base.copy(wide), index)
        return xp.permute_dims(xp.reshape(summed, (sums.shape[0], width, columns)), (1, 0, 2))

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return self._at("add_at", a, index, values, axis)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        del into
        return self._at("put_at", a, index, values, axis)

    def _at(self, name: str, a: Array, index: Array, values: Array, axis: int) -> Array:
        change: Any = getattr(self.base, name)
        y = change(a.value, index.value, values.value, axis)
        width = next((p.tangent.shape[0] for p in (a, values) if p.tangent is not None), None)
        if width is None:
            return self.xp.constant(y)
        base = self.base.namespace()
        whole, parts = (self.xp.full_tangent(self.xp.part(p), width) for p in (a, values))
        pairs = zip(base.unstack(whole), base.unstack(parts), strict=True)
        return self.xp.wrapped(
            y, base.stack([change(one, index.value, part, axis) for one, part in pairs])
        )

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        return self.xp.concat((a[: rows.start, ...], block, a[rows.stop :, ...]), axis=0)

    def softmax_parts(self, a: Array, *, overwrite: bool) -> tuple[Array, Array, Array]:
        del overwrite
        # m cancels in whatever is computed from the three, so it counts as a constant.
        m = self.xp.constant(self.base.namespace().max(a.value, axis=-1, keepdims=True))
        exponentials = self.xp.exp(a - m)
        return m, exponentials, self.xp.sum(exponentials, axis=-1, keepdims=True)

    def _mapped(self, a: Array, function: Any) -> Array:
        tangent = None if a.tangent is None else function(a.tangent)
        return DualArray(self.xp, function(a.value), tangent)


@cache
def dual_library(base: Library) -> Dual:
    """Return the library of a library's dual arrays, always the same one."""
    return Dual(base)
