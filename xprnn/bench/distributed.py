"""What training on several processes gains and costs, next to torch's DDP with gloo.

``mpiexec -n RANKS python -m xprnn.bench.distributed WORK SECONDS H B T`` does one of the `WORKS` on
all ranks; rank 0 prints the figures as JSON.
"""

import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.bench.process import environment, failure
from xprnn.distributed import MPI
from xprnn.distributed.mpi import INSTALL, library
from xprnn.engine.network import RNN
from xprnn.training.fit import fit

MEGABYTES = 4
FEATURES = 32
"""Inputs and outputs."""
UPDATES = 5
"""Updates of a turn: fewer, and what a call of `fit` does once would count."""
DEEP = 4
"""Layers of the network whose gradients are large."""


class Shape(NamedTuple):
    """A training: an LSTM with a readout, ½ squared error, clipping by norm, Adam, in float32.

    Attributes
    ----------
    hidden, batch, steps : int
        H; B of each rank; T.
    """

    hidden: int = 256
    batch: int = 64
    steps: int = 100


def weights_of(shape: Shape, count: int = 1) -> int:
    """Return how many weights the network of a training has."""
    inputs = [FEATURES, *[shape.hidden] * (count - 1)]
    units = [4 * shape.hidden * (size + shape.hidden + 1) for size in inputs]
    return sum(units) + FEATURES * (shape.hidden + 1)


def launched(work: str, ranks: int, seconds: float, shape: Shape) -> dict[str, float]:
    """Do a work on several ranks of one thread each; return rank 0's figures.

    Raises
    ------
    ImportError
        If there is no ``mpiexec``.
    RuntimeError
        If the job fails.
    """
    command = [launcher(), "-n", str(ranks), sys.executable, "-m", "xprnn.bench.distributed"]
    done = subprocess.run(
        [*command, work, str(seconds), *map(str, shape)],
        env=environment(1),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise failure(f"{work} on {ranks} ranks", done.stderr, done.returncode)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def launcher() -> str:
    """Return the path of ``mpiexec``: that beside Python, or the first on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ImportError(f"there is no mpiexec: {INSTALL}")
    return found


def training(seconds: float, shape: Shape) -> dict[str, float]:
    """Return the seconds of an update, of B sequences a rank, on all ranks."""
    communicator = MPI()
    (found,) = turns([_training(shape, communicator)], seconds, communicator)
    return {"update": found / UPDATES}


def overhead(seconds: float, shape: Shape) -> dict[str, float]:
    """Return the seconds of an update without a communicator, and with that of one rank."""
    communicator = MPI()
    works = [_training(shape, None), _training(shape, communicator)]
    without, with_one = turns(works, seconds, communicator)
    return {"without": without / UPDATES, "with": with_one / UPDATES}


def reduction(seconds: float, shape: Shape) -> dict[str, float]:
    """Return the seconds of adding up 4 MB, and of mpi4py's own ``Allreduce`` of them."""
    del shape
    mpi, communicator = library(), MPI()
    array: HostArray = np.ones(MEGABYTES * 2**20 // 4, dtype="float32")

    def bare() -> None:
        mpi.COMM_WORLD.Allreduce(mpi.IN_PLACE, array)

    # Zeros stay zeros, and no number grows without end.
    array[:] = 0
    mine, theirs = turns([lambda: communicator.all_reduce([array]), bare], seconds, communicator)
    return {"xprnn": mine, "mpi4py": theirs}


def layers(seconds: float, shape: Shape) -> dict[str, float]:
    """Return the seconds of an update of `DEEP` layers, by when their gradients are added up."""
    works = [_training(shape, MPI(overlap=overlap), DEEP) for overlap in (False, True)]
    at_the_end, meanwhile = turns(works, seconds, MPI())
    return {"at the end": at_the_end / UPDATES, "meanwhile": meanwhile / UPDATES}


def messages(seconds: float, shape: Shape) -> dict[str, float]:
    """Return the latency of a message, in seconds, and the bandwidth, in bytes a second.

    They are what the model of `added_seconds` needs to have the times of sums of 8 bytes and 4 MB.
    """
    del shape
    communicator = MPI()
    arrays: list[HostArray] = [np.zeros(1), np.zeros(MEGABYTES * 2**20 // 8)]
    short, long = turns(
        [partial(communicator.all_reduce, [array]) for array in arrays], seconds, communicator
    )
    n = communicator.size
    if n == 1:
        return {"latency": 0.0, "bandwidth": math.inf}
    moved = 2 * (n - 1) / n * arrays[1].nbytes
    return {
        "latency": short / (2 * math.ceil(math.log2(n))),
        "bandwidth": moved / max(long - short, 1e-9),
    }


def added_seconds(ranks: int, size: float, latency: float, bandwidth: float) -> float:
    """Return what adding up ``size`` bytes over ranks takes, by a model.

    Each byte is moved twice, in as many rounds as a tree has levels, there and back.
    """
    levels = math.ceil(math.log2(ranks)) if ranks > 1 else 0
    return 2 * (ranks - 1) / ranks * size / bandwidth + 2 * levels * latency


def turns(works: list[Callable[[], object]], seconds: float, communicator: MPI) -> list[float]:
    """Return the median seconds of works that take turns, for this many seconds each."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    go_on = np.ones(1)
    start = time.perf_counter()
    while go_on[0]:
        for work, found in zip(works, times, strict=True):
            communicator.barrier()
            begin = time.perf_counter()
            work()
            found.append(time.perf_counter() - begin)
        # All ranks make as many turns.
        go_on[0] = time.perf_counter() - start < seconds * len(works)
        communicator.broadcast(go_on)
    return [statistics.median(found) for found in times]


def _training(shape: Shape, communicator: MPI | None, count: int = 1) -> Callable[[], object]:
    hidden, batch, steps = shape
    ranks = 1 if communicator is None else communicator.size
    rng = np.random.default_rng(0)
    x, target = (
        rng.standard_normal((steps, batch * ranks, FEATURES), dtype="float32") for _ in range(2)
    )
    net = RNN(FEATURES, hidden, FEATURES, cell="lstm", layers=count, rng=0)
    batches = [(x, target)] * UPDATES
    return lambda: fit(net, batches, optimizer="adam", clip_norm=1.0, communicator=communicator)


def _torch(seconds: float, shape: Shape) -> dict[str, float]:
    from xprnn.bench.peers.torch_distributed import training_step

    communicator = MPI()
    step = training_step(communicator, FEATURES, *shape)

    def updates() -> None:
        for _ in range(UPDATES):
            step()

    (found,) = turns([updates], seconds, communicator)
    return {"update": found / UPDATES}


WORKS: dict[str, Callable[[float, Shape], dict[str, float]]] = {
    "training": training,
    "overhead": overhead,
    "reduction": reduction,
    "messages": messages,
    "layers": layers,
    "torch": _torch,
}


def main(words: list[str]) -> None:
    """Do a work."""
    work, seconds, *sizes = words
    figures: Any = WORKS[work](float(seconds), Shape(*map(int, sizes)))
    if MPI().rank == 0:
        sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
