"""A stand-in for CuPy's NCCL: devices of several processes, whose sums a process forms on the host.

It has what `xprnn.backend.libraries.cupy_nccl` touches, with CuPy's names and arguments
(``cupy_backends/cuda/libs/nccl.pyx``), and reads and writes memory at addresses.
"""

import ctypes
import os
import socket
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from tests.device_blas import bfloat16

available = True
NCCL_SUM = 0
NCCL_INT8, NCCL_UINT8, NCCL_INT32, NCCL_UINT32, NCCL_INT64, NCCL_UINT64 = range(6)
NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64, NCCL_BFLOAT16 = range(6, 10)
DTYPES: list[Any] = [
    *("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"),
    bfloat16,
]
LENGTH = 128
KEY = b"stand-in"

_doors: dict[int, Listener] = {}
_grouped: list[list[Any]] = []


class NcclError(RuntimeError):
    """What NCCL finds wrong."""


def get_unique_id() -> tuple[int, ...]:
    """Listen; the id is the address, in signed characters as CuPy's."""
    door = Listener(("127.0.0.1", 0), authkey=KEY)
    port = door.address[1]
    _doors[port] = door
    text = f"{port}".encode().ljust(LENGTH, b"\xff")
    return tuple(number - 256 if number > 127 else number for number in text)


def groupStart() -> None:
    _grouped.append([])


def groupEnd() -> None:
    for call in _grouped.pop():
        call()


def _at(address: int, count: int, kind: int) -> np.ndarray:
    dtype = np.dtype(DTYPES[kind])
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype)


class NcclCommunicator:
    """A process's part in a group."""

    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int) -> None:
        assert len(commId) == LENGTH
        text = bytes(number % 256 for number in commId)
        port = int(text.rstrip(b"\xff"))
        self.rank, self.others = rank, dict[int, Connection]()
        if rank == 0:
            for _ in range(ndev - 1):
                other = _doors[port].accept()
                self.others[other.recv()] = other
        else:
            self.others[0] = Client(("127.0.0.1", port), authkey=KEY)
            self.others[0].send(rank)

    def allReduce(self, sent, received, count, kind, op, stream) -> None:
        assert _grouped
        assert op == NCCL_SUM
        del stream
        _grouped[-1].append(lambda: self._all_reduce(sent, received, count, kind))

    def broadcast(self, sent, received, count, kind, root, stream) -> None:
        assert _grouped
        del stream
        _grouped[-1].append(lambda: self._broadcast(sent, received, count, kind, root))

    def check_async_error(self) -> None:
        pass

    def abort(self) -> None:
        for other in self.others.values():
            other.close()

    def _all_reduce(self, sent, received, count, kind) -> None:
        mine, into = _at(sent, count, kind), _at(received, count, kind)
        total = self._through_first(mine, lambda parts: sum(parts[1:], parts[0].copy()))
        into[:] = total

    def _broadcast(self, sent, received, count, kind, root) -> None:
        into = _at(received, count, kind)
        mine = _at(sent, count, kind) if self.rank == root else into
        into[:] = self._through_first(mine.copy(), lambda parts: parts[root])

    def _through_first(self, mine, joined) -> np.ndarray:
        dtype = mine.dtype
        if self.rank:
            self.others[0].send_bytes(mine.tobytes())
            return np.frombuffer(self.others[0].recv_bytes(), dtype)
        parts = [mine]
        for rank in sorted(self.others):
            parts.append(np.frombuffer(self.others[rank].recv_bytes(), dtype))
            assert parts[-1].shape == mine.shape, "counts differ between the ranks"
        whole = joined(parts)
        for rank in sorted(self.others):
            self.others[rank].send_bytes(whole.tobytes())
        return whole


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return what a launcher sets."""
    return {
        "RANK": f"{rank}",
        "WORLD_SIZE": f"{size}",
        "LOCAL_RANK": f"{rank}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
    }


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the environment of a process with the stand-in in CuPy's place."""
    root = Path(__file__).resolve().parents[1]
    paths = {"PYTHONPATH": f"{root / 'tests' / 'stand_in'}{os.pathsep}{root}"}
    return os.environ | paths | variables(rank, size, port) | {"STAND_IN_DEVICES": f"{size}"}
