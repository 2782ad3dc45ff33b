"""PyTorch, of which only the arrays are used: nothing here records an autograd graph."""

import importlib

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, Namespace


class Torch(Library):
    """Torch tensors; a device is anything that ``torch.device`` takes."""

    name = "torch"
    module = "torch"
    install = "pip install torch"
    host_call = "{}.detach().cpu().numpy()"

    def namespace(self) -> Namespace:
        return importlib.import_module("array_api_compat.torch")

    def is_array(self, a: object) -> bool:
        return isinstance(a, importlib.import_module("torch").Tensor)

    def device(self, spec: object) -> Device:
        torch = importlib.import_module("torch")
        if spec is None:
            spec = torch.get_default_device()
        try:
            # Taken from a tensor, because only a tensor's device has "cuda" resolved to "cuda:0".
            return torch.empty(0, device=spec).device
        except (RuntimeError, TypeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device is {spec!r}: torch can't use it: {reason}") from error

    def devices(self) -> tuple[str, ...]:
        torch = importlib.import_module("torch")
        return ("cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count())))

    def hardware(self, device: Device) -> str:
        torch = importlib.import_module("torch")
        return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else ""

    def repeats(self, device: Device) -> bool:
        torch = importlib.import_module("torch")
        # On a GPU sums by index are atomic.
        return bool(device.type == "cpu" or torch.are_deterministic_algorithms_enabled())

    def is_accelerator(self, device: Device) -> bool:
        return bool(device.type != "cpu")

    def plain(self, a: Array) -> Array:
        return a.detach() if a.requires_grad else a

    def strides(self, a: Array) -> tuple[int, ...]:
        return tuple(a.stride())

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return a.index_add(axis, index, values)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        del into
        return a.index_copy(axis, index, values)

    def to_host(self, a: Array) -> HostArray:
        host: HostArray = a.detach().cpu().numpy()
        return host
