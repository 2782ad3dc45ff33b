"""Communicators by name."""

from xprnn import checks
from xprnn.distributed.mpi import MPI
from xprnn.distributed.protocol import Communicator
from xprnn.distributed.single import NoCommunicator

NAMES = ("mpi",)


def get_communicator(communicator: "str | Communicator | None") -> Communicator:
    """Return the communicator that an argument stands for.

    Parameters
    ----------
    communicator : str, Communicator or None
        ``"mpi"``: all processes that the launcher (``mpiexec``, ``srun``) has started; None: this
        process alone.

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is not installed.
    RuntimeError
        If the launcher is of another MPI than the library.
    TypeError, ValueError
        If it is neither a communicator nor a known name.
    """
    if communicator is None:
        return NoCommunicator()
    if isinstance(communicator, str):
        checks.choice("communicator", communicator, NAMES)
        return MPI()
    if not isinstance(communicator, Communicator):
        raise TypeError(
            f'communicator is {type(communicator).__name__}: expected "mpi" or a '
            "xprnn.distributed.Communicator"
        )
    return communicator
