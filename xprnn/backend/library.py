"""What xprnn needs to know about an array library."""

import importlib
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.kernels import Fused, Kernels, Limits
from xprnn.backend.operations import Operations
from xprnn.backend.types import REALS, Array, Device, DType


class Library(Operations):
    """An array library: how to import it, which devices it has, and how data gets in and out.

    To add a library that follows the array API standard, derive a class in a file of
    `xprnn.backend.libraries` and put an instance into `xprnn.backend.registry.LIBRARIES`.  It needs
    the three attributes and the four methods

    ===============  =======================================================================
    `name`           of the backend, in `get_backend` and in messages
    `module`         whose presence in ``sys.modules`` means that its arrays can exist
    `install`        the command that installs it
    `namespace`      imports it, and returns its array API namespace
    `is_array`       whether an object is one of its arrays
    `device`         makes a device object of what a user names, and proves that it works
    `devices`        lists the devices
    ===============  =======================================================================

    and overrides what the library does in another way than the defaults: `from_host` and `to_host`
    if NumPy's arrays are not converted by ``asarray``; `device_of` if arrays lack ``.device``;
    `device_name` if ``str(device)`` is not the text that `device` takes; and the methods of
    `Operations` that it can do faster.

    An instance of every library exists as soon as xprnn is imported, so it must import nothing
    before `namespace` is called.
    """

    name: str
    module: str
    install: str
    host_call: ClassVar[str] = "numpy.asarray({})"
    """What its users write to bring an array, in place of the braces, to the host."""
    widen_call: ClassVar[str] = "{}.astype('float32')"
    """What they write for an array of float32 with the same numbers."""
    synchronous: bool = False
    """Whether reading a value of an array never waits for a device."""
    strided: bool = True
    """Whether an array may have any layout in memory: transposed, flipped, every second entry."""
    compiles: ClassVar[bool] = False
    """Whether it can compile whole functions: see `compiled` and `scan`."""
    computes_in: ClassVar[Mapping[str, str]] = {}
    """By dtype, the wider one that array code is to compute in, and be rounded at its end: for
    dtypes that the library doesn't keep where an array meets a Python float."""
    lowering: ClassVar[str | None] = None
    """The name of the lowering of `xprnn.engine.loop` that is made for its arrays."""

    fused: ClassVar[Fused | None] = None
    """Operations in few kernels; None where the standard's functions are as good."""
    segments: ClassVar[bool] = True
    """Whether the products of a long sequence are faster in segments that fit a cache."""

    @abstractmethod
    def is_array(self, a: object) -> bool:
        """Whether ``a`` is an array of this library; only called once the library is imported."""

    @abstractmethod
    def device(self, spec: object) -> Device:
        """Return the device that ``spec`` names (None: the default), known to work.

        ValueError if there is no such device, RuntimeError if no device works at all.
        """

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the devices that can be used, as text that `device` takes."""

    def device_name(self, device: Device) -> str:
        """Return the text that `device` takes for this device."""
        return str(device)

    def dtypes(self, device: Device) -> tuple[str, ...]:
        """Return the names of the real dtypes, and bool, that arrays on a device may have."""
        del device
        xp = self.namespace()
        return tuple(name for name in REALS if hasattr(xp, name))

    def why_not(self, dtype: str) -> str:
        """Return why the library lacks a dtype, and what would help; empty if nothing is known."""
        del dtype
        return ""

    def indexing_dtype(self, device: Device) -> DType:
        """Return the dtype of indices on a device."""
        del device
        return self.namespace().__array_namespace_info__().default_dtypes()["indexing"]

    def hardware(self, device: Device) -> str:
        """Return the product name of a device; empty where the library does not say."""
        del device
        return ""

    def repeats(self, device: Device) -> bool:
        """Whether the library promises the same bits for the same call on a device."""
        del device
        return True

    def is_accelerator(self, device: Device) -> bool:
        """Whether work is launched on a device beside the CPU, at a cost for each launch."""
        del device
        return False

    def prepare(self, dtype: str) -> None:
        """Make the settings that the library needs to compute in ``dtype``; none by default."""
        del dtype

    def from_host(self, a: HostArray, device: Device) -> Array:
        """Copy a host array to the device, dtype unchanged."""
        # Copied first: torch warns when it is to share a read-only host array.
        return self.namespace().asarray(np.array(a), device=device)

    def placed(self, a: Array, device: Device) -> Array:
        """Return an array of this library on a device; it may share memory with ``a``."""
        return self.namespace().asarray(a, device=device)

    def to_host(self, a: Array) -> HostArray:
        """Return the values of an array as a host array; those of bfloat16 in float32."""
        return np.asarray(a)

    def on_host(self, a: Array) -> bool:
        """Whether the array is in the memory of the host, so that nothing is transferred."""
        return "cpu" in str(self.device_of(a)).lower()

    def on_device(self, a: Array, device: Device) -> bool:
        """Whether the array is on a device."""
        return bool(self.device_of(a) == device)

    def owns(self, a: object, device: Device) -> bool:
        """Whether ``a`` is an array of this library on a device."""
        return self.is_array(a) and self.on_device(a, device)

    def traced(self, a: Array) -> bool:
        """Whether the array stands for those of later calls, because a function is being compiled.

        Such an array has a shape and a dtype, but no values.
        """
        del a
        return False

    def compiled(
        self, function: Callable[..., Any], fixed: tuple[str, ...], *key: Hashable
    ) -> Callable[..., Any]:
        """Return a function that does the same, compiled once for all arrays of the same shapes.

        Parameters
        ----------
        function : callable
        fixed : tuple of str
            The names of its arguments that are not arrays, nor consist of arrays: they must be
            hashable, and it is compiled anew for each of their values.
        *key : hashable
            Whatever else it depends on.
        """
        del fixed, key
        return function

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carried: Any,
        each: Any,
        *,
        reverse: bool = False,
    ) -> tuple[Any, Any]:
        """Return ``carried`` after all steps of a loop, and what the steps returned, stacked.

        For libraries that compile: the loop is compiled as one, however many steps it has.

        Parameters
        ----------
        body : callable
            ``body(carried, at) -> (carried, result)``.
        carried : arrays
            At first; arrays in tuples, or None.
        each : arrays
            What ``at`` is a slice of at every step, along the first axis.
        reverse : bool
            Whether to begin at the last step; the results are in the order of ``each``.
        """
        del body, carried, each, reverse
        raise TypeError(f"the backend {self.name!r} compiles no loops")

    def plain(self, a: Array) -> Array:
        """Return the array without what the library may have attached to it (a graph, say)."""
        return a

    def warn_of_graph(self, name: str, a: object) -> None:
        """Warn where the library records what is done to an array, and `plain` ends the record."""

    def strides(self, a: Array) -> tuple[int, ...]:
        """Return the distance in memory of neighbours along each axis, in any unit."""
        return tuple(a.strides)

    def kernels(self) -> Kernels:
        """Return what compiles and launches CUDA kernels, for the lowering to such kernels.

        TypeError if the library has none; that lowering is not made for it then.
        """
        raise TypeError(f"the backend {self.name!r} launches no kernels")

    def limits(self, device: Device) -> Limits | None:
        """Return what a device has; None where no CUDA kernels are launched."""
        del device
        return None

    def raise_given_up(self) -> None:
        """Raise a RuntimeError if a kernel has given up waiting; it does not wait for the device.

        To be called where a result has been read, because nothing that it says is to be believed.
        """
        return

    def synchronize(self, result: object = None) -> None:
        """Wait until the device has done its work, so that times can be measured.

        All of it, or what ``result`` needs, which is an array or consists of arrays.
        """
        del result
        # by default for libraries whose calls return when they are done

    def step_products(self, batch: int, U: Array) -> AbstractContextManager[object]:
        """Return a ``with`` block for a time loop that multiplies (B, H) by Uᵀ at every step.

        Python threads that compute at the same time do not change each other's products in it.
        """
        del batch, U
        return nullcontext()

    def quiet(self) -> AbstractContextManager[object]:
        """Return a context without the library's own warnings of overflow and NaN."""
        return nullcontext()

    def release_memory(self) -> None:
        """Give memory that is kept for later arrays back to the system; called when a network goes.

        Nothing by default.
        """
        return

    def version(self) -> str:
        """Return the version of the library, which has been imported."""
        return str(importlib.import_module(self.module).__version__)


def row_major_strides(a: Array) -> tuple[int, ...]:
    """Return the strides, in entries, of an array in row-major order."""
    return tuple(math.prod(a.shape[axis + 1 :]) for axis in range(a.ndim))
