"""The array libraries that xprnn knows, found by name or by one of their arrays.

These functions take an array or a name and return a `Library`, or something that it makes:

===================  ==========================================================================
`library_named`      the library of a name, or the user namespace of ``module:attribute``
`find_library`       the library of an array; None if it is not an array of a library known here
`library_of`         the library of an array; TypeError if it is not an array of such a library
`namespace_of`       the array API namespace of an array
`from_host`          a host array, copied to the library and device of another array
===================  ==========================================================================

`prefer` decides which library an array belongs to where two could have made it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xprnn.backend.dual.array import DualArray
from xprnn.backend.host import arrays
from xprnn.backend.host.arrays import HostArray, changes_arithmetic, instead
from xprnn.backend.libraries.cupy import CuPy
from xprnn.backend.libraries.jax import Jax
from xprnn.backend.libraries.namespace import UserNamespace
from xprnn.backend.libraries.numpy import NumPy
from xprnn.backend.libraries.strict import Strict
from xprnn.backend.libraries.torch import Torch
from xprnn.backend.library import Library
from xprnn.backend.types import Array, DType, Namespace

LIBRARIES: dict[str, Library] = {
    library.name: library for library in (NumPy(), CuPy(), Torch(), Jax(), Strict())
}
NAMES = tuple(LIBRARIES)
"""The names of all backends, installed or not."""

_NUMPY, _NUMPY_ARRAY = LIBRARIES["numpy"], arrays.np.ndarray

_NO_ARRAYS = (list, tuple, range, int, float, bool, str, type(None))
"""Classes that no library need be asked about."""

_user_namespaces: dict[str, UserNamespace] = {}
_preferred: ContextVar[Library | None] = ContextVar("preferred", default=None)


def library_named(name: str) -> Library:
    """Return the library of a name, or the user namespace that ``module:attribute`` names.

    A user namespace is imported and checked the first time that it is asked for.

    Raises
    ------
    ImportError, ValueError
        If the name is unknown, or the user namespace can't be used; see `UserNamespace`.
    """
    if name in LIBRARIES:
        return LIBRARIES[name]
    if ":" not in str(name):
        known = ", ".join(repr(n) for n in (*LIBRARIES, "auto"))
        raise ValueError(
            f"unknown backend {name!r}: known are {known}, "
            "and 'module:namespace' for a namespace of your own"
        )
    if name not in _user_namespaces:
        added = UserNamespace(name)
        other = find_library(added.namespace().empty(0))
        added.shares_class = (
            other is not None and type(other.namespace().empty(0)) is added.array_class
        )
        _user_namespaces[name] = added
    return _user_namespaces[name]


def users_dtype_name(dtype: DType) -> str | None:
    """Return the name of a dtype of a user namespace; None if it is not one of theirs."""
    for added in _user_namespaces.values():
        name = added.dtype_name(dtype)
        if name is not None:
            return name
    return None


def find_library(a: object) -> Library | None:
    """Return the library that ``a`` is an array of; None if it is not an array of a known one.

    No library is imported.
    """
    # torch.compile can't follow a context variable; the arrays that it compiles for are its own.
    preferred = None if arrays.being_compiled() else _preferred.get()
    if preferred is not None and preferred.is_array(a):
        return preferred
    if type(a) in _NO_ARRAYS:
        return None
    for added in _user_namespaces.values():
        # User namespaces first: their array class may be derived from a library's.
        if not added.shares_class and type(a) in added.array_classes:
            return added
    for library in LIBRARIES.values():
        # A library that is not imported has no arrays.  None in sys.modules bars the import.
        if sys.modules.get(library.module) is not None and library.is_array(a):
            return library
    if isinstance(a, DualArray):
        made_by: Library = a.space.library
        return made_by
    return None


def library_of(a: object) -> Library:
    """Return the library that ``a`` is an array of; TypeError if it is not an array."""
    if type(a) is _NUMPY_ARRAY and not _user_namespaces and _preferred.get() is None:
        return _NUMPY  # asked a dozen times in every pass, of a small network too
    library = find_library(a)
    if library is None:
        if changes_arithmetic(type(a)):
            raise TypeError(
                f"expected an array, got a {type(a).__name__}: {instead('it', type(a))}"
            )
        raise TypeError(
            f"expected an array of {', '.join(LIBRARIES)}, got an object of type {type(a).__name__}"
        )
    return library


def namespace_of(a: Array) -> Namespace:
    """Return the array API namespace of an array; TypeError if it is not an array."""
    return library_of(a).namespace()


def from_host(host: HostArray, *, beside: Array) -> Array:
    """Copy a host array, dtype unchanged, to the library and the device of the array ``beside``."""
    library = library_of(beside)
    return library.from_host(host, library.device_of(beside))


@contextmanager
def prefer(library: Library) -> Iterator[None]:
    """Inside a ``with`` block, treat every array that ``library`` could have made as its own.

    A user namespace that wraps a library has that library's arrays, so an array alone can't tell
    which of the two should compute with it.
    """
    token = _preferred.set(library)
    try:
        yield
    finally:
        _preferred.reset(token)
