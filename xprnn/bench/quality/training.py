"""A character model's training, for xprnn and its peers: what is the same for all of them.

``python -m xprnn.bench.quality.training LIBRARY FOLDER WEIGHTS`` trains one library on the problem
in a folder, in this process, and prints one JSON line for each `Point`.
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
from xprnn.interop.torch import from_state_dict
from xprnn.losses import CrossEntropy
from xprnn.optim import SGD, Adam, Optimizer, clip_by_norm
from xprnn.training.fit import evaluate

OPTIMIZERS: dict[str, Callable[["Setting"], Optimizer]] = {
    # Lazy updates of the columns of W are no rule of torch's.
    "adam": lambda setting: Adam(setting.rate, lazy=False),
    "sgd": lambda setting: SGD(setting.rate, momentum=setting.momentum),
}


class Setting(NamedTuple):
    """How to train.

    Attributes
    ----------
    steps, every : int
        Updates, and updates between two looks at the held-out part.
    batch, chunk : int
        Streams, and characters of each, an update.
    optimizer : str
        Of `OPTIMIZERS`.
    rate, momentum : float
        Of SGD.
    clip : float
        The limit of the gradient's norm.
    backend, dtype : str
        Xprnn's backend; the dtype of both.
    threads : int
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
    """A training so far.

    Attributes
    ----------
    step : int
        Updates done.
    losses : list of float
        Of the updates since the last point, per character, before each.
    held_out : float
        The loss per character of the whole held-out part.
    """

    step: int
    losses: list[float]
    held_out: float


class Training(Protocol):
    """A model in some library, and what it remembers; batches are of host arrays."""

    def step(self, batch: Batch) -> float:
        """Update once; return the loss before."""
        ...

    def held_out(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches."""
        ...


class XprnnTraining:
    """The model in xprnn."""

    def __init__(self, setting: Setting, weights: Mapping[str, HostArray]) -> None:
        self.clip, self.loss = setting.clip, CrossEntropy()
        self.net = from_state_dict(
            weights, rnn="lstm", backend=setting.backend, dtype=setting.dtype
        )
        self.optimizer = OPTIMIZERS[setting.optimizer](setting)
        self.memory = self.optimizer.init(self.net.parameters)
        self.state: Any = None

    def step(self, batch: Batch) -> float:
        net, (x, target) = self.net, self._here(batch)
        value, gradient, self.state = net.loss_and_grad(
            x, target, self.loss, self.state if batch.carry else None
        )
        clipped, _ = clip_by_norm(gradient.parameters, self.clip)
        net.parameters, self.memory = self.optimizer.update(clipped, self.memory, net.parameters)
        return float(value)

    def held_out(self, batches: Iterable[Batch]) -> float:
        moved = (Batch(*self._here(batch), batch.carry) for batch in batches)
        return evaluate(self.net, moved, loss=self.loss)

    def _here(self, batch: Batch) -> tuple[Any, Any]:
        asarray = self.net.backend.asarray
        return asarray(batch.x), asarray(batch.target)


def points(
    setting: Setting, training: Training, tokens: HostArray, held_out: HostArray
) -> Iterator[Point]:
    """Train, and look at the held-out part before, now and then, and at the end.

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
    setting: Setting,
    tokens: HostArray,
    held_out: HostArray,
    weights: Mapping[str, Mapping[str, HostArray]],
) -> None:
    """Write what `main` reads: the same files for every library."""
    (folder / "setting.json").write_text(json.dumps(setting._asdict()))
    np.savez(folder / "tokens.npz", tokens=tokens, held_out=held_out)
    for name, state in weights.items():
        np.savez(folder / f"{name}.npz", **dict[str, Any](state))


def main(library: str, folder: Path, weights: str) -> None:
    """Train, and print points."""
    setting = Setting(**json.loads((folder / "setting.json").read_text()))
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
