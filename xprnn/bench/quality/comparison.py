"""The same character model trained in xprnn and in torch, each in a process of its own.

Both start from the same weights and see the same batches; what is compared is what comes out.  Two
trainings that differ by roundings drift apart in any library.  For a measure of that, torch trains
a second time, from weights of which each was moved by a rounding.
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
from xprnn.bench.process import environment
from xprnn.bench.quality.training import Point, Setting, write_problem
from xprnn.data.text import Vocabulary
from xprnn.engine.network import RNN
from xprnn.interop.torch import to_state_dict

RUNS = {"xprnn": "xprnn", "torch": "torch", "moved": "torch"}
"""The trainings, and the library of each."""


class Problem(NamedTuple):
    """A text made ready, and the network that is to learn it.

    Attributes
    ----------
    tokens, held_out : host array of int, (N,)
    net : RNN
    """

    tokens: HostArray
    held_out: HostArray
    net: RNN


def problem_of(
    text: str, held_out: float, hidden: int, layers: int, dtype: str, rng: int
) -> Problem:
    """Return the problem that a text makes: every character a token, the last part held out."""
    border = round(len(text) * (1 - held_out))
    vocabulary = Vocabulary.of([text[:border]])
    size = len(vocabulary)
    net = RNN(size, hidden, size, cell="lstm", layers=layers, dtype=dtype, rng=rng)
    return Problem(vocabulary.encode(text[:border]), vocabulary.encode(text[border:]), net)


def moved_by_roundings(weights: Mapping[str, HostArray], rng: int) -> dict[str, HostArray]:
    """Return weights, each replaced by one of the two numbers next to it; zero stays zero."""
    draw = generator(rng)
    ends = {name: draw.choice([-np.inf, np.inf], a.shape) for name, a in weights.items()}
    return {
        name: np.where(a == 0, a, np.nextafter(a, ends[name].astype(a.dtype)))
        for name, a in weights.items()
    }


def run_quality(problem: Problem, setting: Setting, rng: int = 0) -> Iterator[dict[str, Point]]:
    """Train in all processes at once; yield their points, those of the same step together.

    Parameters
    ----------
    problem : Problem
    setting : Setting
    rng : int
        What the weights are moved by.

    Yields
    ------
    dict of Point
        By the names of `RUNS`.

    Raises
    ------
    RuntimeError
        If a process fails; the message has its last words.
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
    """What came out, by the names of `RUNS`.

    Attributes
    ----------
    losses : dict of list of float
        Of every update.
    steps : list of int
        When the held-out part was looked at.
    held_out : dict of list of float
        Its losses then.
    """

    losses: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in RUNS})
    steps: list[int] = field(default_factory=list)
    held_out: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in RUNS})

    def add(self, points: Mapping[str, Point]) -> None:
        """Add the points of one step."""
        for name, point in points.items():
            self.losses[name] += point.losses
            self.held_out[name].append(point.held_out)
        self.steps.append(points["xprnn"].step)

    def apart(self, one: str, other: str) -> HostArray:
        """Return |difference| of two trainings' losses, (steps,)."""
        difference: HostArray = np.abs(np.subtract(self.losses[one], self.losses[other]))
        return difference


class _Process:
    """A training that runs."""

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
        """Wait for the next point; None if there is no more."""
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        if line:
            return Point(**json.loads(line))
        if self.running.wait():
            self.errors.seek(0)
            words = self.errors.read().strip().splitlines() or ["no message"]
            raise RuntimeError(f"the training {self.name!r} failed: {words[-1]}")
        return None

    def close(self) -> None:
        """End it, if it still runs."""
        self.running.kill()
        self.running.communicate()
        self.errors.close()
