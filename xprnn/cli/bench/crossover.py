"""``xprnn bench crossover``: from which size on a device is faster than the CPU."""

import argparse
import platform
from collections.abc import Sequence

from xprnn import checks
from xprnn._version import __version__
from xprnn.backend import get_backend
from xprnn.bench.crossover import CASES, CrossoverRow, crossovers, run_crossover
from xprnn.bench.timing import Setting
from xprnn.cells import CELLS
from xprnn.cli.bench.options import json_option, lowering_option, setting_of, threads_option
from xprnn.cli.bench.report import Report

HELP = "find the size from which on a device is faster than the CPU"
DESCRIPTION = """\
Time the same work on two backends at several numbers of hidden units (H) and sequences in a batch
(B), in float32: training steps (output, ½ squared error, gradients, clipping by norm, Adam), or one
layer, forward and backward.  Each backend works in a process of its own, and they take turns at
every shape; a figure is the median after warm-up, without compilation.  The ratio is the time of
the second backend over that of the first: below 1 the second is faster.  Below the table is, for
each B, the smallest H from which on that was so at every H.  --out writes bench-crossover.json."""
EXAMPLE = """\
examples:
  xprnn bench crossover
  xprnn bench crossover --backends numpy,torch --hidden 16,64 --batches 1,32
  xprnn bench crossover --work layer --cell gru --steps 200 --json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add(
        "--backends",
        default="numpy,cupy",
        metavar="ONE,OTHER",
        help="the two backends (default numpy,cupy)",
    )
    known = ", ".join(CASES)
    add("--work", default="training", metavar="NAME", help=f"{known} (default training)")
    add("--cell", default="lstm", metavar="NAME", help="(default lstm)")
    hidden, batches = "32,64,128,256,512,1024", "1,16,64"
    add("--hidden", default=hidden, metavar="NUMBERS", help=f"hidden units (default {hidden})")
    add(
        "--batches",
        default=batches,
        metavar="NUMBERS",
        help=f"sequences in a batch (default {batches})",
    )
    add("--inputs", type=int, default=32, metavar="N", help="inputs, and outputs (default 32)")
    add("--steps", type=int, default=50, metavar="N", help="time steps (default 50)")
    add(
        "--seconds",
        type=float,
        default=0.5,
        metavar="S",
        help="how long each figure is measured (default 0.5)",
    )
    threads_option(parser, "cores that a backend on the CPU may use")
    lowering_option(parser)
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    backends = args.backends.split(",")
    if len(backends) != 2 or len(set(backends)) != 2:
        raise ValueError(f"--backends is {args.backends!r}: expected two backends: numpy,cupy")
    work = checks.choice("--work", args.work, tuple(CASES))
    cell = checks.choice("--cell", args.cell, tuple(CELLS))
    hidden, batches = numbers("--hidden", args.hidden), numbers("--batches", args.batches)
    inputs = checks.positive_int("--inputs", args.inputs)
    steps = checks.positive_int("--steps", args.steps)
    seconds = checks.number("--seconds", args.seconds, open_=True)
    args.backend = backends[0]
    setting = setting_of(args)._replace(seconds=seconds)
    settings: dict[str, Setting] = {}
    for name in backends:
        get_backend(name)  # whatever is missing is told before the work
        settings[name] = setting._replace(backend=name)
    report = Report("crossover", args)
    report.tell(
        f"{platform.platform()}, {setting.threads} threads, xprnn {__version__}; {cell}, {work}, "
        f"I = {inputs}, T = {steps}"
    )
    heads = "".join(f"{name:>13}" for name in backends)
    report.tell(f"{'B':>6}{'H':>7}{heads}   ratio")
    rows = []
    for row in run_crossover(work, cell, hidden, batches, settings, inputs=inputs, steps=steps):
        rows.append(row)
        report.tell(_line(row))
    found = crossovers(rows)
    for line in _in_words(found, backends):
        report.tell(line)
    report.finish(
        {
            "backends": backends,
            "work": work,
            "cell": cell,
            "inputs": inputs,
            "steps": steps,
            "threads": setting.threads,
            "seconds": seconds,
            "rows": [row._asdict() for row in rows],
            "crossover": {str(B): H for B, H in found.items()},
        }
    )
    return 0


def numbers(option: str, text: str) -> list[int]:
    """Return the numbers in an option's value, smallest first."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"{option} is {text!r}: expected integers of at least 1: 32,64")
    return sorted(set(map(int, words)))


def _line(row: CrossoverRow) -> str:
    times = "".join(f"{1000 * seconds:10.2f} ms" for seconds in row.seconds.values())
    return f"{row.batch:>6}{row.hidden:>7}{times}{row.ratio:8.2f}"


def _in_words(found: dict[int, int | None], backends: Sequence[str]) -> list[str]:
    first, second = backends
    return [
        f"B = {B}: {first} is the faster one at the largest H"
        if H is None
        else f"B = {B}: {second} is the faster one from H = {H} on"
        for B, H in found.items()
    ]
