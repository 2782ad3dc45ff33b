"""What the names in the source of a compiled formula mean."""

from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.numba import functions, intrinsics
from xprnn.engine.loop.program import FUNCTIONS


def formula_names(dtype: str) -> dict[str, Any]:
    """Return the globals that the loops of `xprnn.engine.loop.numba.rows` need, and their rows."""
    scalar, size = getattr(np, dtype), np.dtype(dtype).itemsize
    names: dict[str, Any] = {
        name: getattr(np, name) for name in FUNCTIONS if name != "round" and hasattr(np, name)
    }
    return names | {
        "round": np.rint,
        "floor_divide": functions.floor_divide,
        "maximum": functions.maximum,
        "minimum": functions.minimum,
        "tanh": getattr(functions, f"tanh{8 * size}"),
        "row": intrinsics.row,
        "empty": np.empty,
        "dtype": scalar,
        "boolean": np.bool_,
        "zero": scalar(0),
        "one": scalar(1),
        "SIZE": size,
    }
