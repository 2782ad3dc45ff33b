"""User namespaces: any object with the functions of the standard, named by its import path."""

import importlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

from xprnn.backend.host.arrays import HostArray, changes_arithmetic, np
from xprnn.backend.libraries.declared import dtypes_on, indexing_on, with_integers_of
from xprnn.backend.libraries.partial import FUNCTIONS, PartialNamespace
from xprnn.backend.library import Library, row_major_strides
from xprnn.backend.types import FLOATS, REALS, Array, Device, DType, Namespace

_ESSENTIAL = ("asarray", "empty", "isdtype")
"""Without these nothing can be asked of a namespace."""

_ATTRIBUTES = ("T", "dtype", "ndim", "shape")

_DATA_DEPENDENT = ("unique_inverse",)
"""Functions whose result's shape depends on values; a namespace may declare that it has none."""

_PYTHON = {"b": bool, "i": int, "u": int, "f": float, "c": complex}
"""By the kind of a NumPy dtype, the type of Python that holds a value of it."""


class UserNamespace(Library):
    """The array API namespace that ``module:attribute`` (or ``module:``) names.

    Only functions of the standard are called, even where the library may have a faster one of its
    own (to add to some rows of an array, for instance).

    Attributes
    ----------
    array_class : type
        The class of its arrays.
    array_classes : tuple of type
        That class, and others of which the namespace makes arrays: scalars, for instance.
    missing : dict of str
        By function of the standard that can't be called, why.  What needs it raises
        `MissingFunctionError`; everything else runs.
    shares_class : bool
        Whether a known library's arrays have that class too; set by the registry.

    Raises
    ------
    ImportError
        If the module can't be imported.
    ValueError
        If there is no such attribute, or it is no array API namespace; the message says what is
        missing.
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self.module = spec.partition(":")[0]
        self.install = f"make the module {self.module!r} importable"
        self.shares_class = False
        self._xp = _imported(spec)
        lacking = [name for name in FUNCTIONS if not hasattr(self._xp, name)]
        floats = [name for name in FLOATS if hasattr(self._xp, name)]
        if not floats or any(name in lacking for name in _ESSENTIAL):
            few = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more" * (len(lacking) > 8))
            raise ValueError(
                f"{spec!r} is no array API namespace: it lacks {few or ' and '.join(FLOATS[2:])}"
            )
        self.missing = {name: f"has no {name!r}" for name in lacking} | self._undeclared(lacking)
        if self.missing:
            self._xp = PartialNamespace(spec, self._xp, self.missing)
        sample = self._sample()
        absent = [name for name in _ATTRIBUTES if not hasattr(sample, name)]
        if absent:
            raise ValueError(
                f"the namespace {spec!r} makes objects of type {type(sample).__name__}, which "
                f"lack attributes of the standard's arrays: {', '.join(absent)}"
            )
        self.array_class: type = type(sample)
        self.array_classes = self._classes()

    def namespace(self) -> Namespace:
        return self._xp

    def is_array(self, a: object) -> bool:
        # A sum of all entries of a NumPy array is a NumPy scalar.
        scalars = issubclass(self.array_class, np.ndarray) and isinstance(a, np.generic)
        if scalars or type(a) in self.array_classes:
            return True
        return isinstance(a, self.array_class) and not changes_arithmetic(type(a))

    def device_of(self, a: Array) -> Device:
        if hasattr(a, "device"):
            return a.device
        # Dask's arrays don't say it.  Without an answer there is one device, which has no name.
        if "__array_namespace_info__" in self.missing:
            return None
        return self._xp.__array_namespace_info__().default_device()

    def device(self, spec: object) -> Device:
        if spec is None:
            return self.device_of(self._sample())
        for device in self._devices():
            if device == spec:
                return device
        try:
            # Taken from an array: the text that names a device need not be how it prints.
            return self.device_of(self._xp.empty(0, device=spec))
        except Exception as error:
            for device in self._devices():
                if str(device) == spec:
                    return device
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: {self.name} has {known}") from error

    def devices(self) -> tuple[str, ...]:
        return tuple(str(device) for device in self._devices())

    def dtypes(self, device: Device) -> tuple[str, ...]:
        return dtypes_on(self._xp, device)

    def indexing_dtype(self, device: Device) -> DType:
        return indexing_on(self._xp, device)

    def dtype_name(self, dtype: DType) -> str | None:
        # Compared, because neither a name nor a hash of a dtype is in the standard.
        with warnings.catch_warnings():
            # A library may warn that the dtype is another library's.
            warnings.simplefilter("ignore")
            for name in (*REALS, "complex64", "complex128"):
                if hasattr(self._xp, name) and bool(dtype == getattr(self._xp, name)):
                    return name
        return None

    def from_host(self, a: HostArray, device: Device) -> Array:
        xp = self._xp
        a = with_integers_of(a, xp, device)
        if not hasattr(xp, a.dtype.name):
            raise ValueError(f"the namespace {self.name!r} has no dtype {a.dtype.name}")
        dtype = getattr(xp, a.dtype.name)

        def fits(array: Array) -> bool:
            same = array.dtype == dtype and tuple(array.shape) == a.shape
            return bool(same and self.device_of(array) == device)

        # The standard promises only that nested sequences can be converted, which is slow.  Most
        # libraries convert a host array.
        for convert in ("asarray", "from_dlpack"):
            try:
                array = getattr(xp, convert)(np.array(a), device=device)
                if fits(array):
                    return array
            except Exception:
                continue
        array = xp.reshape(xp.asarray(a.tolist(), dtype=dtype, device=device), a.shape)
        if not fits(array):
            raise ValueError(
                f"the namespace {self.name!r}: asarray(..., dtype={a.dtype.name}, device={device}) "
                f"returned an array of dtype {array.dtype} on device {self.device_of(array)}"
            )
        return array

    def to_host(self, a: Array) -> HostArray:
        shape = tuple(a.shape)
        for convert in (_by_dlpack, np.from_dlpack, _by_method, np.asarray, _computed):
            try:
                host: HostArray = np.array(convert(a))
            except Exception:
                continue
            # NumPy wraps what it can't convert into an array of objects.
            if host.dtype.kind in _PYTHON and host.shape == shape:
                return host
        return self._entry_by_entry(a, shape)

    def all_finite(self, a: Array) -> bool:
        return bool(np.all(self.to_host(self._xp.all(self._xp.isfinite(a)))))

    def strides(self, a: Array) -> tuple[int, ...]:
        # The standard has no strides, so take the array to be in row-major order.
        return row_major_strides(a)

    def quiet(self) -> AbstractContextManager[object]:
        # It may compute with NumPy, whose warnings come through.
        return np.errstate(over="ignore", invalid="ignore")

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        # The standard leaves open whether arrays are mutable.
        return self._xp.concat((a[: rows.start, ...], block, a[rows.stop :, ...]), axis=0)

    def repeats(self, device: Device) -> bool:
        del device
        return False  # the standard promises nothing

    def version(self) -> str:
        for holder in (self._xp, importlib.import_module(self.module)):
            found = getattr(holder, "__version__", None)
            if found is not None:
                return str(found)
        return f"array API {getattr(self._xp, '__array_api_version__', 'of no version')}"

    def _sample(self) -> Array:
        try:
            return self._xp.empty((0, 0))  # a matrix, because only matrices have ``.T``
        except Exception as error:
            raise ValueError(
                f"the namespace {self.name!r} can't make an array: empty((0, 0)) fails: {error}"
            ) from error

    def _devices(self) -> list[Any]:
        if "__array_namespace_info__" in self.missing:
            return [self.device_of(self._sample())]
        # Some libraries list None, which stands for their default.
        return [d for d in self._xp.__array_namespace_info__().devices() if d is not None]

    def _undeclared(self, lacking: list[str]) -> dict[str, str]:
        """Return which functions the namespace declares that it can't compute."""
        if "__array_namespace_info__" in lacking:
            return {}
        capabilities = getattr(self._xp.__array_namespace_info__(), "capabilities", None)
        if capabilities is None or capabilities().get("data-dependent shapes", True):
            return {}
        return dict.fromkeys(_DATA_DEPENDENT, "declares that it has no data-dependent shapes")

    def _classes(self) -> tuple[type, ...]:
        """Return the classes of the arrays that the namespace makes, its matrices' first."""
        xp, found = self._xp, [self.array_class]
        makers: tuple[Callable[[], object], ...] = (
            lambda: xp.empty(()),
            lambda: xp.empty((1,))[0, ...],
            lambda: xp.empty((1,))[0],
            lambda: xp.sum(xp.zeros((2,))),
            lambda: xp.zeros((2,)) == xp.zeros((2,)),
            lambda: xp.all(xp.zeros((2,)) == xp.zeros((2,))),
        )
        for make in makers:
            try:
                made = make()
            except Exception:
                # What fails here fails again when it is compared, and is named there.
                continue
            # The host's arrays and scalars are NumPy's, whoever returns them.
            own = hasattr(made, "dtype") and not isinstance(made, np.ndarray | np.generic)
            if own and type(made) not in found:
                found.append(type(made))
        return tuple(found)

    def _entry_by_entry(self, a: Array, shape: tuple[int, ...]) -> HostArray:
        xp, size = self._xp, int(np.prod(shape))
        name = self.dtype_name(a.dtype)
        if name is None:
            raise TypeError(f"an array of {self.name!r} has dtype {a.dtype}: expected a real dtype")
        python = _PYTHON[np.dtype(name).kind]
        flat = xp.reshape(a, (size,))
        try:
            values = [python(flat[k]) for k in range(size)]
        except Exception as error:
            raise TypeError(
                f"the values of an array of {self.name!r} can't be read, neither by __dlpack__, "
                f"asnumpy, __array__ nor compute, nor one by one: {type(error).__name__}: {error}"
            ) from error
        return np.array(values, dtype=name).reshape(shape)


def _by_dlpack(a: Array) -> HostArray:
    # NumPy's from_dlpack asks for another device only if it is told to.
    return np.from_dlpack(a, device="cpu")


def _by_method(a: Array) -> HostArray:
    return np.asarray(a.asnumpy())


def _computed(a: Array) -> HostArray:
    # A lazy array, which has no values until it is asked for them.
    return np.asarray(a.compute())


def _imported(spec: str) -> Namespace:
    module, _, attribute = spec.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        # A module of the user may fail with any error, even a SyntaxError.
        raise ImportError(
            f"the namespace {spec!r}: can't import {module!r} ({type(error).__name__}: {error})"
        ) from error
    try:
        return attrgetter(attribute)(found) if attribute else found
    except AttributeError as error:
        raise ValueError(
            f"the namespace {spec!r}: the module {module!r} has no {attribute!r}"
        ) from error
