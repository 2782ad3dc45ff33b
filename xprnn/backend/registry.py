"""The array libraries that xprnn knows, by name; and whose an array is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xprnn.backend.host.arrays import HostArray
from xprnn.backend.libraries.cupy import CuPy
from xprnn.backend.libraries.jax import Jax
from xprnn.backend.libraries.namespace import Own
from xprnn.backend.libraries.numpy import NumPy
from xprnn.backend.libraries.strict import Strict
from xprnn.backend.libraries.torch import Torch
from xprnn.backend.library import Library
from xprnn.backend.types import Array, Namespace

LIBRARIES: dict[str, Library] = {
    library.name: library for library in (NumPy(), CuPy(), Torch(), Jax(), Strict())
}

_own: dict[str, Own] = {}
_preferred: ContextVar[Library | None] = ContextVar("preferred", default=None)


def library_named(name: str) -> Library:
    """Return the library of that name, or the namespace of the user's own, ``module:attribute``.

    Raises
    ------
    ImportError, ValueError
        If it is unknown, or can't be used; see `Own`.
    """
    if name in LIBRARIES:
        return LIBRARIES[name]
    if ":" not in str(name):
        known = ", ".join(repr(n) for n in (*LIBRARIES, "auto"))
        raise ValueError(
            f"unknown backend {name!r}: known are {known}, "
            "and 'module:namespace' for a namespace of your own"
        )
    if name not in _own:
        own = Own(name)
        other = library_of(own.namespace().empty(0))
        own.shared = other is not None and type(other.namespace().empty(0)) is own.kind
        _own[name] = own
    return _own[name]


def library_of(a: object) -> Library | None:
    """Return the library that ``a`` is an array of, without importing any; None if of none."""
    preferred = _preferred.get()
    if preferred is not None and preferred.is_array(a):
        return preferred
    for own in _own.values():
        # Before the libraries that are known, because its class may be derived from one of theirs.
        if not own.shared and type(a) is own.kind:
            return own
    for library in LIBRARIES.values():
        # An array of a library can't exist before its module does (None: its import is barred).
        if sys.modules.get(library.module) is not None and library.is_array(a):
            return library
    return None


@contextmanager
def prefer(library: Library) -> Iterator[None]:
    """Inside a ``with`` block, take arrays that may be this library's for this library's.

    A namespace that wraps another has that one's arrays, so an array alone can't say whose it is.
    """
    token = _preferred.set(library)
    try:
        yield
    finally:
        _preferred.reset(token)


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


NAMES = tuple(LIBRARIES)
"""Every backend's name, installed or not."""
