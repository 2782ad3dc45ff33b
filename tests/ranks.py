"""Jobs of several ranks: how a test starts one, and what the ranks do in it.

A job is a function of this file, called on each rank; what it returns on each is JSON.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import xprnn
import xprnn.training.ranks
from xprnn import RNN, data, optim
from xprnn.distributed import buckets
from xprnn.distributed.compression import Compression
from xprnn.engine import stack

ROOT = Path(__file__).parent.parent
MPIEXEC = Path(sys.executable).with_name("mpiexec")
SECONDS = 100


def launch(
    ranks: int, *command: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of Python's on several ranks."""
    return subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
    )


def killed(ranks: int, folder: Path, epochs: int, chance: random.Random) -> int:
    """Kill a rank of the job ``long`` at a random moment; return the launcher's status."""
    for left in folder.glob("pid-*"):
        left.unlink()
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "tests.ranks", "long"]
    with subprocess.Popen(
        [*command, folder, folder, str(epochs)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        numbers = [folder / f"pid-{rank}" for rank in range(ranks)]
        until = time.monotonic() + SECONDS
        while not all(each.exists() and each.read_text() for each in numbers):
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(chance.uniform(0, epochs / 60))
        victim = int(chance.choice(numbers).read_text())
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        said = running.communicate(timeout=20)[0]
        if running.returncode:
            # The launcher names the process; the training has said which rank that is.
            assert f"PID {victim}" in said
        return running.returncode


def stopped(
    ranks: int, words: list[str], folder: Path, file: str
) -> subprocess.CompletedProcess[str]:
    """Send SIGTERM to the launcher of a command once it has written a file."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, *words]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        until = time.monotonic() + SECONDS
        while not (folder / file).exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=30)[0]
    return subprocess.CompletedProcess(command, running.returncode, said)


def results(ranks: int, job: str, folder: Path, *words: object) -> list[Any]:
    """Return what a job returns on each rank; an error as its name and message."""
    done = launch(ranks, "-m", "tests.ranks", job, folder, *words)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


OPTIMIZERS: dict[str, Any] = {
    "sgd": optim.SGD(0.05, momentum=0.9, weight_decay=1e-3),
    "rprop": optim.Rprop(),
    "adam": optim.Adam(0.01),
    "amsgrad": optim.Adam(0.01, amsgrad=True),
    "adamw": optim.AdamW(0.01),
    "rmsprop": optim.RMSprop(0.003),
    "adagrad": optim.Adagrad(0.05),
    "averaged": optim.Averaged(optim.Adam(0.01)),
}


def dense(name: str = "adam", epochs: int = 20, **options: Any) -> tuple[RNN, xprnn.History]:
    """Train on floats of unequal lengths, with weights, clipping and uneven tails: 5 updates."""
    rng = np.random.default_rng(3)
    x, target = rng.normal(size=(6, 23, 2)), rng.normal(size=(6, 23, 1))
    lengths, weights = rng.integers(1, 7, 23).tolist(), rng.uniform(0.5, 2, 23)
    net = RNN(2, 6, 1, cell="lstm", dtype="float64", rng=0)
    batches = data.minibatches(x, target, 5, lengths=lengths, weights=weights, rng=1)
    options = {"clip_norm": 0.5, "validation": [(x, target)]} | options
    history = xprnn.fit(net, batches, optimizer=OPTIMIZERS[name], epochs=epochs, **options)
    return net, history


STREAMS: dict[str, Any] = {
    "loss": "cross_entropy",
    "optimizer": OPTIMIZERS["adam"],
    "clip_norm": 1.0,
}


def streams() -> tuple[RNN, list[data.Batch]]:
    """Return streams of tokens, 5 updates, and a network whose readout is large."""
    tokens = np.random.default_rng(4).integers(0, 120, 4 * 10 + 1)
    tokens[4] = 0  # seen in the third batch, and not in the second, whose last streams are padding
    net = RNN(120, 64, 120, cell="gru", embedding_size=8, dtype="float64", rng=0)
    batches = [*data.chunks(*data.text.streams(tokens, 4), 2)]
    batches[1] = batches[1]._replace(lengths=(2, 2, 0, 0))
    return net, batches


def sparse(name: str = "adam", epochs: int = 20, **options: Any) -> tuple[RNN, xprnn.History]:
    """Train on streams: sparse and factored gradients, and carried states."""
    net, batches = streams()
    options = STREAMS | {"optimizer": OPTIMIZERS[name]} | options
    return net, xprnn.fit(net, batches, epochs=epochs, **options)


def numbers(found: tuple[RNN, xprnn.History]) -> dict[str, Any]:
    """Return losses, norms, and the bits of the weights."""
    net, history = found
    records = [[r.loss, r.validation_loss, r.gradient_norm] for r in history.records]
    return {
        "records": records,
        "weights": {k: p.tobytes().hex() for k, p in net.parameters.items()},
    }


def trainings(epochs: str) -> Any:
    """Train with every optimizer, dense and sparse."""
    return {
        f"{train.__name__}-{name}": numbers(train(name, int(epochs), communicator="mpi"))
        for train in (dense, sparse)
        for name in OPTIMIZERS
    }


def dropping(**options: Any) -> tuple[RNN, xprnn.History]:
    """Train with dropout of both kinds, accumulation of batches, and a sum; B is 3 or 1."""
    rng = np.random.default_rng(5)
    x, target = rng.normal(size=(4, 13, 2)), rng.normal(size=(13, 2))
    net = RNN(
        *(2, 5, 2),
        cell="elman",
        layers=2,
        bidirectional=True,
        returns="last",
        dropout=0.3,
        recurrent_dropout=0.2,
        dtype="float64",
        rng=0,
    )
    batches = data.minibatches(x, target, 3, rng=1)
    loss = xprnn.losses.SquaredError("sum")
    settings: dict[str, Any] = {"epochs": 4, "accumulate": 3, "clip_norm": 1.0}
    history = xprnn.fit(net, batches, loss=loss, **settings | options)
    return net, history


def deep(**options: Any) -> tuple[RNN, xprnn.History]:
    """Train four layers, whose upper ones fill several buckets."""
    rng = np.random.default_rng(6)
    x, target = rng.normal(size=(5, 11, 2)), rng.normal(size=(5, 11, 1))
    kinds: dict[str, Any] = {"bidirectional": True, "projection": 3, "dropout": 0.2}
    net = RNN(2, (6, 4, 6, 5), 1, cell="lstm", dtype="float64", rng=0, **kinds)
    batches = data.minibatches(x, target, 4, rng=1)
    settings = {"optimizer": "adam", "clip_norm": 0.1, "epochs": 3} | options
    return net, xprnn.fit(net, batches, **settings)


DEEP: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "window": {"window": 2},
}


def overlapping(*kinds: str) -> Any:
    """Train with the sums of upper layers overlapped, all after the backward pass, and in one."""
    found: dict[str, Any] = {}
    for name, overlap, least in (("on", True, 0), ("off", False, 0), ("one", True, 1 << 30)):
        here = xprnn.distributed.MPI(overlap=overlap)
        with (
            mock.patch.object(buckets, "BUCKET", 2000),
            mock.patch.object(buckets, "LEAST", least),
            mock.patch.object(here, "start_all_reduce", wraps=here.start_all_reduce) as started,
        ):
            for kind in kinds:
                found[f"{name}, {kind}"] = numbers(deep(communicator=here, **DEEP[kind]))
            found[f"{name}, started"] = started.call_count
    return found


def broken(layer: str) -> Any:
    """Fail on the last rank on the way back, below some layers; then train with the same ranks."""
    here = xprnn.distributed.MPI(overlap=True)
    run, calls = stack.run_layer_backward, list[Any]()

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 8 + int(layer) and here.rank == here.size - 1:
            raise OSError("out of order")
        return run(*args, **options)

    with mock.patch.object(buckets, "BUCKET", 2000), mock.patch.object(buckets, "LEAST", 0):
        with mock.patch.object(stack, "run_layer_backward", fail):
            try:
                said = deep(communicator=here) and "nothing"
            except (OSError, xprnn.distributed.RankError) as error:
                said = f"{type(error).__name__}: {error}"
        return [said, numbers(deep(communicator=here))]


def compressed(*names: str) -> Any:
    """Train with gradients sent as float16, and as they are."""
    here, plain = xprnn.distributed.MPI(compress="float16"), xprnn.distributed.MPI()
    kinds: dict[str, Any] = {"dense": (dense, 20), "sparse": (sparse, 4)}
    found: dict[str, Any] = {}
    for name in names:
        train, epochs = kinds[name]
        found[name] = numbers(train(epochs=epochs, communicator=here))
        found[f"{name}, plain"] = numbers(train(epochs=epochs, communicator=plain))
    return found


def adding(dtype: str) -> Any:
    """Add up gradients of all sizes: what rounding has taken away comes later."""
    here, rng = xprnn.distributed.MPI(compress="float16"), np.random.default_rng
    compression = Compression(here, xprnn.get_backend("numpy", dtype=dtype))
    sizes = np.repeat(10.0 ** np.arange(-15, 10, 5), 1024)
    draw, said, true = rng(here.rank), np.zeros(len(sizes)), np.zeros(len(sizes))
    first = 0.0
    for _ in range(50):
        mine = (draw.normal(size=len(sizes)) * sizes).astype(dtype)
        every = here.gather(mine[None], (1,) * here.size).astype(float)
        compression.all_reduce(mine, {"a": (0, 2500), "b": (2500, len(sizes))})
        said, true = said + mine, true + every.sum(axis=0)
        first = first or float((np.abs(said - true) / sizes).max())
    kept = np.concatenate([compression.kept["a"], compression.kept["b"]]).astype(float)
    left = here.gather(kept[None], (1,) * here.size).sum(axis=0)
    return {
        "said": said.tolist(),
        "first": first,
        "off": float((np.abs(said - true) / sizes).max()),
        "with what is kept": float((np.abs(said + left - true) / sizes).max()),
    }


def spoiled() -> Any:
    """Add up what is not finite."""
    compression = Compression(xprnn.distributed.MPI(compress="float16"), xprnn.get_backend("numpy"))
    given = np.array([1, np.nan, np.inf, 2], dtype="float32")
    compression.all_reduce(given, {"a": (0, 4)})
    return [str(given.tolist()), compression.kept["a"].tolist()]


def half_way(folder: str, epochs: str) -> Any:
    """Train with compression, up to an epoch, or on from a checkpoint."""
    here = xprnn.distributed.MPI(compress="float16")
    checkpoint = xprnn.Checkpoint(Path(folder) / "half.ckpt", resume=True)
    return numbers(dense(epochs=int(epochs), communicator=here, checkpoint=checkpoint))


def kinds() -> Any:
    """Train with what the optimizers' trainings leave out."""
    return numbers(dropping(communicator="mpi"))


class Failing(list[data.Batch]):
    """Batches; on the last rank, the ninth can't be read."""

    read = 0

    def __iter__(self) -> Any:
        from mpi4py import MPI

        for batch in super().__iter__():
            self.read += 1
            if self.read == 9 and MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1:
                raise OSError("the disk is gone")
            yield batch


class Whole(Failing):
    """The same without the error."""

    read = 10


Whole.__name__ = "Failing"  # a checkpoint notes what kind of data it is of


def whole() -> Any:
    """Train without a checkpoint."""
    return numbers(sparse(epochs=9, communicator="mpi"))


def resumed(folder: str) -> Any:
    """Resume what `stopped_inside` has left: on the way, the streams' states are carried over."""
    checkpoint = xprnn.Checkpoint(Path(folder) / "it.ckpt", resume=True)
    net, batches = streams()
    history = xprnn.fit(
        net, Whole(batches), **STREAMS, epochs=9, communicator="mpi", checkpoint=checkpoint
    )
    assert history.resumed == 8
    return numbers((net, history))


def stopped_inside(folder: str) -> Any:
    """End a training in the middle of an epoch, by an error on the last rank."""
    net, batches = streams()
    return xprnn.fit(
        net,
        Failing(batches),
        **STREAMS,
        epochs=9,
        communicator="mpi",
        checkpoint=xprnn.Checkpoint(Path(folder) / "it.ckpt", every_steps=1),
    )


def long(folder: str, epochs: str) -> Any:
    """Train with a checkpoint after each update, on from where a killed job was."""
    here = xprnn.distributed.MPI()
    (Path(folder) / f"pid-{here.rank}").write_text(str(os.getpid()))
    checkpoint = xprnn.Checkpoint(Path(folder) / "it.ckpt", every_steps=1, resume=True)
    options: dict[str, Any] = {"checkpoint": checkpoint, "communicator": here}
    return numbers(sparse(epochs=int(epochs), **options))


def differing(what: str) -> Any:
    """Train with another argument on rank 1."""
    from mpi4py import MPI

    here = MPI.COMM_WORLD.rank == 1
    options: dict[str, Any] = {"communicator": "mpi"}
    if what == "clip_norm":
        options |= {"clip_norm": 2.0, "patience": 3} if here else {"patience": 2}
    if what == "argument" and here:
        options["clip_norm"] = -1.0
    if what == "version" and here:
        xprnn.training.ranks.__version__ = "0.0.9"
    if what in ("seed", "data", "batches"):
        x = np.zeros((3, 6, 2)) + np.arange(6)[:, None]
        net = RNN(2, 4, 2, dtype="float64", rng=int(here) if what == "seed" else 0)
        pairs: Any = data.minibatches(x, x, 2, rng=int(here and what == "data"))
        if what == "batches":
            pairs = ((x, x) for _ in range(3 - here))
        return xprnn.fit(net, pairs, epochs=1, **options) and None
    if what == "weights":

        def change(net: RNN, record: Any) -> None:
            if record.epoch == 2 and here:
                net.parameters = {k: p + 1e-9 for k, p in net.parameters.items()}

        options["callbacks"] = [change]
    if what == "callback":

        def fail(net: RNN, record: Any) -> None:
            if here:
                raise ValueError("a callback of rank 1")

        options["callbacks"] = [fail]
    if what == "signal":

        def interrupt(net: RNN, record: Any) -> None:
            if here and record.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

        options["callbacks"] = [interrupt]
    try:
        return numbers(dense(epochs=3, **options)) and None
    except KeyboardInterrupt as error:
        return f"{type(error).__name__}: {error}"


def forked() -> Any:
    """Use a communicator in a process that was forked after MPI had started."""
    communicator = xprnn.distributed.MPI()
    reading, writing = os.pipe()
    if not os.fork():
        try:
            communicator.barrier()
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    return os.read(reading, 1000).decode()


def late(seconds: str) -> Any:
    """Let rank 1 come too late for the others' limit."""
    communicator = xprnn.distributed.MPI(limit=0.4)
    communicator.barrier()
    if communicator.rank == 1:
        time.sleep(float(seconds))
        return None
    communicator.barrier()
    return None


def main(words: list[str]) -> None:
    """Run a job and write what it returns."""
    from mpi4py import MPI

    job, folder, *more = words
    try:
        found = globals()[job](*more)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    (Path(folder) / f"{MPI.COMM_WORLD.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
