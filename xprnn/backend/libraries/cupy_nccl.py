"""Sums over the CUDA devices of several processes, by NCCL through CuPy.

Functions and constants: ``cupy_backends/cuda/libs/nccl.pyx`` of CuPy 14.  A call puts work on
the current stream and returns; see NCCL's user guide, "Group Calls", for several calls that become
one piece of work, and its recipe of an all-gather of unequal counts out of broadcasts.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from xprnn.backend.types import Array, Device

KINDS = (
    *("int8", "uint8", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
)
"""The dtypes that NCCL adds up; CuPy's constants are called ``NCCL_FLOAT16``, for instance."""
BYTES = 128
"""The length of the id by which the processes of a group find each other."""


def library() -> Any:
    """Import CuPy's NCCL.

    Raises
    ------
    ImportError
        If CuPy was built without it, or doesn't find it.
    """
    cupy = importlib.import_module("cupy")
    nccl = getattr(cupy.cuda, "nccl", None)
    if nccl is None or not nccl.available:
        raise ImportError(
            f"CuPy {cupy.__version__} finds no NCCL: pip install nvidia-nccl-cu13 (or -cu12, by "
            "the CUDA that CuPy was built for)"
        )
    return nccl


def new_id() -> bytes:
    """Return the id of a new group; one process makes it, and tells the others."""
    # CuPy's are signed.
    return bytes(number % 256 for number in library().get_unique_id())


class Group:
    """The devices of several processes, one of each.

    Parameters
    ----------
    size, rank : int
    id : bytes, (128,)
        Of `new_id`, the same in every process.
    device : Device
        This process's.

    Raises
    ------
    RuntimeError
        If NCCL fails; as a rule that is said in every process.
    """

    def __init__(self, size: int, rank: int, id: bytes, device: Device) -> None:  # noqa: A002
        self._nccl, self.device, self.rank = library(), device, rank
        signed = tuple(number - 256 if number > 127 else number for number in id)
        with device:
            try:
                self._group = self._nccl.NcclCommunicator(size, signed, rank)
            except Exception as error:
                raise RuntimeError(
                    f"NCCL can't join rank {rank} of {size} on device {device.id}: {error} (the "
                    "variable NCCL_DEBUG=INFO makes it say more; two ranks can't share a device)"
                ) from error

    def add(self, arrays: Sequence[Array]) -> None:
        """Replace each array, contiguous in C order, by its sum over all processes."""
        calls = [
            (a.data.ptr, a.data.ptr, int(a.size), self._kind(a), self._nccl.NCCL_SUM)
            for a in arrays
            if a.size
        ]
        self._grouped(lambda stream: [self._group.allReduce(*call, stream) for call in calls])

    def gather(self, a: Array, counts: Sequence[int]) -> Array:
        """Return the arrays of all processes, concatenated along the first axis."""
        cupy = importlib.import_module("cupy")
        with self.device:
            whole = cupy.empty((sum(counts), *a.shape[1:]), a.dtype)
        each, kind, start = a.dtype.itemsize, self._kind(a), whole.data.ptr
        for length in a.shape[1:]:
            each *= int(length)
        calls = []
        for rank, count in enumerate(counts):
            entries = count * each // a.dtype.itemsize
            if entries:
                sent = a.data.ptr if rank == self.rank else start
                calls.append((sent, start, entries, kind, rank))
            start += count * each
        self._grouped(lambda stream: [self._group.broadcast(*call, stream) for call in calls])
        return whole

    def done(self) -> bool:
        """Whether the device has done what it was asked for.

        Raises
        ------
        RuntimeError
            If NCCL has failed meanwhile.
        """
        self._group.check_async_error()
        with self.device:
            return bool(importlib.import_module("cupy").cuda.get_current_stream().done)

    def abort(self) -> None:
        """End what the device is waiting for."""
        self._group.abort()

    def _grouped(self, calls: Callable[[int], object]) -> None:
        """Make calls that become one piece of work on the current stream."""
        with self.device:
            stream = importlib.import_module("cupy").cuda.get_current_stream().ptr
            self._nccl.groupStart()
            try:
                calls(stream)
            finally:
                self._nccl.groupEnd()

    def _kind(self, a: Array) -> int:
        name = a.dtype.name
        if not a.flags.c_contiguous:
            raise ValueError("the array is not contiguous in C order")
        if name not in KINDS or not hasattr(self._nccl, f"NCCL_{name.upper()}"):
            raise TypeError(f"dtype is {name}: NCCL, as CuPy has it, sends {', '.join(KINDS)}")
        return int(getattr(self._nccl, f"NCCL_{name.upper()}"))
