"""What a forward and a backward pass, or a training step, take in memory.

``python -m xprnn.bench.memory LIBRARY WORK CELL CASE STEPS PLACE THREADS OPTIONS`` does the work
once in this process, and prints the most bytes that were resident on top of what was before: data
and weights were there, gradients and the optimizer's memory were not.  `run_memory` does so at two
lengths: the difference of the peaks over that of the lengths is what a time step takes, and nothing
else is in it.
"""

import inspect
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.bench.case import CASES
from xprnn.bench.layer import xprnn_layer
from xprnn.bench.process import hold_to, result_of
from xprnn.bench.timing import Setting, peer
from xprnn.bench.training import xprnn_training
from xprnn.bench.training_case import TRAININGS, TrainingCase
from xprnn.engine.network import RNN

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LONG = TrainingCase(1, 256, 1, 1, 100_000)
"""A sequence so long that its tape does not fit; wanted: at most `LONG_LIMIT`, with recompute."""
LONG_LIMIT = 2**30
WORKS: dict[str, dict[str, Any]] = {
    "layer": {name: CASES[name] for name in ("small", "medium", "large")},
    "training": {name: TRAININGS[name] for name in ("characters", "forecast")},
}


class MemoryRow(NamedTuple):
    """One cell at one shape.

    Attributes
    ----------
    work : str
        ``"layer"``, forward and backward, or ``"training"``, a whole step.
    cell, case : str
    peak : dict of int
        Bytes at the larger length, by library, xprnn first.
    per_step : dict of float
        Bytes a time step.
    ratio : float or None
        Xprnn's bytes a step over the best peer's: below 1 is smaller.
    """

    work: str
    cell: str
    case: str
    peak: dict[str, int]
    per_step: dict[str, float]
    ratio: float | None


class LongRow(NamedTuple):
    """One training step on a long sequence: peaks in bytes, and seconds, by library."""

    cell: str
    recompute: bool
    peak: dict[str, int]
    seconds: dict[str, float]


def can_be_measured() -> str:
    """Return why memory can't be measured here; empty if it can."""
    if not (STATUS.exists() and "VmHWM" in STATUS.read_text() and os.access(CLEAR, os.W_OK)):
        return "the most memory that a process has used is known, and can be reset, on Linux only"
    return ""


def can_recompute() -> bool:
    """Return whether this xprnn has ``recompute=``, which trades another forward for memory."""
    return "recompute" in inspect.signature(RNN.value_and_grad).parameters


def run_memory(
    work: str,
    cells: Sequence[str],
    cases: Sequence[str],
    peers: Sequence[str],
    lengths: tuple[int, int],
    setting: Setting,
) -> Iterator[MemoryRow]:
    """Measure, one row after the other, every library in processes of its own.

    Parameters
    ----------
    work : str
        Of `WORKS`.
    cells, cases : sequence of str
    peers : sequence of str
        All installed.
    lengths : (int, int)
        The two numbers of time steps, ascending.
    setting : Setting

    Raises
    ------
    RuntimeError
        If a process fails; the message has its last words.
    """
    short, long = lengths
    for cell in cells:
        for case in cases:
            peak: dict[str, int] = {}
            per_step: dict[str, float] = {}
            for library in ("xprnn", *peers):
                few, many = (
                    _result(library, work, cell, case, steps, setting)["bytes"] for steps in lengths
                )
                peak[library] = many
                per_step[library] = (many - few) / (long - short)
            best = min((per_step[name] for name in peers), default=0.0)
            ratio = per_step["xprnn"] / best if best > 0 else None
            yield MemoryRow(work, cell, case, peak, per_step, ratio)


def run_long(
    cells: Sequence[str], peers: Sequence[str], setting: Setting, steps: int = LONG.steps
) -> Iterator[LongRow]:
    """Train one step on a long sequence: without recomputing, and with, where xprnn has that.

    Peers have nothing like it, and no part in those rows.
    """
    for cell in cells:
        for recompute in (False, True)[: 1 + can_recompute()]:
            libraries = ("xprnn",) if recompute else ("xprnn", *peers)
            found = {
                library: _result(library, "training", cell, "long", steps, setting, recompute)
                for library in libraries
            }
            yield LongRow(
                cell,
                recompute,
                {library: each["bytes"] for library, each in found.items()},
                {library: each["seconds"] for library, each in found.items()},
            )


def _result(
    library: str,
    work: str,
    cell: str,
    case: str,
    steps: int,
    setting: Setting,
    recompute: bool = False,
) -> dict[str, Any]:
    place = setting.backend if library == "xprnn" else "cpu"
    options = json.dumps({"recompute": True} if recompute else {})
    found: dict[str, Any] = result_of(
        "xprnn.bench.memory",
        *(library, work, cell, case, steps, place, setting.threads, options),
        what=f"measuring {library} ({cell}, {case}, {steps} steps)",
        threads=setting.threads,
        **setting.variables(library),
    )
    return found


def resident(what: str = "VmRSS") -> int:
    """Return the bytes of this process that are in memory now, or (``"VmHWM"``) were at most."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{what}:"))
    return 1024 * int(line.split()[1])


def peak_of(work: Any) -> int:
    """Return the most bytes that a call adds to what is resident."""
    CLEAR.write_text("5")  # the peak is from now on
    before = resident()
    result = work()
    after = resident("VmHWM")
    del result
    return after - before


def _main(
    library: str, work: str, cell: str, name: str, steps: int, place: str, threads: int, **more: Any
) -> dict[str, float]:
    hold_to(threads)
    case = LONG if name == "long" else WORKS[work][name]
    prepare: Any
    if library == "xprnn":
        prepare = xprnn_layer if work == "layer" else xprnn_training
    else:
        prepare = peer(library, work).prepare
    # What a library loads or compiles at its first call is no part of the peak.
    few = prepare(cell, case._replace(steps=4), place, threads, **more)
    few()
    long = prepare(cell, case._replace(steps=steps), place, threads, **more)
    started = time.perf_counter()
    peak = peak_of(long)
    return {"bytes": peak, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    library, work, cell, case, steps, place, threads, options = sys.argv[1:]
    found = _main(library, work, cell, case, int(steps), place, int(threads), **json.loads(options))
    print(json.dumps(found))  # noqa: T201
