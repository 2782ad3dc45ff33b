"""The gradient of a whole batch, from those of the ranks' parts.

::

    g = Σ_r g_r                     if the loss is a sum                    (1)
    g = Σ_r n_r g_r / Σ_r n_r       if it is a mean over n_r entries, or over entries whose weights
                                    sum to n_r

A dense gradient is added up; the rows or columns of a sparse one are gathered, and those of equal
index added; the factors of a factored one are gathered, because

    Σ_r L_rᵀ R_r = (L_0; L_1; ...)ᵀ (R_0; R_1; ...)                         (2)

where that moves fewer numbers than the sum of whole matrices.  The order of every sum is that of
the ranks.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.distributed.compression import Compression
from xprnn.distributed.protocol import Communicator, DeviceCommunicator
from xprnn.engine.gradients import (
    FactoredGradient,
    GradientArray,
    SparseGradient,
    dense,
    sum_columns,
    sum_rows,
    trimmed,
)

DENSE, SPARSE, FACTORED = 0, 1, 2
ALIGNED = 16
"""Each gradient begins at a multiple of this many numbers: a cache line of float32."""


class Packed(NamedTuple):
    """Gradients in the arrays that are sent: views of them by name, and where they are in one."""

    arrays: list[Any]
    views: dict[str, Any]
    places: dict[str, tuple[int, int]]


def special(gradients: Mapping[str, GradientArray]) -> int:
    """Return how many gradients are not dense."""
    return sum(isinstance(g, SparseGradient | FactoredGradient) for g in gradients.values())


def layouts(gradients: Mapping[str, GradientArray]) -> int:
    """Return a number that tells in which order each gradient's numbers lie in memory."""
    turned = [_turned(g) for g in gradients.values()]
    return zlib.crc32(bytes(turned)) if any(turned) else 0


def summed(
    communicator: Communicator,
    backend: Backend,
    gradients: Mapping[str, GradientArray],
    share: float,
    *,
    all_dense: bool,
    alike: bool = False,
    compression: Compression | None = None,
) -> dict[str, GradientArray]:
    """Return Σ_r share_r g_r over all ranks r, the same on each.

    Parameters
    ----------
    communicator : Communicator
    backend : Backend
    gradients : mapping of str to array, SparseGradient or FactoredGradient
        Of this rank's part; of the same names in the same order on every rank.
    share : float
        The factor of this rank's gradients: n_r / Σ n_r, or 1.
    all_dense : bool
        Whether that is known of every rank's gradients.
    alike : bool
        Whether it is known that they lie in memory in the same order on every rank; see `layouts`.
    compression : Compression, optional
        Adds up the dense ones; sparse and factored ones are sent as they are.
    """
    mine = {name: trimmed(g) for name, g in gradients.items()}
    forms = np.array([[_form(g) for g in mine.values()]])
    if not all_dense:
        forms = communicator.gather(forms, (1,) * communicator.size)
    found: dict[str, GradientArray] = {}
    whole: dict[str, Array] = {}
    for k, (name, g) in enumerate(mine.items()):
        kinds, counts = forms[:, k, 0], forms[:, k, 1].tolist()
        if (kinds == SPARSE).all():
            found[name] = _gathered(communicator, backend, g, counts, share)
        elif (kinds == FACTORED).all() and _pays(g, sum(counts)):
            found[name] = _joined(communicator, backend, g, counts, share)
        else:
            whole[name] = dense(g)
    if whole:
        alike = alike and all_dense and compression is None
        part = packed(communicator, backend, whole, share, alike=alike)
        if compression is not None:
            compression.all_reduce(part.arrays[0], part.places)
        elif isinstance(communicator, DeviceCommunicator):
            communicator.all_reduce_on_device(part.arrays)
        else:
            communicator.all_reduce(part.arrays)
        found |= {name: backend.asarray(view) for name, view in part.views.items()}
    return {name: found[name] for name in mine}


def _form(g: GradientArray) -> tuple[int, int]:
    """Return the form of a gradient, and of how many rows or columns it consists."""
    if isinstance(g, SparseGradient):
        return SPARSE, int(g.indices.shape[0])
    return (FACTORED, int(g.left.shape[0])) if isinstance(g, FactoredGradient) else (DENSE, 0)


