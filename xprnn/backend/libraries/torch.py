"""PyTorch, of which only the arrays are used: nothing here records an autograd graph."""

import importlib
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from xprnn.backend.host import arrays
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Device, Namespace


class Torch(Library):
    """Torch tensors; a device is anything that ``torch.device`` takes."""

    name = "torch"
    module = "torch"
    install = "pip install torch"
    host_call = "{}.detach().cpu().numpy()"
    widen_call = "{}.float()"

    def __init__(self) -> None:
        # Both once, and not at every use: torch.compile can't follow an import.
        self._torch: Any = None
        self._xp: Namespace = None

    def namespace(self) -> Namespace:
        if not arrays.being_compiled():
            importlib.import_module("array_api_compat.torch")  # which a program may have barred
        if self._xp is None:
            self._torch = importlib.import_module("torch")
            self._xp = _namespace(self._torch)
            arrays.being_compiled = self._torch.compiler.is_compiling
        return self._xp

    def is_array(self, a: object) -> bool:
        if self._torch is None:
            self.namespace()
        return isinstance(a, self._torch.Tensor)

    def traced(self, a: Array) -> bool:
        return arrays.being_compiled() or self._batched(a)

    def _batched(self, a: Array) -> bool:
        """Whether it is an array inside of torch.func.vmap, at which nobody can look."""
        inside = self._torch._C._functorch
        while inside.is_functorch_wrapped_tensor(a):
            if inside.is_batchedtensor(a):
                return True
            a = inside.get_unwrapped(a)
        return False

    def device(self, spec: object) -> Device:
        torch = self._torch
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
        # Not inside torch.func.grad, which would take the derivative of a constant, and so zero.
        if a.requires_grad and not self._torch._C._functorch.is_functorch_wrapped_tensor(a):
            return a.detach()
        return a

    def warn_of_graph(self, name: str, a: object) -> None:
        tensor: Any = a
        if not (self.is_array(a) and tensor.requires_grad and self._torch.is_grad_enabled()):
            return
        if arrays.being_compiled() or self._torch._C._functorch.is_functorch_wrapped_tensor(a):
            return
        warnings.warn(
            f"{name} requires a gradient, and torch gets none through a network of xprnn, which "
            f"takes {name} for its values: expected {name}.detach(), or, inside of a torch model, "
            "xprnn.interop.torch.Module (net.backward(run, d_output).input is that gradient, too)",
            RuntimeWarning,
            stacklevel=5,
        )

    def copy(self, a: Array) -> Array:
        return self.plain(a).clone()

    def strides(self, a: Array) -> tuple[int, ...]:
        return tuple(a.stride())

    def all_true(self, condition: Array) -> bool:
        return self.traced(condition) or super().all_true(condition)

    def all_finite(self, a: Array) -> bool:
        return self.traced(a) or super().all_finite(a)

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        return not any(map(self.traced, arrays)) and super().any_nan(arrays)

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        if self.traced(index):
            raise TypeError(
                "the gradient of what integer input picks has as many rows as there are distinct "
                "integers, which torch.compile and torch.func.vmap can't know: expected "
                "value_and_grad and backward of integer input to be called outside of these"
            )
        return super().sum_by_index(rows, index, count)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return a.index_add(axis, index, values)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        del into
        return a.index_copy(axis, index, values)

    def to_host(self, a: Array) -> HostArray:
        if a.dtype is self._torch.bfloat16:
            a = a.float()
        host: HostArray = a.detach().cpu().numpy()
        return host


def _namespace(torch: Any) -> Namespace:
    """Return the namespace of array_api_compat, with functions that torch compiles and batches."""
    compat = importlib.import_module("array_api_compat.torch")

    def maximum(a: Array, b: Array | float) -> Array:
        # array_api_compat asks torch for the type of array and number, which can't be compiled.
        return torch.clamp(a, min=b) if isinstance(b, int | float) else compat.maximum(a, b)

    def unstack(a: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
        # array_api_compat's moves the axis, which torch.func.vmap can't follow.
        return tuple(torch.unbind(a, axis))

    own = ModuleType(compat.__name__)
    vars(own).update(vars(compat), maximum=maximum, unstack=unstack)
    return own
