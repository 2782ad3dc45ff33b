"""``xprnn bench origins``: ratios of times."""

import argparse
import platform

from xprnn import checks
from xprnn.backend.host.arrays import np
from xprnn.bench.origins.comparison import run_origins
from xprnn.cli.bench.report import Report, json_option, threads_option

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
    threads_option(parser, "BLAS threads")
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Time, print."""
    threads = checks.positive_int("--threads", args.threads)
    report = Report("origins", args)
    report.tell(f"{platform.platform()}, NumPy {np.__version__}, {threads} BLAS threads")
    rows = []
    for row in run_origins(threads, report.tell):
        rows.append(row)
        report.tell(
            f"  {row.work:<58} {1000 * row.plain:8.2f} ms {1000 * row.ours:8.2f} ms"
            f"  {row.ratio:6.1f} times (target {row.target:g})"
        )
    report.finish({"threads": threads, "rows": [row._asdict() for row in rows]})
    return 0
