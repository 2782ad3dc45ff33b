"""``xprnn bench train``: training steps against torch."""

import argparse

from xprnn.bench.timing import PRECISIONS, TimeRow
from xprnn.bench.training import CASES
from xprnn.cli.bench.options import setting_of, timing_options
from xprnn.cli.bench.report import Comparison, ratio_text

PEERS = ("torch",)
HELP = "time whole training steps, optimizer included, against torch"
DESCRIPTION = """\
Time training steps in float32: output, loss, gradients, clipping by norm, an update by Adam, and
the loss as a number.  The models are a language model of 65 characters (one-hot input, a recurrent
layer, a linear layer, cross-entropy) and a forecaster of a series (½ squared error of the last step
or of all steps).  torch has the same weights, batches, clipping and optimizer (its fused Adam).
Every library works in processes of its own, limited to --threads cores; a process reports the
median after warm-up.  The libraries take turns in --rounds rounds, and the smallest median of each
counts.  The ratio is the time of a step in xprnn over that in torch: below 1 xprnn is faster.
--dtype and --seed change nothing; --out writes bench-train.json."""
EXAMPLE = """\
examples:
  xprnn bench train
  xprnn bench train --cells lstm --cases characters --threads 1
  xprnn bench train --against none --lowering off     (xprnn alone, plain array code)"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    timing_options(parser, CASES, PEERS, PRECISIONS[:2])


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    comparison = Comparison.begin("train", args, setting_of(args), CASES, PEERS)
    report, peers = comparison.report, comparison.peers.installed
    heads = "".join(f"{peer:>12}" for peer in peers)
    report.tell(
        f"{'cell':<7}{'training':<16}{'I, H, O, B, T':<22}{'xprnn':>12}{heads}   ratio"
        "      (steps a second; ratio of times)"
    )
    rows = comparison.time("training", _line)
    facts = comparison.timing_facts(rows)
    for found, row in zip(facts["rows"], rows, strict=True):
        times = {"xprnn": row.ours, **row.peers}
        found["steps_per_second"] = {library: 1 / seconds for library, seconds in times.items()}
    report.finish(facts)
    return 0


def _line(row: TimeRow) -> str:
    case = CASES[row.case]
    shape = f"{case.inputs}, {case.hidden}, {case.outputs}, {case.batch}, {case.steps}"
    speeds = "".join(f"{1 / seconds:10.1f}/s" for seconds in (row.ours, *row.peers.values()))
    return f"{row.cell:<7}{row.case:<16}{shape:<22}{speeds}{ratio_text(row.ratio)}"
