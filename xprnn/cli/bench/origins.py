"""``xprnn bench origins``: against the plain algorithms that xprnn grew out of."""

import argparse
import platform

from xprnn import checks
from xprnn.backend.host.arrays import np
from xprnn.bench.origins.comparison import run_origins
from xprnn.bench.timing import Setting
from xprnn.cli.bench.options import (
    checked_isa,
    isa_option,
    json_option,
    rounds_option,
    threads_option,
)
from xprnn.cli.bench.report import Report, tell_isa

HELP = "time training against the plain algorithms that xprnn grew out of"
DESCRIPTION = """\
xprnn grew out of five teaching systems, which write recurrent networks plainly in NumPy: as loops
over the time steps, sometimes nested.  Two of their algorithms are timed against xprnn: one SGD
step of the language model, and one epoch of the noisy sine.  Both sides take turns, each time in a
new process with the same number of BLAS threads, which reports the median; the smallest of a side's
--rounds medians counts, and only the ratios of one run do.
Everything computes on NumPy, so --backend, --dtype and --seed change nothing; --out writes
bench-origins.json."""
EXAMPLE = """\
examples:
  xprnn bench origins --threads 1
  xprnn bench origins --threads 1 --isa avx2
  xprnn bench origins --json --out bench"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    threads_option(parser, "BLAS threads of each process")
    rounds_option(parser, "either side", default=3)
    isa_option(parser)
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    threads = checks.positive_int("--threads", args.threads)
    rounds = checks.positive_int("--rounds", args.rounds)
    setting = Setting(threads, isa=checked_isa(args), rounds=rounds)
    report = Report("origins", args)
    report.tell(f"{platform.platform()}, NumPy {np.__version__}, {threads} BLAS threads")
    tell_isa(report, setting)
    rows = []
    for row in run_origins(setting, report.tell):
        rows.append(row)
        report.tell(
            f"  {row.work:<58} {1000 * row.plain:8.2f} ms {1000 * row.ours:8.2f} ms"
            f"  {row.ratio:6.1f} times (target {row.target:g})"
        )
    facts = {"threads": threads, "rounds": rounds, "isa": setting.isa}
    report.finish({**facts, "rows": [row._asdict() for row in rows]})
    return 0
