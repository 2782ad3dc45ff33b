"""Opening a `Backend`: by name, or for an array; and which backends can be opened here."""

from typing import NamedTuple

from xprnn.backend.handle import Backend, describe, dtype_name, load, open_library
from xprnn.backend.host.arrays import changes_arithmetic, instead
from xprnn.backend.registry import LIBRARIES, find_library, library_named
from xprnn.backend.types import FLOATS, Array, Device, DType


def get_backend(
    name: str | Backend = "numpy",
    device: Device | None = None,
    dtype: str | DType | None = None,
) -> Backend:
    """Open a backend.

    Parameters
    ----------
    name : str or Backend
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, ``"array_api_strict"``, or ``"auto"``:
        CuPy where a CUDA device works, else NumPy.  ``"module:attribute"`` (``"module:"`` for the
        module itself) is imported as a user namespace: any object with the functions of the array
        API standard, of which nothing beyond the standard is used.  Of functions that it lacks,
        each raises an error where something needs it; everything else runs.  A device may follow
        the name, as in ``"torch@cuda:1"`` or ``"module:attribute@gpu"``.  A `Backend` is returned
        unchanged, or with the device and dtype given.
    device : optional
        A device in the library's own words (``"cuda:1"``, ``"cpu"``, a device object).
        None: the library's default.
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        The floating dtype to compute in, as text or as a dtype object.  None: float32.  bfloat16 is
        for torch, JAX, and CuPy from version 14 on with the package ml_dtypes.  NumPy does not have
        it, so numbers come to the host in float32.

    Returns
    -------
    Backend

    Raises
    ------
    ImportError
        If the library is missing; the message says what to install.  If the module of a user
        namespace can't be imported.
    RuntimeError
        If the library is installed, but no device works; the message says why.
    ValueError
        If the name, the device or the dtype is unknown or given twice, the device lacks the dtype,
        or a user namespace can't make arrays.

    Notes
    -----
    A user namespace whose arrays have a class that no known library has is a backend like any
    other.  One that wraps another library and has that library's arrays is used for the network
    alone: losses, optimizers and sparse gradients find the namespace by the array, and so use the
    functions of the wrapped library.  Only `xprnn.testing.assert_parity` uses the functions of such
    a user namespace everywhere.

    JAX computes in float64 only with its process-wide flag ``jax_enable_x64``; asking for float64
    here turns it on.

    Examples
    --------
    >>> be = get_backend("numpy", dtype="float64")
    >>> be
    Backend(name='numpy', device='cpu', dtype=dtype('float64'))
    >>> be.asarray([1, 2.5])
    array([1. , 2.5])
    """
    if isinstance(name, Backend):
        if device is None and dtype is None:
            return name
        return open_library(
            name.library,
            name.device if device is None else device,
            name.dtype if dtype is None else dtype,
        )
    wanted = "float32" if dtype is None else dtype
    name, _, place = str(name).partition("@")
    if place and device is not None:
        raise ValueError(f"the device is given twice: {place!r} in the name, and {device!r}")
    device = place or device
    if name == "auto":
        return open_library(LIBRARIES["cupy" if probe("cupy").usable else "numpy"], device, wanted)
    return open_library(library_named(name), device, wanted)


class Probe(NamedTuple):
    """What trying a library out has found.

    Attributes
    ----------
    name : str
    version : str or None
        None if it can't be imported.
    devices : tuple of str
        Empty if it can't be used.
    reason : str
        Why it can't be used; empty if it can.
    """

    name: str
    version: str | None
    devices: tuple[str, ...]
    reason: str

    @property
    def usable(self) -> bool:
        """Whether it can be imported and has a device that works."""
        return bool(self.devices)


def probe(name: str) -> Probe:
    """Try a library out: import it, and open its default device."""
    version = None
    try:
        library = library_named(name)
        load(library)
        version = library.version()
        library.device(None)
        return Probe(name, version, library.devices(), reason="")
    except (ImportError, RuntimeError, ValueError) as error:
        return Probe(name, version, (), reason=str(error))


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can be imported and have a device that works.

    It imports every library that is installed, which may take seconds.
    """
    return tuple(name for name in LIBRARIES if probe(name).usable)


def backend_of(a: Array) -> Backend:
    """Return the backend of an array: its library, its device, and its floating dtype.

    Raises
    ------
    TypeError
        If ``a`` is not an array of a known library, or its dtype is not floating.
    """
    library = find_library(a)
    if library is None or dtype_name(a.dtype) not in FLOATS:
        hint = f": {instead('it', type(a))}" if changes_arithmetic(type(a)) else ""
        raise TypeError(
            f"expected a floating array of {', '.join(LIBRARIES)}, got {describe(a)}{hint}"
        )
    return open_library(library, library.device_of(a), a.dtype)
