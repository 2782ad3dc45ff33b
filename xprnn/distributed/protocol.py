"""What a training asks of the processes that it is shared by."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array


@runtime_checkable
class Communicator(Protocol):
    """A group of processes, its ranks, each of which calls the same methods in the same order.

    Arrays are host arrays, contiguous in C order.  Every rank gets the same result, to the bit, and
    the same sums in the same order whenever the same program runs on as many ranks.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """The number of processes."""
        ...

    def all_reduce(self, arrays: Sequence[HostArray]) -> None:
        """Replace each array by its sum over all ranks, in place.

        Each has the same shape and dtype, float32 or float64, on every rank.
        """
        ...

    def gather(self, array: HostArray, counts: Sequence[int]) -> HostArray:
        """Return the arrays of all ranks, concatenated along the first axis by rank.

        Parameters
        ----------
        array : host array, (counts[rank], ...)
        counts : sequence of int
            The first axis of each rank's array; the other axes are equal.
        """
        ...

    def broadcast(self, array: HostArray) -> None:
        """Replace the array by that of rank 0, in place."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...

    def describe(self) -> str:
        """Return in words which process this is, for a message: ``"rank 1 (pid 7 on n2)"``."""
        ...


class Started(Protocol):
    """A sum that has been started; see `OverlappingCommunicator`."""

    def poke(self) -> None:
        """Give it a moment of this process's time."""
        ...

    def wait(self) -> None:
        """Wait until it is done."""
        ...


@runtime_checkable
class OverlappingCommunicator(Communicator, Protocol):
    """A communicator whose sums can be started, and computations go on meanwhile.

    Other calls may come between the start of a sum and its end; sums are started in the same order
    on every rank.
    """

    @property
    def overlap(self) -> bool:
        """Whether a training starts sums while gradients are computed, or all after that."""
        ...

    def start_all_reduce(self, arrays: Sequence[Any]) -> Started:
        """Begin to replace each array by its sum over all ranks, in place.

        They are host arrays, or, of a `DeviceCommunicator`, arrays of its device; nobody reads them
        or writes to them until the sum is done.
        """
        ...


@runtime_checkable
class CompressingCommunicator(Communicator, Protocol):
    """A communicator of trainings that send their dense gradients in fewer bytes."""

    @property
    def compress(self) -> str | None:
        """``"float16"``, or None: as they are."""
        ...

    def exchange(self, array: HostArray, counts: Sequence[int]) -> HostArray:
        """Send each rank its rows of an array; return those for this one.

        Parameters
        ----------
        array : host array, (sum(counts), ...)
        counts : sequence of int
            How many of the rows, one after another, are for each rank.

        Returns
        -------
        host array, (size, counts[rank], ...)
            From each rank.
        """
        ...


@runtime_checkable
class DeviceCommunicator(Communicator, Protocol):
    """A communicator that also takes arrays of a device, and leaves them there.

    Arrays are contiguous in C order.
    """

    def check_backend(self, backend: Backend) -> None:
        """Refuse a network whose arrays it can't take.

        Raises
        ------
        ValueError
            The message says what it needs.
        """
        ...

    def all_reduce_on_device(self, arrays: Sequence[Array]) -> None:
        """Replace each array by its sum over all ranks, in place."""
        ...

    def gather_on_device(self, array: Array, counts: Sequence[int]) -> Array:
        """Return the arrays of all ranks, concatenated along the first axis by rank."""
        ...
