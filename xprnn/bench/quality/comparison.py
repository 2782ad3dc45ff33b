"""The comparison of trainings, each in a process of its own.

xprnn and torch start from the same weights and see the same batches, so their losses should agree.
But two trainings that differ by a rounding drift apart in any library.  To measure that drift,
torch trains a second time, from weights that are each moved by one rounding.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.bench.process import environment, failure
from xprnn.bench.quality.training import Point, TrainingSetting, write_problem
from xprnn.data.text import Vocabulary
from xprnn.engine.network import RNN
from xprnn.interop.torch import to_state_dict

RUNS = {"xprnn": "xprnn", "torch": "torch", "moved": "torch"}
"""The library of each training, by the training's name."""


class Problem(NamedTuple):
    """A text as tokens, and the network that is to learn it.

    Attributes
    ----------
    tokens, held_out : host array of int, (N,)
        The part to train on, and the held-out part.
    net : RNN
        The network before training; torch takes its initial weights.
    """

    tokens: HostArray
    held_out: HostArray
    net: RNN


def problem_of(
    text: str, held_out: float, hidden: int, layers: int, dtype: str, rng: int
) -> Problem:
    """Return the problem of a text: every character is a token, the last part is held out."""
    border = round(len(text) * (1 - held_out))
    vocabulary = Vocabulary.of([text[:border]])
    size = len(vocabulary)
    net = RNN(size, hidden, size, cell="lstm", layers=layers, dtype=dtype, rng=rng)
    return Problem(vocabulary.encode(text[:border]), vocabulary.encode(text[border:]), net)


def moved_by_roundings(weights: Mapping[str, HostArray], rng: int) -> dict[str, HostArray]:
    """Return weights with each entry moved to an adjacent float; zero stays zero."""
    draw = generator(rng)
    ends = {name: draw.choice([-np.inf, np.inf], a.shape) for name, a in weights.items()}
    return {
        name: np.where(a == 0, a, np.nextafter(a, ends[name].astype(a.dtype)))
        for name, a in weights.items()
    }


def run_quality(
    problem: Problem, setting: TrainingSetting, rng: int = 0
) -> Iterator[dict[str, Point]]:
    """Train in all processes at once; yield their points, those of the same update together.

    Parameters
    ----------
    problem : Problem
    setting : TrainingSetting
    rng : int
        The seed of the directions in which weights are moved.

    Yields
    ------
    dict of Point
        By the names of `RUNS`.

    Raises
    ------
    RuntimeError
        If a process fails; the message has the last line that it wrote to stderr.
    """
    weights = to_state_dict(problem.net, rnn="lstm")
    states = dict.fromkeys(RUNS, weights) | {"moved": moved_by_roundings(weights, rng)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_problem(folder, setting, problem.tokens, problem.held_out, states)
        running = {
            name: stack.enter_context(closing(_Process(name, folder, setting.threads)))
            for name in RUNS
        }
        while True:
            points = {name: process.point() for name, process in running.items()}
            found = {name: point for name, point in points.items() if point is not None}
            if not found:
                return
            yield found


@dataclass
class Curves:
    """The losses of all trainings, by the names of `RUNS`.

    Attributes
    ----------
    losses : dict of list of float
        The training loss of every update.
    evaluated_at : list of int
        The updates after which the held-out part was evaluated.
    held_out : dict of list of float
        The held-out losses after these updates.
    """

    losses: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in RUNS})
    evaluated_at: list[int] = field(default_factory=list)
    held_out: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in RUNS})

    def add(self, points: Mapping[str, Point]) -> None:
        """Append the points of one update."""
        for name, point in points.items():
            self.losses[name] += point.losses
            self.held_out[name].append(point.held_out)
        self.evaluated_at.append(points["xprnn"].step)

    def apart(self, one: str, other: str) -> HostArray:
        """Return the absolute difference of two trainings' losses, (updates,)."""
        difference: HostArray = np.abs(np.subtract(self.losses[one], self.losses[other]))
        return difference


class _Process:
    """A training that runs in a process of its own."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.running = subprocess.Popen(
            [sys.executable, "-m", "xprnn.bench.quality.training", RUNS[name], str(folder), name],
            env=environment(threads),
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def point(self) -> Point | None:
        """Wait for the next point; return None after the last."""
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        if line:
            return Point(**json.loads(line))
        status = self.running.wait()
        if status:
            self.errors.seek(0)
            raise failure(f"the training {self.name!r}", self.errors.read(), status)
        return None

    def close(self) -> None:
        """End the process if it still runs."""
        self.running.kill()
        self.running.communicate()
        self.errors.close()
