"""What the checks of gradients and of parity share: copies on the host, sizes, names of entries."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array

Index: TypeAlias = tuple[int, ...]


def host_copy(backend: Backend, a: Array) -> HostArray:
    """Return a copy of an array on the host, which no later change of the array reaches."""
    return np.array(backend.to_numpy(a))


def host_copies(backend: Backend, arrays: Mapping[str, Array]) -> dict[str, HostArray]:
    """Return copies of named arrays on the host."""
    return {name: host_copy(backend, a) for name, a in arrays.items()}


def largest(arrays: Iterable[HostArray]) -> float:
    """Return the largest absolute value of all entries; 0 if there are none, NaN if one is NaN."""
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def largest_finite(a: HostArray) -> float:
    """Return the largest absolute value of the finite entries; 0 if there are none."""
    return float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))


def index_at(a: HostArray, position: int) -> Index:
    """Return the index of an entry from its position in row-major order."""
    return tuple(int(k) for k in np.unravel_index(position, a.shape))


def entry_name(name: str, index: Index) -> str:
    """Return the name of an entry, ``"weight_hh_l0[3, 1]"``; of a scalar the array's name."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name
