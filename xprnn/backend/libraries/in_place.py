"""Rows and columns of an array changed in place."""

from xprnn.backend.types import Array


def add_in_place(a: Array, index: Array, values: Array, axis: int) -> Array:
    """Add to rows (axis 0) or columns (axis 1) at an index without duplicates."""
    if axis == 0:
        a[index] += values
    else:
        a[:, index] += values
    return a


def put_in_place(a: Array, index: Array, values: Array, axis: int) -> Array:
    """Replace rows (axis 0) or columns (axis 1)."""
    if axis == 0:
        a[index] = values
    else:
        a[:, index] = values
    return a
