"""User namespaces: any object with the functions of the standard, named by its import path."""

import importlib
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

from xprnn.backend.host.arrays import HostArray, changes_arithmetic, np
from xprnn.backend.library import Library, row_major_strides
from xprnn.backend.types import REALS, Array, Device, Namespace

FUNCTIONS = (
    *("__array_namespace_info__", "abs", "all", "arange", "asarray", "astype", "broadcast_to"),
    *("clip", "concat", "empty", "empty_like", "exp", "finfo", "flip", "full_like", "isdtype"),
    *("isfinite", "log", "max", "maximum", "mean", "ones_like"),
    *("permute_dims", "reshape", "searchsorted", "sign", "sqrt", "stack", "sum", "take"),
    *("take_along_axis", "tanh", "unique_inverse", "unstack", "where", "zeros", "zeros_like"),
)
"""The functions of the standard that xprnn uses, besides operators and indexing."""

_ATTRIBUTES = ("T", "device", "dtype", "ndim", "shape")


class UserNamespace(Library):
    """The array API namespace that ``module:attribute`` (or ``module:``) names.

    Only functions of the standard are called, even where the library may have a faster one of its
    own (to add to some rows of an array, for instance).

    Attributes
    ----------
    array_class : type
        The class of its arrays.
    shares_class : bool
        Whether a known library's arrays have that class too; set by the registry.

    Raises
    ------
    ImportError
        If the module can't be imported.
    ValueError
        If there is no such attribute, or it is not an array API namespace; the message says
        what is missing.
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self.module = spec.partition(":")[0]
        self.install = f"make the module {self.module!r} importable"
        self.shares_class = False
        self._xp = _imported(spec)
        missing = [name for name in FUNCTIONS if not hasattr(self._xp, name)]
        if missing:
            few = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" * (len(missing) > 8))
            raise ValueError(
                f"the namespace {spec!r} lacks functions of the array API standard "
                f"that xprnn needs: {few}"
            )
        sample = self._sample()
        missing = [name for name in _ATTRIBUTES if not hasattr(sample, name)]
        if missing:
            raise ValueError(
                f"the namespace {spec!r} makes objects of type {type(sample).__name__}, which "
                f"lack attributes of the standard's arrays: {', '.join(missing)}"
            )
        self.array_class: type = type(sample)

    def namespace(self) -> Namespace:
        return self._xp

    def is_array(self, a: object) -> bool:
        # A sum of all entries of a NumPy array is a NumPy scalar.
        scalars = issubclass(self.array_class, np.ndarray) and isinstance(a, np.generic)
        if scalars or type(a) is self.array_class:
            return True
        return isinstance(a, self.array_class) and not changes_arithmetic(type(a))

    def device(self, spec: object) -> Device:
        if spec is None:
            return self._sample().device
        try:
            # Taken from an array: the text that names a device need not be how it prints.
            return self._xp.empty(0, device=spec).device
        except Exception as error:
            for device in self._devices():
                if str(device) == spec:
                    return device
            known = ", ".join(repr(d) for d in self.devices())
            raise ValueError(f"device is {spec!r}: {self.name} has {known}") from error

    def devices(self) -> tuple[str, ...]:
        return tuple(str(device) for device in self._devices())

    def from_host(self, a: HostArray, device: Device) -> Array:
        xp = self._xp
        dtype = getattr(xp, a.dtype.name)
        # The standard promises only that nested sequences can be converted, which is slow.  Most
        # libraries convert a host array.
        for convert in ("asarray", "from_dlpack"):
            try:
                array = getattr(xp, convert)(np.array(a), device=device)
                if array.dtype == dtype and tuple(array.shape) == a.shape:
                    return array
            except Exception:
                continue
        return xp.reshape(xp.asarray(a.tolist(), dtype=dtype, device=device), a.shape)

    def to_host(self, a: Array) -> HostArray:
        shape = tuple(a.shape)
        for convert in (np.from_dlpack, np.asarray):
            try:
                host: HostArray = np.array(convert(a))
            except Exception:
                continue
            # NumPy wraps what it can't convert into an array of objects.
            if host.dtype.kind in "fiub" and host.shape == shape:
                return host
        return self._entry_by_entry(a, shape)

    def strides(self, a: Array) -> tuple[int, ...]:
        # The standard has no strides, so take the array to be in row-major order.
        return row_major_strides(a)

    def quiet(self) -> AbstractContextManager[object]:
        # It may compute with NumPy, whose warnings come through.
        return np.errstate(over="ignore", invalid="ignore")

    def put_rows(self, a: Array, rows: slice, block: Array) -> Array:
        # The standard leaves open whether arrays are mutable.
        return self._xp.concat((a[: rows.start, ...], block, a[rows.stop :, ...]), axis=0)

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
        # Some libraries list None, which stands for their default.
        return [d for d in self._xp.__array_namespace_info__().devices() if d is not None]

    def _entry_by_entry(self, a: Array, shape: tuple[int, ...]) -> HostArray:
        xp, size = self._xp, int(np.prod(shape))
        name = next(n for n in REALS if hasattr(xp, n) and a.dtype == getattr(xp, n))
        python = {"b": bool, "i": int, "u": int, "f": float}[np.dtype(name).kind]
        flat = xp.reshape(a, (size,))
        return np.array([python(flat[k]) for k in range(size)], dtype=name).reshape(shape)


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
