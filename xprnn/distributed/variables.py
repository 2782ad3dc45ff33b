"""What launchers such as ``torchrun`` tell each process, in variables of its environment."""

from collections.abc import Mapping
from typing import NamedTuple

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OCCUPIED = "TORCHELASTIC_USE_AGENT_STORE"
"""Set to True by ``torchrun`` where it listens at MASTER_PORT itself."""


RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "RANK")
"""Variables in which launchers say a process's number."""


def early_rank(variables: Mapping[str, str]) -> int:
    """Return the number that a launcher has given this process, before it has met the others."""
    given = (variables.get(name, "") for name in RANKS)
    return next((int(text) for text in given if text.isascii() and text.isdecimal()), 0)


class Place(NamedTuple):
    """A process among those that were started together.

    Attributes
    ----------
    rank, size : int
        Its number, and how many there are.
    local : int
        Its number among those of its machine.
    address : str
    port : int
        Where rank 0 listens.
    """

    rank: int
    size: int
    local: int
    address: str
    port: int


def place(variables: Mapping[str, str]) -> Place:
    """Read the variables.

    Raises
    ------
    RuntimeError
        If one of them is missing.
    ValueError
        If one of them is not such a number.
    """
    missing = [name for name in NAMES if not variables.get(name)]
    if missing:
        raise RuntimeError(
            f"NCCL needs {', '.join(missing)} in the environment: start the processes with "
            'torchrun ("torchrun --nproc-per-node 4 train.py"), or set '
            f"{', '.join(NAMES)} for each"
        )
    size = _number(variables, "WORLD_SIZE", 1, None)
    port = _number(variables, "MASTER_PORT", 1, 65535)
    if variables.get(OCCUPIED) == "True":
        port = port + 1 if port < 65535 else port - 1
    return Place(
        _number(variables, "RANK", 0, size - 1),
        size,
        _number(variables, "LOCAL_RANK", 0, size - 1),
        variables["MASTER_ADDR"],
        port,
    )


def _number(variables: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    text = variables[name].strip()
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if number < least or (most is not None and number > most):
        upper = "" if most is None else f" to {most}"
        raise ValueError(f"{name} is {text!r}: expected an integer from {least}{upper}")
    return number
