"""`Backend`: an array library with a device and a dtype, as the rest of xprnn sees it.

`open_library` makes one of a library.  `xprnn.backend.opening` finds the library first: by name, or
by an array.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import HostArray, changes_arithmetic, instead, plain_array
from xprnn.backend.library import Library
from xprnn.backend.registry import find_library, library_named, library_of, users_dtype_name
from xprnn.backend.types import FLOATS, HALVES, REALS, Array, Device, DType, Namespace


@dataclass(frozen=True, eq=False)
class Backend:
    """An array namespace with the device and the floating dtype to compute in.

    Made by `get_backend`; two of them are equal when library, device and dtype are.

    Attributes
    ----------
    name : str
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"`` or ``"array_api_strict"``.
    xp : namespace
        The array API namespace.
    device : object
        The device, as the library itself represents it.
    dtype : object
        The floating dtype, as the library itself represents it.
    """

    name: str
    xp: Namespace = field(repr=False)
    device: Device
    dtype: DType
    library: Library = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Backend):
            return False
        return (self.name, self.device, self.dtype) == (other.name, other.device, other.dtype)

    def __hash__(self) -> int:
        return hash((self.name, str(self.device), str(self.dtype)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A module can't be copied or pickled, so the backend is opened again instead.
        return _reopen, (self.name, self.library.device_name(self.device), self.dtype_name)

    def __deepcopy__(self, memory: dict[int, Any]) -> "Backend":
        del memory
        return self

    @cached_property
    def dtype_name(self) -> str:
        """The dtype as text, the same for every library: ``"float32"``, for instance."""
        return dtype_name(self.dtype)

    @cached_property
    def has_float64(self) -> bool:
        """Whether the device has float64."""
        return "float64" in self.library.dtypes(self.device)

    def owns(self, a: object) -> bool:
        """Whether ``a`` is an array of this library on this device."""
        return self.library.owns(a, self.device)

    @entry
    def asarray(self, a: object, dtype: str | DType | None = None) -> Array:
        """Bring host data, or an array of this library, to this device and dtype.

        Parameters
        ----------
        a : array_like
            A number, a (nested) list, a NumPy array, or an array of this backend's library.
        dtype : str or dtype, optional
            None: floats take the backend's dtype, integers and booleans keep theirs.  On their way
            to bfloat16, host data are rounded to float32, then by the library to the nearest.

        Returns
        -------
        array
            On ``self.device``.  It may share memory with ``a``.

        Raises
        ------
        TypeError
            If it holds anything but real numbers or booleans, or is an array of another backend:
            nothing is transferred silently, so take it to the host first.  Or if it is a masked
            array, a matrix or another subclass of NumPy's array that changes arithmetic.
        ValueError
            If the elements have unequal lengths, or the dtype is not of real numbers or booleans.
        """
        wanted = None if dtype is None else dtype_name(dtype)
        if wanted is not None:
            known = REALS if wanted != "bfloat16" else self.library.dtypes(self.device)
            if wanted not in known:
                known = self.library.dtypes(self.device)
                raise ValueError(f"dtype is {dtype!r}: expected one of {', '.join(known)}")
            self.library.prepare(wanted)
        if self.library.is_array(a) and self.name != "numpy":
            array = self.library.placed(self.library.plain(a), self.device)
            if self.xp.isdtype(array.dtype, "complex floating"):
                raise TypeError(f"expected real numbers, got {describe(array)}")
            if wanted is not None:
                return self.xp.astype(array, getattr(self.xp, wanted))
            floating = self.xp.isdtype(array.dtype, "real floating")
            return self.xp.astype(array, self.dtype, copy=False) if floating else array
        host = _host_numbers(a)
        if wanted is None and host.dtype.kind == "f":
            wanted = self.dtype_name
        if wanted == "bfloat16":
            # NumPy has no such dtype, so the library rounds.
            wide = self.library.from_host(host.astype("float32", copy=False), self.device)
            return self.xp.astype(wide, self.xp.bfloat16)
        if wanted is not None:
            host = host.astype(wanted, copy=False)
        return self.library.from_host(host, self.device)

    def to_numpy(self, a: Array) -> HostArray:
        """Return an array of this backend as a NumPy array: the only way back to the host.

        It may share memory with ``a``.  Numbers of bfloat16 come in float32, as they are.

        Raises
        ------
        TypeError
            If ``a`` is not an array of this backend.
        """
        if not self.library.is_array(a):
            raise TypeError(f"to_numpy takes an array of {self.name}, got {describe(a)}")
        return self.library.to_host(a)


def dtype_name(dtype: str | DType) -> str:
    """Return a dtype as text: ``torch.float32`` and ``numpy.dtype("float32")`` as ``"float32"``."""
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type):
        return dtype.__name__
    text = str(getattr(dtype, "name", dtype)).rpartition(".")[2]
    return text if text in REALS else users_dtype_name(dtype) or text


def describe(a: object) -> str:
    """Return in words, for a message, the type of ``a``, and an array's shape and dtype."""
    kind = f"{type(a).__module__.partition('.')[0]}.{type(a).__name__}"
    if hasattr(a, "shape") and hasattr(a, "dtype"):
        return f"{kind} of shape {tuple(a.shape)} and dtype {dtype_name(a.dtype)}"
    return f"{type(a).__name__}"


