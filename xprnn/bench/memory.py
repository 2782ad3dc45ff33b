"""The memory of one layer, forward and backward, and of one training step.

``python -m xprnn.bench.memory LIBRARY WORK CELL CASE STEPS PLACE THREADS OPTIONS`` does the work of
`xprnn.bench.layer` or `xprnn.bench.training` once in that process, and prints its peak: the most
resident memory during the work, minus the resident memory before it.  Data and weights are there
before; the tape, the gradients and the optimizer's state are not.  The process prints as well how
much of it xprnn keeps for its next arrays (`xprnn.backend.host.pool`).

`run_memory` does so at two lengths.  The difference of the two peaks over the difference of the
lengths is the memory of one time step, free of everything that doesn't grow with the length.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.pool import pool, release_memory
from xprnn.bench import layer, training
from xprnn.bench.process import hold_to, result_of
from xprnn.bench.timing import Setting, peer

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LONG = training.TrainingCase(1, 256, 1, 1, 100_000)
LONG_LIMIT = 2**30
"""A long sequence, and the peak in bytes that is allowed for it with ``recompute=True``."""
WORKS: dict[str, dict[str, Any]] = {
    "layer": {name: layer.CASES[name] for name in ("small", "medium", "large")},
    "training": {name: training.CASES[name] for name in ("characters", "forecast")},
}
"""The shapes that are measured, by the work and the shape's name."""


class MemoryRow(NamedTuple):
    """The memory of one cell at one shape.

    Attributes
    ----------
    work : str
        ``"layer"``, forward and backward, or ``"training"``, a whole step.
    cell, case : str
    peak : dict of int
        Bytes at the larger length, by library, xprnn first.
    per_step : dict of float
        Bytes per time step, by library.
    ratio : float or None
        The bytes per step of xprnn over those of the best other library: below 1 xprnn takes less.
        None without other libraries.
    kept : int
        Bytes that xprnn keeps afterwards, for its next arrays.
    """

    work: str
    cell: str
    case: str
    peak: dict[str, int]
    per_step: dict[str, float]
    ratio: float | None
    kept: int


class LongRow(NamedTuple):
    """One training step on the long sequence: peaks in bytes, and seconds, by library."""

    cell: str
    recompute: bool
    peak: dict[str, int]
    seconds: dict[str, float]


def can_be_measured() -> str:
    """Return the reason why memory can't be measured here; an empty string if it can."""
    if not (STATUS.exists() and "VmHWM" in STATUS.read_text() and os.access(CLEAR, os.W_OK)):
        return "the peak memory of a process can be read and reset on Linux only"
    return ""


def run_memory(
    work: str,
    cells: Sequence[str],
    cases: Sequence[str],
    peers: Sequence[str],
    lengths: tuple[int, int],
    setting: Setting,
) -> Iterator[MemoryRow]:
    """Measure every cell at every shape, one row after the other, each library in new processes.

    Parameters
    ----------
    work : str
        A name in `WORKS`.
    cells, cases : sequence of str
    peers : sequence of str
        The other libraries; all must be installed.
    lengths : (int, int)
        The two numbers of time steps, the smaller one first.
    setting : Setting

    Raises
    ------
    RuntimeError
        If a process fails; the message has the last line that it wrote to stderr.
    """
    short, long = lengths
    for cell in cells:
        for case in cases:
            peak: dict[str, int] = {}
            per_step: dict[str, float] = {}
            kept = 0
            for library in ("xprnn", *peers):
                found = [_result(library, work, cell, case, steps, setting) for steps in lengths]
                few, many = (each["bytes"] for each in found)
                peak[library] = many
                kept += found[-1]["kept"]
                per_step[library] = (many - few) / (long - short)
            best = min((per_step[name] for name in peers), default=0.0)
            ratio = per_step["xprnn"] / best if best > 0 else None
            yield MemoryRow(work, cell, case, peak, per_step, ratio, kept)


def run_long(
    cells: Sequence[str], peers: Sequence[str], setting: Setting, steps: int = LONG.steps
) -> Iterator[LongRow]:
    """Train one step on the long sequence: without ``recompute``, then with it.

    The other libraries have nothing like ``recompute``, so they are in the first row only.
    """
    for cell in cells:
        for recompute in (False, True):
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
    options = json.dumps({"recompute": True} if recompute else {})
    found: dict[str, Any] = result_of(
        "xprnn.bench.memory",
        *(library, work, cell, case, steps, setting.place(library), setting.threads, options),
        what=f"measuring {library} ({cell}, {case}, {steps} steps)",
        threads=setting.threads,
        **setting.variables(library),
    )
    return found


def resident(what: str = "VmRSS") -> int:
    """Return the resident memory of this process in bytes: now, or (``"VmHWM"``) its peak."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{what}:"))
    return 1024 * int(line.split()[1])


def peak_of(work: Any) -> int:
    """Return how many bytes of resident memory a call adds at its peak."""
    CLEAR.write_text("5")  # resets the peak
    before = resident()
    work()
    return resident("VmHWM") - before


def _main(
    library: str, work: str, cell: str, name: str, steps: int, place: str, threads: int, **more: Any
) -> dict[str, float]:
    hold_to(threads)
    case = LONG if name == "long" else WORKS[work][name]
    prepare: Any
    if library == "xprnn":
        prepare = layer.xprnn_layer if work == "layer" else training.xprnn_training
    else:
        prepare = peer(library, work).prepare
    # A first call, so that what a library loads or compiles then is not part of the peak.
    few = prepare(cell, case._replace(steps=4), place, threads, **more)
    few()
    release_memory()  # so that all that the call takes from the pool is part of the peak
    long = prepare(cell, case._replace(steps=steps), place, threads, **more)
    started = time.perf_counter()
    peak = peak_of(long)
    seconds = time.perf_counter() - started
    return {"bytes": peak, "seconds": seconds, "kept": pool().kept().size}


if __name__ == "__main__":
    library, work, cell, case, steps, place, threads, options = sys.argv[1:]
    found = _main(library, work, cell, case, int(steps), place, int(threads), **json.loads(options))
    print(json.dumps(found))  # noqa: T201
