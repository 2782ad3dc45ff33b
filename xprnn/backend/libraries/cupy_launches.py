"""CuPy's launches of kernels that use shared memory, and whose blocks may wait for each other."""

import importlib
from functools import cache, lru_cache
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.kernels import Limits, SharedLaunch


class _Kernel:
    """A kernel, compiled at its first launch on a device."""

    def __init__(self, name: str, text: str) -> None:
        # Without enable_cooperative_groups, which links a library of the toolkit that its wheels
        # don't have: it is for kernels that include cooperative_groups.h.
        self.kernel = importlib.import_module("cupy").RawKernel(text, name)
        self.name = name
        self.prepared: set[int] = set()

    def __call__(
        self,
        grid: tuple[int, int],
        block: tuple[int, int],
        arguments: tuple[Any, ...],
        shared_bytes: int,
        together: bool,
    ) -> None:
        device = importlib.import_module("cupy").cuda.runtime.getDevice()
        if device not in self.prepared:
            # More than 48 KiB must be asked for.
            self.kernel.max_dynamic_shared_size_bytes = shared_bytes
            self.prepared.add(device)
        try:
            self.kernel.kernel(
                grid,
                block,
                arguments,
                shared_mem=shared_bytes,
                enable_cooperative_groups=together,
            )
        except ValueError as error:
            raise RuntimeError(
                f"the {grid[0]} x {grid[1]} blocks of {self.name} can't be on the device at the "
                f"same time ({error}): XPRNN_CUDA_LOOP=step does without such kernels"
            ) from error


@lru_cache(maxsize=1024)
def with_room(name: str, text: str) -> SharedLaunch:
    """Return the kernel of a source text."""
    return _Kernel(name, text)


@cache
def limits(number: int) -> Limits:
    """Return what the device of this number has."""
    attributes = importlib.import_module("cupy").cuda.Device(number).attributes
    capability = (attributes["ComputeCapabilityMajor"], attributes["ComputeCapabilityMinor"])
    shared = attributes["MaxSharedMemoryPerBlockOptin"]
    return Limits(attributes["MultiProcessorCount"], shared, capability)


class Watch:
    """Two numbers in memory that host and device share, where a kernel says that it has given up.

    Looking at them costs nothing and waits for nothing.
    """

    def __init__(self) -> None:
        memory = importlib.import_module("cupy").cuda.alloc_pinned_memory(16)
        self.address = int(memory.ptr)
        self.numbers = np.frombuffer(memory, np.int64, 2)
        self.numbers[:] = 0
        self.names: list[str] = []

    def ticket(self, what: str) -> int:
        """Return the number of a kernel."""
        if what not in self.names:
            self.names.append(what)
        return self.names.index(what) + 1

    def look(self) -> None:
        """Raise a RuntimeError if a kernel has given up."""
        if not self.numbers[0]:
            return
        what = self.names[int(self.numbers[0]) - 1]
        count = int(self.numbers[1])
        self.numbers[:] = 0
        raise RuntimeError(
            f"the CUDA kernel {what} has given up: a block waited some ten seconds for others, "
            f"until {count} of them had come, and what they should have computed is NaN. "
            "XPRNN_CUDA_LOOP=step does without such kernels"
        )


@cache
def watch() -> Watch:
    """Return the one of this process, made when it is first needed."""
    return Watch()
