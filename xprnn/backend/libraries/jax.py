"""JAX: its immutable arrays, its devices, and functions that it compiles."""

import importlib
import operator
from collections.abc import Callable, Hashable, Sequence
from functools import cache, lru_cache, reduce, wraps
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.library import Library, row_major_strides
from xprnn.backend.trees import TREES
from xprnn.backend.types import Array, Device, DType, Namespace


class Jax(Library):
    """JAX arrays; a device is ``"cpu"``, ``"gpu:1"`` or a ``jax.Device``.

    Asking for float64 turns on ``jax_enable_x64`` for the whole process: without it JAX silently
    computes in float32, and no narrower switch reaches every operation.

    Inside a function that JAX transforms or compiles, arrays are tracers.  They are on no device;
    and unless a derivative is taken at known values, they have no values.
    """

    name = "jax"
    module = "jax"
    strided = False
    install = "pip install jax"
    compiles = True

    def namespace(self) -> Namespace:
        _register_trees()
        return importlib.import_module("jax.numpy")

    def is_array(self, a: object) -> bool:
        return isinstance(a, _jax().Array)

    def traced(self, a: Array) -> bool:
        return _is_tracer(a) and a.to_concrete_value() is None

    def compiled(
        self, function: Callable[..., Any], fixed: tuple[str, ...], *key: Hashable
    ) -> Callable[..., Any]:
        return _compiled(function, fixed, *key)

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carried: Any,
        each: Any,
        *,
        reverse: bool = False,
    ) -> tuple[Any, Any]:
        scan = _jax().lax.scan
        found: tuple[Any, Any] = scan(body, carried, each, reverse=reverse)
        return found

    def synchronize(self, result: object = None) -> None:
        _jax().block_until_ready(result)

    def device(self, spec: object) -> Device:
        jax = _jax()
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
        jax = _jax()
        return tuple(f"{d.platform}:{d.id}" for d in jax.devices())

    def on_device(self, a: Array, device: Device) -> bool:
        return _is_tracer(a) or bool(self.device_of(a) == device)

    def device_of(self, a: Array) -> Device:
        if _is_tracer(a):
            return None
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

    # While a function is being compiled, what is computed of known values has no value, either: so
    # it is the result that is asked whether it has one.

    def all_true(self, condition: Array) -> bool:
        found = self.namespace().all(condition)
        return self.traced(found) or bool(found)

    def zeros(self, shape: tuple[int, ...], dtype: DType, device: Device) -> Array:
        # While a function is being compiled, it may be for several devices.
        return (
            super().zeros(shape, dtype, device) if _compiling() else _zeros(shape, dtype, device)()
        )

    def all_finite(self, a: Array) -> bool:
        found = _finite()(a)
        return self.traced(found) or bool(found)

    def any_nan(self, arrays: Sequence[Array]) -> bool:
        xp = self.namespace()
        found = reduce(operator.or_, [xp.any(xp.isnan(a)) for a in arrays])
        return not self.traced(found) and bool(found)

    def sum_by_index(
        self, rows: Array, index: Array, count: int | None = None
    ) -> tuple[Array, Array]:
        if not self.traced(1 * index):
            return super().sum_by_index(rows, index, count)
        # How many distinct indices there are is unknown, so there are places for as many as there
        # could be.  Those that are left over get an index beyond the array: JAX drops what is
        # written there.
        xp = self.namespace()
        beyond = xp.iinfo(index.dtype).max if count is None else count
        found, inverse = xp.unique(
            index, return_inverse=True, size=index.shape[0], fill_value=beyond
        )
        return found, xp.zeros_like(rows).at[inverse].add(rows)

    def add_at(self, a: Array, index: Array, values: Array, axis: int) -> Array:
        return a.at[index].add(values) if axis == 0 else a.at[:, index].add(values)

    def put_at(
        self, a: Array, index: Array, values: Array, axis: int, into: Array | None = None
    ) -> Array:
        del into
        return a.at[index].set(values) if axis == 0 else a.at[:, index].set(values)

    def to_host(self, a: Array) -> HostArray:
        host = np.asarray(a)
        return host.astype("float32") if host.dtype.name == "bfloat16" else host

    def copy(self, a: Array) -> Array:
        # JAX arrays are immutable.
        return a

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        return a.at[rows].set(block)

    def prepare(self, dtype: str) -> None:
        if dtype == "float64":
            _jax().config.update("jax_enable_x64", val=True)


@cache
def _jax() -> Any:
    # To find a module takes a microsecond, and every pass asks a dozen times.
    return importlib.import_module("jax")


@cache
def _finite() -> Callable[[Array], Array]:
    """Return whether all entries of an array are finite, as one compiled function."""
    xp = _jax().numpy
    made: Callable[[Array], Array] = _jax().jit(lambda a: xp.all(xp.isfinite(a)))
    return made


@cache
def _made_anew() -> Callable[[], Array]:
    jax = _jax()
    made: Callable[[], Array] = jax.jit(lambda: jax.numpy.zeros(()))
    return made


def _compiling() -> bool:
    """Whether results have no values now, whatever the arguments."""
    return _is_tracer(_made_anew()())


@lru_cache(maxsize=256)
def _zeros(shape: tuple[int, ...], dtype: DType, device: Device) -> Callable[[], Array]:
    """Return a compiled function that makes zeros: 4 µs instead of 100 at every pass."""
    jax = _jax()
    placed = jax.sharding.SingleDeviceSharding(device)
    made: Callable[[], Array] = jax.jit(
        lambda: jax.numpy.zeros(shape, dtype=dtype), out_shardings=placed
    )
    return made


def _is_tracer(a: object) -> bool:
    return isinstance(a, _jax().core.Tracer)


@cache
def _register_trees() -> None:
    """Tell JAX how objects with arrays in them are taken apart."""
    register = _jax().tree_util.register_pytree_node
    for kind, (flatten, unflatten) in TREES.items():
        register(kind, flatten, unflatten)


@cache
def _compiled(
    function: Callable[..., Any], fixed: tuple[str, ...], *key: Hashable
) -> Callable[..., Any]:
    del key

    # A function of its own for every key: JAX keeps one cache for each function.
    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    made: Callable[..., Any] = _jax().jit(called, static_argnames=fixed)
    return made
