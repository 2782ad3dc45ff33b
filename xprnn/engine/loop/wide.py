"""Array code in a wider dtype than its arrays', for libraries that would not keep the narrow one.

See `Library.computes_in`: there, a formula such as ½ tanh(½ z) + ½ would return another dtype than
that of z.  So arrays are widened first, and results rounded once, at the end, which is more exact
than rounding each of them.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from xprnn.backend import dtype_name, library_of
from xprnn.backend.library import Library
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory

T = TypeVar("T")


def widened(library: Library, arrays: T) -> T:
    """Return an array, or several in tuples, in the dtype that array code computes in."""
    return _mapped(library, arrays, library.computes_in) if library.computes_in else arrays


def narrowed(library: Library, arrays: T, like: Array) -> T:
    """Return arrays that were computed from widened ones in the dtype of ``like`` again."""
    if not library.computes_in:
        return arrays
    narrow = dtype_name(like.dtype)
    wide = library.computes_in.get(narrow)
    return arrays if wide is None else _mapped(library, arrays, {wide: narrow})


def _mapped(library: Library, arrays: Any, dtypes: Mapping[str, str]) -> Any:
    """Return arrays with some dtypes changed to others; None and booleans stay."""
    xp, made = library.namespace(), dict[int, Array]()

    def mapped(a: Any) -> Any:
        if a is None:
            return None
        if isinstance(a, tuple):
            parts = map(mapped, a)
            return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
        wanted = dtypes.get(dtype_name(a.dtype))
        if wanted is None:
            return a
        # One array in two places, such as du and da, stays one.
        if id(a) not in made:
            made[id(a)] = xp.astype(a, getattr(xp, wanted))
        return made[id(a)]

    return mapped(arrays)


class WideLoops(PlainLoops):
    """The plain loop, computed in a wider dtype than that of its arrays."""

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        library = library_of(u)
        wide = widened(library, (u, recurrent, state))
        return narrowed(library, super().forward(*wide, save=save), u)

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        library = library_of(recurrent.U)
        wide = widened(library, (recurrent, trajectory, dh, d_state))
        return narrowed(library, super().backward(*wide), recurrent.U)