def on_host(name: str, a: Array) -> str:
    """Return the code that brings an array of a library to the host."""
    library = library_of(a)
    # NumPy has no bfloat16.
    wide = library.widen_call if dtype_name(a.dtype) == "bfloat16" else "{}"
    return library.host_call.format(wide.format(name))


def conversion(name: str, a: object) -> str:
    """Return in words how a user makes an array of a network's backend of ``a``."""
    if changes_arithmetic(type(a)):
        return instead(name, type(a))
    library = find_library(a)
    if library is None or library.name == "numpy":
        return f"{name} = net.backend.asarray({name}) makes one from host data"
    return f"{name} = net.backend.asarray({on_host(name, a)}) makes one"


def _host_numbers(a: object) -> HostArray:
    """Return ``a`` as a host array of real numbers or booleans."""
    library = find_library(a)
    if library is not None and library.name != "numpy":
        raise TypeError(
            f"got {describe(a)}, an array of the backend {library.name!r}: take it to the host "
            f"first, as {on_host('a', a)} does for an array a"
        )
    try:
        host = plain_array("a", a)
    except ValueError as error:
        raise ValueError(f"can't make an array of this {type(a).__name__}: {error}") from error
    if host.dtype.kind not in "fiub":
        raise TypeError(f"expected real numbers, got {describe(host)}")
    return host


def load(library: Library) -> None:
    """Import a library, or say what to install."""
    try:
        library.namespace()
    except ImportError as error:
        raise ImportError(
            f"the backend {library.name!r} is not installed ({error}): {library.install}"
        ) from error


def open_library(library: Library, device: Device | None, dtype: str | DType) -> Backend:
    """Return the backend of a library on a device, in a dtype.

    Raises
    ------
    ImportError, RuntimeError, ValueError
        See `xprnn.get_backend`.
    """
    load(library)
    xp = library.namespace()
    name = dtype_name(dtype)
    known = tuple(f for f in FLOATS if hasattr(xp, f))
    if name in known:
        library.prepare(name)
        where = library.device(device)
        there = library.dtypes(where)
        known = tuple(f for f in known if f in there)
    if name not in known:
        on = "" if device is None else f" on device {device}"
        standard = f"{name} is not in the array API standard" if name in HALVES else ""
        reason = library.why_not(name) or standard
        raise ValueError(
            f"dtype is {dtype!r}: {library.name} computes in {', '.join(known)}{on}"
            + (f" ({reason})" if reason else "")
        )
    # Taken from an array, because ``xp.float32`` may be a scalar type and not a dtype object.
    made = xp.empty(0, dtype=getattr(xp, name), device=where).dtype
    if dtype_name(made) != name:
        raise ValueError(
            f"dtype is {dtype!r}: {library.name} creates {dtype_name(made)} arrays for it"
        )
    return Backend(library.name, xp, where, made, library)


def _reopen(name: str, device: str, dtype: str) -> Backend:
    return open_library(library_named(name), device, dtype)
