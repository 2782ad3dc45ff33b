"""array-api-strict: the standard and nothing beyond it, to prove that xprnn keeps to it."""

import importlib
from contextlib import AbstractContextManager

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.libraries.declared import dtypes_on, indexing_on, with_integers_of
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, DType, Namespace


class Strict(Library):
    """array-api-strict; devices ``"CPU_DEVICE"`` (or ``"cpu"``), ``"device1"``, ``"no_x64"``..."""

    name = "array_api_strict"
    module = "array_api_strict"
    install = "pip install array-api-strict"
    host_call = "numpy.asarray({}.to_device(array_api_strict.Device('CPU_DEVICE')))"

    def namespace(self) -> Namespace:
        return importlib.import_module("array_api_strict")

    def is_array(self, a: object) -> bool:
        return isinstance(a, type(self.namespace().empty(0)))

    def device(self, spec: object) -> Device:
        strict = self.namespace()
        if isinstance(spec, strict.Device):
            return spec
        try:
            return strict.Device("CPU_DEVICE" if spec in (None, "cpu") else spec)
        except (ValueError, TypeError) as error:
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: array-api-strict has {known}") from error

    def devices(self) -> tuple[str, ...]:
        return tuple(map(self.device_name, self._devices()))

    def device_name(self, device: Device) -> str:
        # It prints as array_api_strict.Device('device1').
        return str(device).split("'")[1]

    def dtypes(self, device: Device) -> tuple[str, ...]:
        return dtypes_on(self.namespace(), device)

    def indexing_dtype(self, device: Device) -> DType:
        return indexing_on(self.namespace(), device)

    def from_host(self, a: HostArray, device: Device) -> Array:
        return super().from_host(with_integers_of(a, self.namespace(), device), device)

    # On a device without int64 it can't return indices (2.6.1), so these are computed on the other.

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        del count
        if self._returns_indices(index):
            return super().sum_by_index(rows, index)
        found, sums = super().sum_by_index(self._to_cpu(rows), self._to_cpu(index))
        xp = self.namespace()
        return xp.astype(found, index.dtype).to_device(index.device), sums.to_device(rows.device)

    def _spread(self, a: Array, index: Array, values: Array, axis: int) -> tuple[Array, Array]:
        if self._returns_indices(index):
            return super()._spread(a, index, values, axis)
        cpu = self._to_cpu
        hit, spread = super()._spread(cpu(a), cpu(index), cpu(values), axis)
        return hit.to_device(a.device), spread.to_device(a.device)

    def _returns_indices(self, a: Array) -> bool:
        return "int64" in self.dtypes(a.device)

    def _to_cpu(self, a: Array) -> Array:
        return a.to_device(self.namespace().Device("CPU_DEVICE"))

    def _devices(self) -> tuple[Device, ...]:
        return tuple(self.namespace().__array_namespace_info__().devices())

    def strides(self, a: Array) -> tuple[int, ...]:
        return self.to_host(a).strides

    def quiet(self) -> AbstractContextManager[object]:
        # It computes with NumPy, whose warnings come through.
        return np.errstate(over="ignore", invalid="ignore")

    def to_host(self, a: Array) -> HostArray:
        return np.asarray(self._to_cpu(a))
