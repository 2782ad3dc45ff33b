"""Where one backend overtakes another: the time of the same work over hidden units and batches.

A GPU does more at once, but each step costs it launches, whatever the size; so a CPU is the faster
one for small networks, and loses from some size on.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from xprnn.bench.layer import LayerCase
from xprnn.bench.timing import Setting
from xprnn.bench.training import TrainingCase
from xprnn.bench.worker import Worker


class Shape(NamedTuple):
    """I (also the outputs of a training), H, B and T."""

    inputs: int
    hidden: int
    batch: int
    steps: int


CASES: dict[str, Callable[[Shape], Any]] = {
    "training": lambda s: TrainingCase(s.inputs, s.hidden, s.inputs, s.batch, s.steps),
    "layer": lambda s: LayerCase(s.inputs, s.hidden, s.batch, s.steps),
}
"""By the kind of work: a training step with Adam, or a layer forward and backward."""


class CrossoverRow(NamedTuple):
    """The times of one shape.

    Attributes
    ----------
    hidden, batch : int
    seconds : dict of float
        By backend.
    ratio : float
        The time of the second backend over that of the first: below 1 the second is faster.
    """

    hidden: int
    batch: int
    seconds: dict[str, float]
    ratio: float


def run_crossover(
    work: str,
    cell: str,
    hidden: Sequence[int],
    batches: Sequence[int],
    settings: Mapping[str, Setting],
    *,
    inputs: int = 32,
    steps: int = 50,
    while_: Callable[[], bool] = lambda: True,
) -> Iterator[CrossoverRow]:
    """Time a cell on two backends at every H and B, smallest first.

    Each backend has one process; they take turns at every shape.

    Parameters
    ----------
    work : {"training", "layer"}
    cell : str
    hidden, batches : sequence of int
        H and B.
    settings : mapping of str to Setting
        Of both backends, by name.
    inputs, steps : int
        I and T.
    while_ : callable
        Asked before every row; where it returns False the rows end.

    Raises
    ------
    RuntimeError
        If the work fails on a backend, or its process can't be started.
    """
    with contextlib.ExitStack() as held:
        workers = {
            name: held.enter_context(Worker(work, "xprnn", setting))
            for name, setting in settings.items()
        }
        first, second = workers
        for B in batches:
            for H in hidden:
                if not while_():
                    return
                case = CASES[work](Shape(inputs, H, B, steps))
                times = {name: worker.seconds(cell, case) for name, worker in workers.items()}
                yield CrossoverRow(H, B, times, times[second] / times[first])


def crossovers(rows: Sequence[CrossoverRow]) -> dict[int, int | None]:
    """Return for each B the smallest H from which on the second backend was always faster.

    None where it was not the faster one at the largest H.
    """
    found: dict[int, int | None] = {}
    for B in sorted({row.batch for row in rows}):
        found[B] = None
        for row in sorted((r for r in rows if r.batch == B), key=lambda r: -r.hidden):
            if row.ratio >= 1:
                break
            found[B] = row.hidden
    return found
