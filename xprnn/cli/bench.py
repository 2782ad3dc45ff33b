"""``xprnn bench origins``: ratios of times."""

import argparse
import json
import os
import platform
import sys
from typing import Any

from xprnn import checks
from xprnn._version import __version__
from xprnn.backend.about import blas
from xprnn.backend.host import np
from xprnn.bench import run_origins
from xprnn.files import output_folder, write_atomic

HELP = "compare with the origins' algorithms as they were written"
DESCRIPTION = """\
Time one SGD step of the language model and one epoch of the noisy sine against the same work
written plainly in NumPy (nested loops, one step after another).  Each side runs in a process of its
own with as many BLAS threads; medians; only the ratios of one run count.  NumPy only, so --backend,
--dtype and --seed change nothing; --out writes bench-origins.json."""
EXAMPLE = """\
examples:
  xprnn bench origins --threads 1
  xprnn bench origins --json --out bench"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    add = parser.add_argument
    add("--threads", type=int, default=threads, help=f"BLAS threads (default here {threads})")
    add("--json", action="store_true", help="print the result as JSON instead of lines")


def run(args: argparse.Namespace) -> int:
    """Time, print."""
    threads = checks.positive_int("--threads", args.threads)
    folder = None if args.out is None else output_folder(args.out)

    def tell(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    tell(f"{platform.platform()}, NumPy {np.__version__}, {threads} BLAS threads")
    rows = []
    for row in run_origins(threads, tell):
        rows.append(row)
        tell(
            f"  {row.work:<58} {1000 * row.plain:8.2f} ms {1000 * row.ours:8.2f} ms"
            f"  {row.ratio:6.1f} times (target {row.target:g})"
        )
    facts: dict[str, Any] = {
        "xprnn": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "blas": blas(),
        "threads": threads,
        "rows": [row._asdict() for row in rows],
    }
    text = json.dumps(facts, indent=2)
    if args.json:
        print(text)
    if folder is not None:
        write_atomic(folder / "bench-origins.json", f"{text}\n".encode())
        tell(f"written to {folder}: bench-origins.json")
    return 0
