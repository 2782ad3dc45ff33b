"""Synchronous data-parallel training: processes that each hold the whole network.

Each process, a rank, computes the gradient of its part of every batch; the gradients are added up
over all ranks, and each rank makes the same update.  See docs/distributed.md.
"""

from xprnn.distributed.choosing import get_communicator
from xprnn.distributed.errors import LostRankError, RankError
from xprnn.distributed.mpi import MPI
from xprnn.distributed.nccl import NCCL
from xprnn.distributed.protocol import (
    Communicator,
    CompressingCommunicator,
    DeviceCommunicator,
    OverlappingCommunicator,
)
from xprnn.distributed.single import NoCommunicator

__all__ = [
    "MPI",
    "NCCL",
    "Communicator",
    "CompressingCommunicator",
    "DeviceCommunicator",
    "LostRankError",
    "NoCommunicator",
    "OverlappingCommunicator",
    "RankError",
    "get_communicator",
]
