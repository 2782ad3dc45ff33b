"""``xprnn bench layer``: one recurrent layer against other libraries."""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
from importlib import metadata
from typing import Any

from xprnn import checks
from xprnn._version import __version__
from xprnn.backend.about import blas
from xprnn.backend.host import np
from xprnn.bench.case import CASES, CELLS
from xprnn.bench.layer import PEERS, run_layer_bench
from xprnn.files import output_folder, write_atomic

HELP = "time one layer, forward and backward, against torch and JAX"
DESCRIPTION = """\
Time one recurrent layer in float32: y = layer(x), and from a given dL/dy the gradients of x and of
all parameters.  Every library computes the same in a process of its own, held to as many cores;
medians after warm-up, without compilation.  The ratio is xprnn's time over the best other one's:
below 1 xprnn is faster.  --dtype and --seed change nothing; --out writes bench-layer.json."""
EXAMPLE = """\
examples:
  xprnn bench layer --against torch,jax
  xprnn bench layer --cells lstm --cases medium,large --threads 1"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    add = parser.add_argument
    add("--against", default="torch,jax", metavar="LIBRARIES", help="default torch,jax; or none")
    add("--cells", default=",".join(CELLS), help=f"default {','.join(CELLS)}")
    add("--cases", default=",".join(CASES), help=f"of {','.join(CASES)} (default: all)")
    add("--threads", type=int, default=threads, help=f"cores to use (default here {threads})")
    add("--json", action="store_true", help="print the result as JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Time, print."""
    threads = checks.positive_int("--threads", args.threads)
    cells = _words("--cells", args.cells, CELLS)
    cases = _words("--cases", args.cases, tuple(CASES))
    wanted = () if args.against == "none" else _words("--against", args.against, PEERS)
    folder = None if args.out is None else output_folder(args.out)
    backend = args.backend or "numpy"
    peers = [peer for peer in wanted if importlib.util.find_spec(peer) is not None]

    def tell(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    versions = {name: metadata.version(name) for name in ("numpy", *peers)}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    tell(f"{platform.platform()}, {threads} threads, xprnn {__version__} on {backend}, {named}")
    for peer in wanted:
        if peer not in peers:
            tell(f"{peer} is not installed: no column for it")
    heads = "".join(f"{peer:>11}" for peer in peers)
    tell(f"{'cell':<7}{'case':<9}{'I, H, B, T':<20}{'xprnn':>11}{heads}   ratio")
    rows = []
    for row in run_layer_bench(cells, cases, peers, threads, backend):
        rows.append(row)
        times = "".join(f"{1000 * t:8.2f} ms" for t in (row.ours, *row.peers.values()))
        shape = ", ".join(map(str, CASES[row.case]))
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f}"
        tell(f"{row.cell:<7}{row.case:<9}{shape:<20}{times}{ratio}")
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if ratios:
        under = sum(ratio <= 0.9 for ratio in ratios)
        tell(
            f"geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}; "
            f"{under} of {len(ratios)} are at most 0.9"
        )
    facts: dict[str, Any] = {
        "xprnn": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "versions": versions,
        "missing": [peer for peer in wanted if peer not in peers],
        "platform": platform.platform(),
        "backend": backend,
        "blas": blas(),
        "threads": threads,
        "rows": [row._asdict() for row in rows],
    }
    text = json.dumps(facts, indent=2)
    if args.json:
        print(text)
    if folder is not None:
        write_atomic(folder / "bench-layer.json", f"{text}\n".encode())
        tell(f"written to {folder}: bench-layer.json")
    return 0


def _words(option: str, given: str, known: tuple[str, ...]) -> list[str]:
    """Split a list at its commas."""
    return [checks.choice(option, word.strip(), known) for word in given.split(",")]