def _pays(g: FactoredGradient, rows: int) -> bool:
    """Whether the factors are fewer numbers than an all-reduce of the matrix moves: it, twice."""
    return rows * sum(g.shape) < 2 * math.prod(g.shape)


def packed(
    communicator: Communicator,
    backend: Backend,
    whole: Mapping[str, Array],
    share: float,
    *,
    alike: bool = False,
) -> Packed:
    """Return dense gradients times this rank's share, in one array, so that there is one message.

    On a device each keeps an array of its own.
    """
    if isinstance(communicator, DeviceCommunicator):
        parts = {name: _scaled(backend, g, share) for name, g in whole.items()}
        return Packed(list(parts.values()), parts, {})
    # An update may keep its gradients, so the buffer is new each time.
    hosts = {name: backend.to_numpy(g) for name, g in whole.items()}
    starts, length = {}, 0
    for name, host in hosts.items():
        starts[name] = length
        length += -(-host.size // ALIGNED) * ALIGNED
    buffer = np.empty(length, dtype=_wide(backend))
    views = {}
    for name, host in hosts.items():
        start = starts[name]
        view = buffer[start : start + host.size]
        # A transposed matrix is summed, and handed on, in the order of its memory, if that is the
        # same on all ranks.
        turned = alike and _turned(whole[name])
        view = view.reshape(host.shape[::-1]).T if turned else view.reshape(host.shape)
        np.multiply(host, share, out=view, casting="same_kind")
        buffer[start + host.size : start + -(-host.size // ALIGNED) * ALIGNED] = 0
        views[name] = view
    return Packed(
        [buffer], views, {k: (start, start + hosts[k].size) for k, start in starts.items()}
    )


def _turned(g: GradientArray) -> bool:
    """Whether a gradient is a transposed matrix of NumPy's."""
    if not isinstance(g, np.ndarray) or g.ndim != 2:
        return False
    return g.flags.f_contiguous and not g.flags.c_contiguous


def _gathered(
    communicator: Communicator,
    backend: Backend,
    g: SparseGradient,
    counts: Sequence[int],
    share: float,
) -> SparseGradient:
    """Return the sum of sparse gradients; ``counts`` are each rank's rows or columns."""
    rows = g.values if g.axis == 0 else g.values.T
    if isinstance(communicator, DeviceCommunicator):
        whole = backend.xp.astype(g.indices, backend.xp.int64, copy=False)
        at = communicator.gather_on_device(backend.library.kernels().contiguous(whole), counts)
    else:
        indices = np.ascontiguousarray(backend.to_numpy(g.indices), dtype=np.int64)
        at = backend.asarray(communicator.gather(indices, counts))
    values = _from_all(communicator, backend, rows, counts, share)
    count = g.shape[g.axis]
    return sum_rows(values, at, count) if g.axis == 0 else sum_columns(values, at, count)


def _joined(
    communicator: Communicator,
    backend: Backend,
    g: FactoredGradient,
    counts: Sequence[int],
    share: float,
) -> FactoredGradient:
    """Return the sum of factored gradients, (2)."""
    left = _from_all(communicator, backend, g.left, counts, 1.0)
    return FactoredGradient(left, _from_all(communicator, backend, g.right, counts, share))


def _from_all(
    communicator: Communicator, backend: Backend, rows: Array, counts: Sequence[int], share: float
) -> Array:
    """Return the rows of all ranks, each times its share."""
    if isinstance(communicator, DeviceCommunicator):
        part = _scaled(backend, rows, share)
        return backend.asarray(communicator.gather_on_device(part, counts))
    host: HostArray = np.empty(tuple(rows.shape), dtype=_wide(backend))
    np.multiply(backend.to_numpy(rows), share, out=host, casting="same_kind")
    return backend.asarray(communicator.gather(host, counts))


def _scaled(backend: Backend, g: Array, share: float) -> Array:
    """Return a gradient times a rank's share: a new array on the device, contiguous in C order."""
    wide = backend.xp.astype(g, getattr(backend.xp, _wide(backend)), copy=False)
    return backend.library.kernels().contiguous(wide * share)


def _wide(backend: Backend) -> str:
    """Return the dtype that is sent: sums of 16-bit floats would lose digits, and MPI has none."""
    return "float64" if backend.dtype_name == "float64" else "float32"
