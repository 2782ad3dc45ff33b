"""JAX, run operation by operation, without ``jit``: its immutable arrays, and its devices."""

import importlib

from xprnn.backend.library import Library, row_major_strides
from xprnn.backend.types import Array, Device, Namespace


class Jax(Library):
    """JAX arrays; a device is ``"cpu"``, ``"gpu:1"`` or a ``jax.Device``.

    Asking for float64 turns on ``jax_enable_x64`` for the whole process: without it JAX silently
    computes in float32, and no narrower switch reaches every operation.
    """

    name = "jax"
    module = "jax"
    strided = False
    install = "pip install jax"

    def namespace(self) -> Namespace:
        return importlib.import_module("jax.numpy")

    def is_array(self, a: object) -> bool:
        return isinstance(a, importlib.import_module("jax").Array)

    def device(self, spec: object) -> Device:
        jax = importlib.import_module("jax")
        if isinstance(spec, jax.Device):
            return spec
        if spec is None:
            return jax.devices()[0]
        platform, _, number = str(spec).partition(":")
        try:
            return jax.devices(platform)[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: JAX has {known}") from error

    def devices(self) -> tuple[str, ...]:
        jax = importlib.import_module("jax")
        return tuple(f"{d.platform}:{d.id}" for d in jax.devices())

    def device_of(self, a: Array) -> Device:
        held = a.devices()
        # An array that is spread over several devices equals none of them.
        return next(iter(held)) if len(held) == 1 else held

    def device_name(self, device: Device) -> str:
        return f"{device.platform}:{device.id}"

    def strides(self, a: Array) -> tuple[int, ...]:
        # JAX does not tell strides.  It lays out all arrays in row-major order.
        return row_major_strides(a)

    def hardware(self, device: Device) -> str:
        return "" if device.platform == "cpu" else str(device.device_kind)

    def is_accelerator(self, device: Device) -> bool:
        return bool(device.platform != "cpu")

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return a.at[index].add(values) if axis == 0 else a.at[:, index].add(values)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        del into
        return a.at[index].set(values) if axis == 0 else a.at[:, index].set(values)

    def copy(self, a: Array) -> Array:
        # JAX arrays are immutable.
        return a

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        return a.at[rows].set(block)

    def prepare(self, dtype: str) -> None:
        if dtype == "float64":
            importlib.import_module("jax").config.update("jax_enable_x64", val=True)
