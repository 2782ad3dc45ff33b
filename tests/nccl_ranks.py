"""Jobs of several ranks over NCCL, with the stand-in for CuPy; each returns JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import tests.ranks
import xprnn
from tests.device_nccl import environment, free_port
from tests.ranks import ROOT, SECONDS
from xprnn import RNN
from xprnn.data.batches import Batch, each_batch
from xprnn.distributed import NCCL
from xprnn.distributed.reduction import summed
from xprnn.engine.gradients import FactoredGradient


def started(size: int, job: str, folder: Path, *words: object) -> list[subprocess.Popen[str]]:
    """Start a job's processes, the last rank first."""
    port = free_port()
    command = [sys.executable, "-m", "tests.nccl_ranks", job, folder, *words]
    return [
        subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            env=environment(rank, size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in reversed(range(size))
    ][::-1]


def results(size: int, job: str, folder: Path, *words: object) -> list[Any]:
    """Return what a job returns on each rank; an error as its name and message."""
    running = started(size, job, folder, *words)
    for process in running:
        said = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def calls() -> Any:
    """Make every call of a communicator, with a different array on each rank."""
    here = NCCL()
    backend = xprnn.get_backend("cupy", here.device_name)
    found: dict[str, Any] = {"names": here.names, "rank": here.rank, "device": here.device_name}
    with here.device:
        for dtype in ("float16", "float32", "float64", "int64", "bfloat16"):
            a = backend.asarray([[1, 2, 3], [4, 5, 6 + here.rank]], dtype)
            b = backend.asarray(np.full(5, here.rank), dtype)
            here.all_reduce_on_device([a, b, backend.asarray(np.zeros((0, 2)), dtype)])
            found[dtype] = [backend.to_numpy(a).tolist(), backend.to_numpy(b).tolist()]
        counts = [2 * rank for rank in range(here.size)]
        rows = np.arange(counts[here.rank] * 3.0).reshape(-1, 3) + 100 * here.rank
        whole = here.gather_on_device(backend.asarray(rows), counts)
        found["rows"] = backend.to_numpy(whole).tolist()
    host = np.array([1.0 + here.rank, 0.5])
    here.all_reduce([host])
    found["host"] = host.tolist()
    found["gathered"] = here.gather(rows, counts).tolist()
    from_first = np.array([here.rank + 7])
    here.broadcast(from_first)
    found["first"] = from_first.tolist()
    here.barrier()
    return found


class Moved:
    """Batches that are brought to a network's device when they are read."""

    def __init__(self, net: RNN, batches: Any) -> None:
        self.net, self.batches = net, batches

    def __iter__(self) -> Any:
        move = self.net.backend.asarray
        for x, target, carry, lengths, weights, mask in map(tuple, each_batch(self.batches)):
            weights = None if weights is None else move(weights)  # noqa: PLW2901
            yield Batch(move(x), move(target), carry, lengths, weights, mask)


def on_devices(train: Any) -> Any:
    """Train as `tests.ranks` does, with the network on this rank's device."""
    here, fit = NCCL(), xprnn.fit

    def network(*args: Any, **options: Any) -> RNN:
        return RNN(*args, **options, backend="cupy", device=here.device_name)

    def fit_there(net: RNN, batches: Any, **options: Any) -> xprnn.History:
        if "validation" in options:
            options["validation"] = Moved(net, options["validation"])
        return fit(net, Moved(net, batches), **options)

    with mock.patch.object(tests.ranks, "RNN", network), mock.patch.object(xprnn, "fit", fit_there):
        net, history = train(communicator=here, epochs=1)
    records = [[r.loss, r.validation_loss, r.gradient_norm] for r in history.records]
    weights = {k: net.backend.to_numpy(p).tobytes().hex() for k, p in net.parameters.items()}
    return {"records": records, "weights": weights}


def trainings(name: str) -> Any:
    """Train on a kind of data."""
    return on_devices(getattr(tests.ranks, name))


def sums() -> Any:
    """Add up gradients of every form, of which rank 1 has twice as much as rank 0."""
    here = NCCL()
    found: dict[str, Any] = {}
    for dtype in ("float16", "float64"):
        backend = xprnn.get_backend("cupy", here.device_name, dtype)
        with here.device:
            a = backend.asarray(np.arange(6.0).reshape(2, 3) * (1 + here.rank))
            rows = backend.asarray(np.ones((1 + here.rank, 2)))
            given = {
                "dense": a,
                "turned": backend.asarray(np.arange(6.0).reshape(3, 2) * (1 + here.rank)).T,
                "factored": FactoredGradient(rows, backend.asarray(np.ones((1 + here.rank, 40)))),
            }
            whole = summed(here, backend, given, 0.25 + 0.5 * here.rank, all_dense=False)
            left, right = whole["factored"].left, whole["factored"].right
            read = backend.to_numpy
            found[dtype] = {
                "dense": read(whole["dense"]).tolist(),
                "turned": read(whole["turned"]).tolist(),
                "left": read(left).tolist(),
                "right": read(right)[:, 0].tolist(),
                "dtypes": [g.dtype.name for g in (whole["dense"], left, right)],
                "kept": read(a).tolist(),
            }
    return found


def elsewhere() -> Any:
    """Train a network that is not on the rank's device."""
    here = NCCL()
    errors = []
    for options in ({}, {"backend": "cupy", "device": f"cuda:{(here.rank + 1) % 2}"}):
        net = RNN(1, 2, 1, **options)
        x = net.backend.asarray(np.zeros((2, 4, 1)))
        try:
            xprnn.fit(net, (x, x), communicator=here)
        except (ValueError, RuntimeError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def ended(how: str) -> Any:
    """Rank 1 ends: before a message, or while the device of rank 0 waits for it."""
    here = NCCL()
    here.barrier()
    if here.rank == 1:
        os.kill(os.getpid(), 9)
    if how == "device":
        here._group.done = lambda: False  # type: ignore[method-assign]
        here._group.add = lambda _: None  # type: ignore[method-assign,assignment]
        here.all_reduce_on_device([])
    here.barrier()
    return None


def main(words: list[str]) -> None:
    """Run a job and write what it returns."""
    job, folder, *more = words
    try:
        found = globals()[job](*more)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
