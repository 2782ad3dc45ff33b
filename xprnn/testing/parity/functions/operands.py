"""The arrays that the functions are called with, in every layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.backend.types import Array, Device, Namespace

SHAPE = (4, 5)
SMALLER = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3), SHAPE)
"""The shapes that are tried, from the smallest, when a function is wrong."""

Lay: TypeAlias = Callable[[Namespace, Callable[[HostArray], Array], HostArray], Array]


@dataclass
class Operands:
    """The arrays that the functions are called with.

    Attributes
    ----------
    x, y : array, (m, n) and (n, m)
        Multiples of 1/16, so that their sums and products are exact in float32.
    large : array, (m, n)
        8 x.
    positive : array, (m, n)
    flags : array of bool, (m, n)
    whole : array of int, (m, n)
    index : array of int, (4,)
        From 0 to the smaller of m and n, less one; with one number twice.
    ascending : array of int, (3,)
    indexing : dtype
        The dtype of indices.
    device : device
    used : set of str
        The names of the operands that have been asked for.
    """

    arrays: Mapping[str, Any]
    indexing: Any
    device: Device
    used: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        if name not in self.arrays:
            raise AttributeError(name)
        self.used.add(name)
        return self.arrays[name]


def host_operands(shape: tuple[int, int] = SHAPE, *, rows_alike: bool = False) -> dict[str, Any]:
    """Return the operands' values, the same for every backend.

    With ``rows_alike`` all rows of a matrix are the same, as in an array that was broadcast.
    """
    rng = generator(0)
    m, n = SHAPE
    smaller = max(1, min(shape))
    found = {
        "x": rng.integers(-40, 41, size=(m, n)) / 16,
        "y": rng.integers(-40, 41, size=(n, m)) / 16,
        "positive": rng.integers(1, 81, size=(m, n)) / 16,
        "flags": rng.integers(0, 2, size=(m, n)) == 1,
        "whole": rng.integers(-9, 10, size=(m, n)),
    }
    found["large"] = 8.0 * found["x"]
    found = {
        name: a[: shape[1], : shape[0]] if name == "y" else a[: shape[0], : shape[1]]
        for name, a in found.items()
    }
    if rows_alike:
        found = {name: np.repeat(a[:1], len(a), axis=0) for name, a in found.items()}
    return found | {
        "index": np.asarray([3, 0, 3, 1]) % smaller,
        "ascending": np.asarray([0, 1, 3]),
    }


def _contiguous(_: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    return put(a)


def _transposed(_: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    return put(np.ascontiguousarray(a.T)).T if a.ndim == 2 else put(a)


def _flipped(xp: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    return xp.flip(put(np.ascontiguousarray(np.flip(a))))


def _strided(_: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    return put(np.repeat(a, 2, axis=-1))[..., ::2]


def _offset(_: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    first = np.concatenate((a[-1:], a)) if len(a) else np.zeros((1, *a.shape[1:]), a.dtype)
    return put(first)[1:, ...]


def _broadcast(xp: Namespace, put: Callable[[HostArray], Array], a: HostArray) -> Array:
    if a.ndim == 1 or len(a) < 2:
        return put(a)
    return xp.broadcast_to(put(a[:1]), a.shape)


LAYOUTS: Mapping[str, Lay] = {
    "contiguous": _contiguous,
    "transposed": _transposed,
    "flipped": _flipped,
    "strided": _strided,
    "offset": _offset,
    "broadcast": _broadcast,
}
"""By name, how an array of the same values gets another layout in memory."""


def operands(
    backend: Backend, layout: str = "contiguous", shape: tuple[int, int] = SHAPE
) -> Operands:
    """Return the operands on a backend, in a layout."""
    hosts = host_operands(shape, rows_alike=layout == "broadcast")
    lay = LAYOUTS[layout]
    return Operands(
        {name: lay(backend.xp, backend.asarray, a) for name, a in hosts.items()},
        backend.library.indexing_dtype(backend.device),
        backend.device,
    )


def scalar_operands(backend: Backend) -> Operands:
    """Return operands without dimensions."""
    hosts = host_operands()
    arrays = {name: backend.asarray(a.ravel()[:1].reshape(())) for name, a in hosts.items()}
    dtype = backend.library.indexing_dtype(backend.device)
    return Operands(arrays, dtype, backend.device)
