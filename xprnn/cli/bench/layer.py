"""``xprnn bench layer``: one recurrent layer against other libraries."""

import argparse

from xprnn.bench.layer import CASES
from xprnn.bench.timing import PEERS, TimeRow
from xprnn.cli.bench.options import setting_of, timing_options
from xprnn.cli.bench.report import Comparison, ratio_text

HELP = "time one layer, forward and backward, against torch and JAX"
DESCRIPTION = """\
Time one recurrent layer: y = layer(x), then from a given dL/dy the gradients of x and of
all parameters.  Every library computes the same in processes of its own, limited to --threads
cores; a process reports the median after warm-up, without compilation.  The libraries take turns in
--rounds rounds, and the smallest median of each counts.  The ratio is the time of xprnn over that
of the fastest other library: below 1 xprnn is faster.  --dtype and --seed change nothing; --out
writes bench-layer.json."""
EXAMPLE = """\
examples:
  xprnn bench layer --against torch,jax
  xprnn bench layer --cells lstm --cases medium,large --threads 1
  xprnn bench layer --lowering off --against none     (plain array code)"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    timing_options(parser, CASES, PEERS)


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    comparison = Comparison.begin("layer", args, setting_of(args), CASES, PEERS)
    report, peers = comparison.report, comparison.peers.installed
    heads = "".join(f"{peer:>11}" for peer in peers)
    report.tell(f"{'cell':<7}{'case':<9}{'I, H, B, T':<20}{'xprnn':>11}{heads}   ratio")
    rows = comparison.time("layer", _line)
    report.finish(comparison.timing_facts(rows))
    return 0


def _line(row: TimeRow) -> str:
    times = "".join(f"{1000 * seconds:8.2f} ms" for seconds in (row.ours, *row.peers.values()))
    shape = ", ".join(map(str, CASES[row.case]))
    return f"{row.cell:<7}{row.case:<9}{shape:<20}{times}{ratio_text(row.ratio)}"
