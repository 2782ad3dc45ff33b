"""Jobs of several ranks: how a test starts one, and what the ranks do in it.

A job is a function of this file, called on each rank; what it returns on each is JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import xprnn
from xprnn import RNN, data, optim

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


def sparse(name: str = "adam", epochs: int = 20, **options: Any) -> tuple[RNN, xprnn.History]:
    """Train on streams of tokens with a large readout: sparse and factored gradients."""
    tokens = np.random.default_rng(4).integers(0, 120, 4 * 10 + 1)
    x, target = data.text.streams(tokens, 4)
    net = RNN(120, 64, 120, cell="gru", embedding_size=8, dtype="float64", rng=0)
    batches = data.chunks(x, target, 2)
    options = {"clip_norm": 1.0} | options
    history = xprnn.fit(
        net, batches, loss="cross_entropy", optimizer=OPTIMIZERS[name], epochs=epochs, **options
    )
    return net, history


def numbers(found: tuple[RNN, xprnn.History]) -> dict[str, Any]:
    """Return losses, norms, and the bits of the weights."""
    net, history = found
    records = [[r.loss, r.validation_loss, r.gradient_norm] for r in history.records]
    return {
        "records": records,
        "weights": {k: p.tobytes().hex() for k, p in net.parameters.items()},
    }


def trainings() -> Any:
    """Train with every optimizer, dense and sparse."""
    return {
        f"{train.__name__}-{name}": numbers(train(name, communicator="mpi"))
        for train in (dense, sparse)
        for name in OPTIMIZERS
    }


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
