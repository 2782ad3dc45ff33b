"""Ranks with a CUDA device each, whose gradients NCCL adds up without leaving the devices."""

import os
import socket
import time
from collections.abc import Sequence

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.libraries import cupy_nccl
from xprnn.backend.types import Array
from xprnn.distributed.hub import Hub
from xprnn.distributed.mpi import LIMIT
from xprnn.distributed.variables import place

BUSY, NAP = 1e-3, 1e-4
"""Seconds for which a rank that waits for its device only asks, and then sleeps in between."""


class NCCL:
    """The processes that ``torchrun``, ``srun`` or ``mpiexec`` has started, with a device each.

    They find each other by the launcher's variables: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT, or those of Slurm, MPICH and Open MPI; see docs/distributed.md.  Gradients of
    networks on CuPy stay on the devices; short messages and host arrays go over TCP, by way of
    rank 0.

    Parameters
    ----------
    device : str or int, optional
        None: the device of the process's number on its machine.
    limit : float
        Seconds that a rank waits for the others before it gives up.

    Attributes
    ----------
    device : cupy.cuda.Device
    device_name : str
        As ``get_backend`` takes it: ``"cuda:1"``.
    names : list of str
        Each rank in words, as `describe` gives it.

    Raises
    ------
    ImportError
        If CuPy is not installed, or finds no NCCL.
    RuntimeError
        If a variable is missing, no device works, or the processes can't connect.
    ValueError
        If a variable is not such a number or contradicts another, or there are more ranks than
        devices.
    LostRankError
        If the others do not come in time.
    """

    def __init__(self, *, device: str | int | None = None, limit: float = LIMIT) -> None:
        self.limit = checks.number("limit", limit, open_=True)
        here = place(os.environ)
        backend = get_backend("cupy")
        devices = backend.library.devices()
        if device is None and here.local >= len(devices):
            raise ValueError(
                f"LOCAL_RANK is {here.local}, but CuPy has {', '.join(devices)}: expected at most "
                "as many ranks on a machine as it has devices; where each rank sees a device of "
                'its own, pass a communicator, NCCL(device="cuda:0")'
            )
        backend = get_backend("cupy", f"cuda:{here.local}" if device is None else device)
        cupy_nccl.library()
        self.rank, self.size = here.rank, here.size
        self.device = backend.device
        self.device_name = backend.library.device_name(backend.device)
        self._process = os.getpid()
        me = f"rank {self.rank} (pid {os.getpid()} on {socket.gethostname()}, {self.device_name})"
        self._hub = Hub(here, me, self.limit, cupy_nccl.new_id)
        self.names: list[str] = self._hub.names
        self._group = cupy_nccl.Group(self.size, self.rank, self._hub.told, self.device)

    def all_reduce(self, arrays: Sequence[HostArray]) -> None:
        for array in arrays:
            parts = self._exchange(array)
            total = parts[0].copy()
            for part in parts[1:]:
                total += part
            array[...] = total.reshape(array.shape)

    def gather(self, array: HostArray, counts: Sequence[int]) -> HostArray:
        whole: HostArray = np.concatenate(self._exchange(array))
        return whole.reshape(sum(counts), *array.shape[1:])

    def broadcast(self, array: HostArray) -> None:
        empty = np.empty(0, dtype=array.dtype)
        first = self._exchange(empty if self.rank else array)[0]
        array[...] = first.reshape(array.shape)

    def barrier(self) -> None:
        self._exchange(np.empty(0))

    def describe(self) -> str:
        return self.names[self.rank]

    def check_backend(self, backend: Backend) -> None:
        name = backend.library.device_name(backend.device)
        if backend.name != "cupy" or backend.device != self.device:
            raise ValueError(
                f"the network is on {backend.name}, device {name}: NCCL needs one on cupy, device "
                f'{self.device_name}; expected RNN(..., backend="cupy", '
                f'device="{self.device_name}"), the device of LOCAL_RANK'
            )

    def all_reduce_on_device(self, arrays: Sequence[Array]) -> None:
        self._check()
        self._group.add(arrays)
        self._wait()

    def gather_on_device(self, array: Array, counts: Sequence[int]) -> Array:
        self._check()
        whole = self._group.gather(array, counts)
        self._wait()
        return whole

    def _exchange(self, array: HostArray) -> list[HostArray]:
        self._check()
        return [np.frombuffer(part, array.dtype) for part in self._hub.exchange(array.tobytes())]

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked after NCCL had started, and can't use it: expected a "
                'process that is spawned, as multiprocessing.get_context("spawn") makes them'
            )

    def _wait(self) -> None:
        """Wait for the device, which would itself wait forever for that of a rank that has ended.

        The loss is read after every batch anyway, so the device gets no less work by this.
        """
        if self.size == 1:
            return
        start = time.perf_counter()
        try:
            while not self._group.done():
                waited = time.perf_counter() - start
                if waited > BUSY:
                    self._hub.check()
                    time.sleep(NAP)
                if waited > self.limit:
                    raise self._hub.give_up(
                        f"the devices of the other ranks did not answer {self.describe()} for "
                        f"{self.limit:g} s"
                    )
        except RuntimeError:
            # Or the end of this process would wait for the device.
            self._group.abort()
            raise
