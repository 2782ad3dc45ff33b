"""The training of a character model: the loop that every library shares, and the model in xprnn.

``python -m xprnn.bench.quality.training LIBRARY FOLDER WEIGHTS`` trains in one library, in that
process, on the problem that `write_problem` wrote to a folder, and prints a line of JSON for each
`Point`.  The model in torch is in `xprnn.bench.peers.torch_quality`.
"""

import importlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.memory import keep_freed_memory
from xprnn.data import chunks
from xprnn.data.batches import Batch
from xprnn.data.text import streams
from xprnn.engine.network import loss_and_grad
from xprnn.interop.torch import from_state_dict
from xprnn.losses import CrossEntropy
from xprnn.optim import SGD, Adam, Optimizer, clip_by_norm
from xprnn.training.evaluation import evaluate

OPTIMIZERS: dict[str, Callable[["TrainingSetting"], Optimizer]] = {
    # torch has no lazy updates.
    "adam": lambda setting: Adam(setting.rate, lazy=False),
    "sgd": lambda setting: SGD(setting.rate, momentum=setting.momentum),
}


class TrainingSetting(NamedTuple):
    """How to train.

    Attributes
    ----------
    steps, every : int
        The number of updates, and of updates between two evaluations of the held-out part.
    batch, chunk : int
        The number of streams in an update, and of characters from each.
    optimizer : str
        A name in `OPTIMIZERS`.
    rate, momentum : float
        The learning rate, and the momentum of SGD.
    clip : float
        The norm at which gradients are clipped.
    backend, dtype : str
        The backend of xprnn; the dtype of both libraries.
    threads : int
        The number of threads of each process.
    """

    steps: int
    every: int
    batch: int
    chunk: int
    optimizer: str
    rate: float
    momentum: float
    clip: float
    backend: str = "numpy"
    dtype: str = "float32"
    threads: int = 1


class Point(NamedTuple):
    """The losses of a training since its last point.

    Attributes
    ----------
    step : int
        The number of updates done.
    losses : list of float
        The loss per character of every update since the last point, before the update.
    held_out : float
        The loss per character of the held-out part, after the last update.
    """

    step: int
    losses: list[float]
    held_out: float


class Training(Protocol):
    """A model in some library, with its optimizer and carried state; batches hold host arrays."""

    def step(self, batch: Batch) -> float:
        """Update once; return the loss before the update."""
        ...

    def held_out(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches."""
        ...


class XprnnTraining:
    """The training in xprnn."""

    def __init__(self, setting: TrainingSetting, weights: Mapping[str, HostArray]) -> None:
        self.clip, self.loss = setting.clip, CrossEntropy()
        self.net = from_state_dict(
            weights, rnn="lstm", backend=setting.backend, dtype=setting.dtype
        )
        self.optimizer = OPTIMIZERS[setting.optimizer](setting)
        self.memory = self.optimizer.init(self.net.parameters)
        self.state: Any = None

    def step(self, batch: Batch) -> float:
        net, (x, target) = self.net, self._here(batch)
        state = self.state if batch.carry else None
        value, gradient, self.state = loss_and_grad(net, x, target, self.loss, state=state)
        if not math.isfinite(loss := float(value)):
            return loss  # the caller ends the training; optimizers refuse NaN
        clipped, _ = clip_by_norm(gradient.parameters, self.clip)
        net.parameters, self.memory = self.optimizer.update(clipped, self.memory, net.parameters)
        return loss

    def held_out(self, batches: Iterable[Batch]) -> float:
        moved = (Batch(*self._here(batch), batch.carry) for batch in batches)
        return evaluate(self.net, moved, loss=self.loss)

    def _here(self, batch: Batch) -> tuple[Any, Any]:
        asarray = self.net.backend.asarray
        return asarray(batch.x), asarray(batch.target)


def points(
    setting: TrainingSetting, training: Training, tokens: HostArray, held_out: HostArray
) -> Iterator[Point]:
    """Train; evaluate the held-out part at the start, after every ``every`` updates and at the end.

    Raises
    ------
    FloatingPointError
        If a loss becomes NaN or infinite.
    """
    passes = chunks(*streams(tokens, setting.batch), setting.chunk)
    rest = chunks(*streams(held_out, setting.batch), setting.chunk)
    updates = islice(chain.from_iterable(repeat(passes)), setting.steps)
    yield Point(0, [], training.held_out(rest))
    losses: list[float] = []
    for k, batch in enumerate(updates, start=1):
        losses.append(training.step(batch))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} in step {k}: try a smaller --lr")
        if k % setting.every == 0 or k == setting.steps:
            yield Point(k, losses, training.held_out(rest))
            losses = []


def write_problem(
    folder: Path,
    setting: TrainingSetting,
    tokens: HostArray,
    held_out: HostArray,
    weights: Mapping[str, Mapping[str, HostArray]],
) -> None:
    """Write the files that `main` reads; ``weights`` are the initial weights of each training."""
    (folder / "setting.json").write_text(json.dumps(setting._asdict()))
    np.savez(folder / "tokens.npz", tokens=tokens, held_out=held_out)
    for name, state in weights.items():
        np.savez(folder / f"{name}.npz", **dict[str, Any](state))


def main(library: str, folder: Path, weights: str) -> None:
    """Train in one library, and print its points."""
    setting = TrainingSetting(**json.loads((folder / "setting.json").read_text()))
    with np.load(folder / f"{weights}.npz") as state, np.load(folder / "tokens.npz") as tokens:
        training: Training
        if library == "xprnn":
            keep_freed_memory()
            training = XprnnTraining(setting, state)
        else:
            peer = importlib.import_module(f"xprnn.bench.peers.{library}_quality")
            training = peer.prepare(setting, state)
        for point in points(setting, training, tokens["tokens"], tokens["held_out"]):
            print(json.dumps(point._asdict()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
