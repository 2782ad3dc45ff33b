"""Backends whose arrays carry tangents, and the ways into and out of them."""

from dataclasses import replace

from xprnn.backend.dual.array import DualArray
from xprnn.backend.dual.kinks import Kink, noting_kinks
from xprnn.backend.handle import Backend
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.libraries.dual import dual_library
from xprnn.backend.types import Array

__all__ = [
    "Kink",
    "dual_backend",
    "host_tangents",
    "lifted",
    "noting_kinks",
    "tangent_of",
    "value_of",
]


def dual_backend(backend: Backend) -> Backend:
    """Return the backend of a backend's dual arrays, on the same device and in the same dtype."""
    library = dual_library(backend.library)
    return replace(backend, name=library.name, xp=library.namespace(), library=library)


def lifted(dual: Backend, value: Array, tangents: Array | None = None) -> Array:
    """Return a dual array.

    Parameters
    ----------
    dual : Backend
        Of `dual_backend`.
    value : array
        Of the library that computes.
    tangents : array, (K, ...), or None
        How it changes along K directions; None if it does not.
    """
    return DualArray(dual.xp, value, tangents)


def value_of(a: Array) -> Array:
    """Return the value of a dual array."""
    return a.value


def tangent_of(a: Array, width: int) -> Array:
    """Return the tangents of a dual array, (K, ...), along K = width directions."""
    space = a.space
    return space.full_tangent(space.part(a), width)


def host_tangents(dual: Backend, a: Array, width: int) -> HostArray:
    """Return the tangents of a dual array as a host array, (K, ...)."""
    return dual.to_numpy(lifted(dual, tangent_of(a, width)))
