"""Names for the types that the array API standard leaves open.

The standard's arrays, namespaces, devices and dtypes have no base classes, so for a type checker
they are `Any`.  These aliases tell the reader of a signature what a value is.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of any backend."""

Namespace: TypeAlias = Any
"""A module (or object) that offers the functions of the Python array API standard."""

Device: TypeAlias = Any
"""A device, as the array library represents it."""

DType: TypeAlias = Any
"""A dtype, as the array library represents it."""

Rule: TypeAlias = Callable[..., tuple[Array | None, ...]]
"""A function that is applied to arrays block by block; see `Operations.elementwise`."""

HALVES = ("float16", "bfloat16")
"""The names of the dtypes of 16 bits, none of which is in the standard."""

FLOATS = (*HALVES, "float32", "float64")
"""The names of the dtypes that networks compute in."""

REALS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), *FLOATS)
"""The names of the dtypes that a backend's arrays may have."""
