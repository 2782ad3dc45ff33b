"""Communicators by name."""

from xprnn import checks
from xprnn.distributed.mpi import MPI
from xprnn.distributed.nccl import NCCL
from xprnn.distributed.protocol import Communicator
from xprnn.distributed.single import NoCommunicator

NAMES: dict[str, type[MPI] | type[NCCL]] = {"mpi": MPI, "nccl": NCCL}


def get_communicator(communicator: "str | Communicator | None") -> Communicator:
    """Return the communicator that an argument stands for.

    Parameters
    ----------
    communicator : str, Communicator or None
        ``"mpi"``: all processes that the launcher (``mpiexec``, ``srun``) has started; ``"nccl"``:
        those of ``torchrun``, ``srun`` or ``mpiexec``, each with a CUDA device of its own; None:
        this process alone.

    Raises
    ------
    ImportError
        If mpi4py or an MPI library, or CuPy or NCCL, is not installed.
    RuntimeError
        If the launcher is of another MPI than the library, or has not set the variables that NCCL
        needs.
    TypeError, ValueError
        If it is neither a communicator nor a known name.
    """
    if communicator is None:
        return NoCommunicator()
    if isinstance(communicator, str):
        return NAMES[checks.choice("communicator", communicator, tuple(NAMES))]()
    if not isinstance(communicator, Communicator):
        raise TypeError(
            f'communicator is {type(communicator).__name__}: expected "mpi", "nccl" or a '
            "xprnn.distributed.Communicator"
        )
    return communicator
