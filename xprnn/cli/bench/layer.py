"""``xprnn bench layer``: one recurrent layer against other libraries."""

import argparse

from xprnn.bench.case import CASES, CELLS
from xprnn.bench.timing import PEERS, compare
from xprnn.cli.bench.report import (
    Report,
    facts_of,
    peers_of,
    preface,
    setting_of,
    summary,
    tell_lowering,
    timing_options,
    words,
)

HELP = "time one layer, forward and backward, against torch and JAX"
DESCRIPTION = """\
Time one recurrent layer in float32: y = layer(x), and from a given dL/dy the gradients of x and of
all parameters.  Every library computes the same in processes of its own, held to as many cores;
medians after warm-up, without compilation.  The libraries take turns in --rounds rounds, and of a
library's medians the smallest counts.  The ratio is xprnn's time over the best other one's: below 1
xprnn is faster.  --dtype and --seed change nothing; --out writes bench-layer.json."""
EXAMPLE = """\
examples:
  xprnn bench layer --against torch,jax
  xprnn bench layer --cells lstm --cases medium,large --threads 1
  xprnn bench layer --lowering off --against none     (plain array code)"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    timing_options(parser, CASES, PEERS)


def run(args: argparse.Namespace) -> int:
    """Time, print."""
    setting = setting_of(args)
    cells = words("--cells", args.cells, CELLS)
    cases = words("--cases", args.cases, CASES)
    wanted, peers = peers_of(args.against, PEERS)
    report = Report("layer", args)
    report.tell(preface(setting.threads, setting.backend, peers))
    report.missing(wanted, peers)
    lowering = tell_lowering(report, cells, setting)
    heads = "".join(f"{peer:>11}" for peer in peers)
    report.tell(f"{'cell':<7}{'case':<9}{'I, H, B, T':<20}{'xprnn':>11}{heads}   ratio")
    rows = []
    for row in compare("layer", cells, cases, peers, setting):
        rows.append(row)
        times = "".join(f"{1000 * t:8.2f} ms" for t in (row.ours, *row.peers.values()))
        shape = ", ".join(map(str, CASES[row.case]))
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f}"
        report.tell(f"{row.cell:<7}{row.case:<9}{shape:<20}{times}{ratio}")
    if peers:
        report.tell(summary(rows))
    report.finish(facts_of(setting, wanted, peers, lowering, rows))
    return 0
