"""The array libraries that xprnn knows, by name."""

import sys

from xprnn.backend._cupy import CuPy
from xprnn.backend._jax import Jax
from xprnn.backend._library import Library
from xprnn.backend._numpy import NumPy
from xprnn.backend._strict import Strict
from xprnn.backend._torch import Torch
from xprnn.backend.host import HostArray
from xprnn.backend.types import Array, Namespace

LIBRARIES: dict[str, Library] = {
    library.name: library for library in (NumPy(), CuPy(), Torch(), Jax(), Strict())
}


def library_of(a: object) -> Library | None:
    """Return the library that ``a`` is an array of, without importing any; None if of none."""
    for library in LIBRARIES.values():
        # An array of a library can't exist before its module does (None: its import is barred).
        if sys.modules.get(library.module) is not None and library.is_array(a):
            return library
    return None


def namespace_of(a: Array) -> Namespace:
    """Return the array API namespace of an array; TypeError if no known library made it."""
    return primitives_of(a).namespace()


def from_host_beside(a: Array, host: HostArray) -> Array:
    """Copy a host array, in its own dtype, to the library and the device of ``a``."""
    library = primitives_of(a)
    return library.from_host(host, library.device_of(a))


def primitives_of(a: object) -> Library:
    """Return the library that made an array; TypeError if no known one did."""
    library = library_of(a)
    if library is None:
        raise TypeError(
            f"expected an array of {', '.join(LIBRARIES)}, got an object of type {type(a).__name__}"
        )
    return library
