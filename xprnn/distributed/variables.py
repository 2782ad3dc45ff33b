"""What launchers tell each process, in variables of its environment."""

import re
from collections.abc import Mapping
from typing import NamedTuple

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun`` sets; RANK decides that it is the launcher."""
OCCUPIED = "TORCHELASTIC_USE_AGENT_STORE"
"""Set to True by ``torchrun`` where it listens at MASTER_PORT itself."""
PORT = 29500
"""Where rank 0 listens if no variable says so; under Slurm each job has another port from here."""
PORTS = 10000
NODES = ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST")
FIRST = "SLURM_LAUNCH_NODE_IPADDR"
"""The machine of the batch script, which is that of rank 0 unless ``srun`` is told otherwise."""


class Launcher(NamedTuple):
    """A launcher's variables for a process's number, their count, and both on its machine."""

    name: str
    rank: str
    sizes: tuple[str, ...]
    local: str
    local_size: str


OPEN_MPI = Launcher(
    "Open MPI's mpiexec",
    "OMPI_COMM_WORLD_RANK",
    ("OMPI_COMM_WORLD_SIZE",),
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
)
HYDRA = Launcher("mpiexec", "PMI_RANK", ("PMI_SIZE",), "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
SLURM = Launcher(
    "srun", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "SLURM_LOCALID", ""
)
LAUNCHERS = OPEN_MPI, HYDRA, SLURM
"""The innermost first: ``mpiexec`` may run in a job of Slurm."""

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
    """Read the variables of ``torchrun``, ``mpiexec`` (MPICH, Intel MPI, Open MPI) or ``srun``.

    RANK stands for ``torchrun``, whatever others are set: it may run inside a job of theirs.
    MASTER_ADDR and MASTER_PORT are used under every launcher.

    Raises
    ------
    RuntimeError
        If one of them is missing.
    ValueError
        If one of them is not such a number, or two contradict each other.
    """
    given = {name: text.strip() for name, text in variables.items() if text.strip()}
    found = None
    if "RANK" not in given:
        found = next((each for each in LAUNCHERS if {each.rank, each.local} <= given.keys()), None)
    return _of_torchrun(given) if found is None else _of_launcher(given, found)


def _of_torchrun(given: Mapping[str, str]) -> Place:
    missing = [name for name in NAMES if name not in given]
    if missing:
        raise RuntimeError(
            f"NCCL needs {', '.join(missing)} in the environment: start the processes with "
            'torchrun ("torchrun --nproc-per-node 4 train.py"), srun or mpiexec, or set '
            f"{', '.join(NAMES)} for each"
        )
    size = _number(given, "WORLD_SIZE", 1, None)
    port = _number(given, "MASTER_PORT", 1, 65535)
    if given.get(OCCUPIED) == "True":
        port = port + 1 if port < 65535 else port - 1
    return Place(
        _number(given, "RANK", 0, size - 1),
        size,
        _number(given, "LOCAL_RANK", 0, size - 1),
        given["MASTER_ADDR"],
        port,
    )


def _of_launcher(given: Mapping[str, str], launcher: Launcher) -> Place:
    named = next((name for name in launcher.sizes if name in given), None)
    if named is None:
        raise RuntimeError(
            f"{launcher.rank} is set, and {launcher.sizes[0]} is not: expected both from "
            f"{launcher.name}"
        )
    size = _number(given, named, 1, None)
    rank = _number(given, launcher.rank, 0, size - 1)
    if launcher is SLURM and size > 1 and not {"SLURM_STEP_ID", "SLURM_STEPID"} & given.keys():
        raise RuntimeError(
            f"{named} is {size}, but SLURM_STEP_ID is missing: the batch script itself runs this "
            'process, and once; expected "srun python train.py" in it'
        )
    if launcher is HYDRA and OPEN_MPI.rank in given:
        _same(given, launcher.rank, OPEN_MPI.rank)
    if launcher is OPEN_MPI and HYDRA.rank in given:
        _same(given, launcher.rank, HYDRA.rank)
    if "WORLD_SIZE" in given:
        _same(given, "WORLD_SIZE", named)
    port = PORT
    if launcher is SLURM:
        # Two jobs may share a machine.
        port += int(re.sub(r"\D", "", given.get("SLURM_JOB_ID", "")) or 0) % PORTS
    if "MASTER_PORT" in given:
        port = _number(given, "MASTER_PORT", 1, 65535)
    local = _number(given, launcher.local, 0, size - 1)
    return Place(rank, size, local, _address(given, launcher, size), port)


def _address(given: Mapping[str, str], launcher: Launcher, size: int) -> str:
    """Return where rank 0 is."""
    if "MASTER_ADDR" in given:
        return given["MASTER_ADDR"]
    if launcher is SLURM:
        nodes = next((given[name] for name in NODES if name in given), "")
        first = first_host(nodes) or given.get(FIRST)
        if first:
            return first
    elif given.get(launcher.local_size) == f"{size}":
        return "localhost"
    raise RuntimeError(
        f"NCCL needs MASTER_ADDR in the environment: {launcher.name} has started {size} processes "
        "on several machines, and doesn't say which is that of rank 0"
    )


def first_host(nodes: str) -> str:
    """Return the first machine of a list of Slurm's: ``node03`` of ``node[03-05,9],x1``."""
    matched = re.match(r"([^\[,]*)(?:\[(\d+)[^\]]*\]([^\[,]*))?", nodes)
    return "".join(part or "" for part in matched.groups()) if matched else ""


def _same(given: Mapping[str, str], name: str, other: str) -> None:
    if given[name] != given[other]:
        raise ValueError(
            f"{name} is {given[name]!r}, but {other} is {given[other]!r}: expected the same, or "
            f"one of them alone ({name} may be left over from another launcher)"
        )


def _number(variables: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    text = variables[name]
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if number < least or (most is not None and number > most):
        upper = "" if most is None else f" to {most}"
        raise ValueError(f"{name} is {text!r}: expected an integer from {least}{upper}")
    return number
