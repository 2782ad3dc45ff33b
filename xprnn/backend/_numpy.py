"""NumPy: the host itself."""

import array_api_compat.numpy

from xprnn.backend._library import Library
from xprnn.backend.host import HostArray, np
from xprnn.backend.types import Array, Device, Namespace


class NumPy(Library):
    """NumPy arrays in the memory of the host."""

    name = "numpy"
    module = "numpy"
    install = "pip install numpy"

    def namespace(self) -> Namespace:
        return array_api_compat.numpy

    def is_array(self, a: object) -> bool:
        # A sum of all entries is a NumPy scalar, where others give a zero-dimensional array.
        return isinstance(a, np.ndarray | np.generic)

    def device(self, spec: object) -> Device:
        if spec not in (None, "cpu"):
            raise ValueError(f"device is {spec!r}: NumPy computes on 'cpu' only")
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def device_of(self, a: Array) -> Device:
        del a
        return "cpu"

    def from_host(self, a: HostArray, device: Device) -> Array:
        del device
        return a
