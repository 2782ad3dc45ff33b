"""``xprnn bench train``: whole training steps against torch."""

import argparse

from xprnn.bench.case import CELLS
from xprnn.bench.timing import compare
from xprnn.bench.training_case import TRAININGS, TrainingCase
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

PEERS = ("torch",)
HELP = "time whole training steps, optimizer included, against torch"
DESCRIPTION = """\
Time training steps in float32: output, loss, gradients, clipping by norm, an update by Adam, and
the loss as a number.  The models are a language model of 65 characters (one-hot, a recurrent layer,
a linear one, cross-entropy) and a forecaster of a series of numbers (½ squared error of the last
step or of all).  torch has the same weights, batches, clipping and optimizer (its fused Adam).
Every library works in processes of its own, held to as many cores; medians after warm-up; the
libraries take turns in --rounds rounds, and of a library's medians the smallest counts.  The ratio
is that of the times of a step, xprnn's over torch's: below 1 xprnn is faster.  --dtype and --seed
change nothing; --out writes bench-train.json."""
EXAMPLE = """\
examples:
  xprnn bench train
  xprnn bench train --cells lstm --cases characters --threads 1
  xprnn bench train --against none --lowering off     (xprnn alone, plain array code)"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    timing_options(parser, TRAININGS, PEERS)


def run(args: argparse.Namespace) -> int:
    """Time, print."""
    setting = setting_of(args)
    cells = words("--cells", args.cells, CELLS)
    cases = words("--cases", args.cases, TRAININGS)
    wanted, peers = peers_of(args.against, PEERS)
    report = Report("train", args)
    report.tell(preface(setting.threads, setting.backend, peers))
    report.missing(wanted, peers)
    lowering = tell_lowering(report, cells, setting)
    heads = "".join(f"{peer:>12}" for peer in peers)
    report.tell(
        f"{'cell':<7}{'training':<16}{'I, H, O, B, T':<22}{'xprnn':>12}{heads}   ratio"
        "      (steps a second; ratio of times)"
    )
    rows = []
    for row in compare("training", cells, cases, peers, setting):
        rows.append(row)
        speeds = "".join(f"{1 / t:10.1f}/s" for t in (row.ours, *row.peers.values()))
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f}"
        report.tell(f"{row.cell:<7}{row.case:<16}{_shape(TRAININGS[row.case]):<22}{speeds}{ratio}")
    if peers:
        report.tell(summary(rows))
    facts = facts_of(setting, wanted, peers, lowering, rows)
    for found, row in zip(facts["rows"], rows, strict=True):
        times = {"xprnn": row.ours, **row.peers}
        found["steps_per_second"] = {library: 1 / seconds for library, seconds in times.items()}
    report.finish(facts)
    return 0


def _shape(case: TrainingCase) -> str:
    return ", ".join(
        str(size) for size in (case.inputs, case.hidden, case.outputs, case.batch, case.steps)
    )
