"""Names for what the array API standard leaves untyped.

The standard's arrays and namespaces have no common base class, so a checker can't tell them apart;
these aliases say in a signature what a value is meant to be.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of any backend."""

Namespace: TypeAlias = Any
"""A module (or object) that offers the functions of the Python array API standard."""

Device: TypeAlias = Any
"""What an array's ``device`` is in its own library."""

DType: TypeAlias = Any
"""What an array's ``dtype`` is in its own library."""

Rule: TypeAlias = Callable[..., tuple[Array | None, ...]]
"""An elementwise function: of a gradient, say, and of the arrays that it changes."""
