"""array-api-strict: the standard and nothing beyond it, to prove that xprnn keeps to it."""

import importlib
from contextlib import AbstractContextManager

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, Namespace


class Strict(Library):
    """array-api-strict; devices ``"CPU_DEVICE"`` (or ``"cpu"``), ``"device1"``, ``"device2"``."""

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
        return ("CPU_DEVICE", "device1", "device2")

    def device_name(self, device: Device) -> str:
        return next(name for name in self.devices() if self.device(name) == device)

    def strides(self, a: Array) -> tuple[int, ...]:
        return self.to_host(a).strides

    def quiet(self) -> AbstractContextManager[object]:
        # It computes with NumPy, whose warnings come through.
        return np.errstate(over="ignore", invalid="ignore")

    def to_host(self, a: Array) -> HostArray:
        return np.asarray(a.to_device(self.namespace().Device("CPU_DEVICE")))
