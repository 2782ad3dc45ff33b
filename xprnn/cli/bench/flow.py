"""``xprnn bench flow``: what it costs to measure how the gradient flows."""

import argparse

from xprnn.bench.flow import run_flow
from xprnn.bench.layer import CASES
from xprnn.cli.bench.options import (
    cell_and_case_options,
    json_option,
    lowering_option,
    setting_of,
    threads_option,
)
from xprnn.cli.bench.report import Comparison

HELP = "time gradient_flow beside the passes that it makes"
DESCRIPTION = """\
Time xprnn.diagnostics.gradient_flow with its default options, which makes a forward pass and two
backward passes and measures on the way, beside one forward and one backward pass of the same layer
with a loss at every step; and once more given the forward pass, a Run.  They take turns in a
process of their own, which reports medians.  The ratios are the times of gradient_flow over that of
the backward pass.  They are wanted to be at most 3; where a pass takes less than a tenth of a
millisecond, a third of the time or more goes to the calls of Python that measure.  --dtype and
--seed change nothing; --out writes bench-flow.json."""
EXAMPLE = """\
examples:
  xprnn bench flow
  xprnn bench flow --cells lstm --cases medium,large --threads 1"""
FEW = ("tiny", "small", "medium", "large")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    cell_and_case_options(parser, FEW)
    threads_option(parser, "cores that the process may use", default=1)
    lowering_option(parser)
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        metavar="S",
        help="how long each of the four is measured (default 0.5)",
    )
    parser.set_defaults(against="none")
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    setting = setting_of(args)._replace(seconds=args.seconds)
    comparison = Comparison.begin("flow", args, setting, CASES, ())
    report, rows = comparison.report, []
    heads = f"{'forward':>11}{'backward':>11}{'flow':>11}   ratio{'from a Run':>13}   ratio"
    report.tell(f"{'cell':<7}{'case':<9}{'I, H, B, T':<20}{heads}")
    for row in run_flow(comparison.cells, comparison.cases, setting):
        rows.append(row)
        shape = ", ".join(map(str, CASES[row.case]))
        times = "".join(f"{1000 * s:8.2f} ms" for s in (row.forward, row.backward, row.flow))
        tape = f"{1000 * row.from_tape:10.2f} ms{row.tape_ratio:8.2f}"
        report.tell(f"{row.cell:<7}{row.case:<9}{shape:<20}{times}{row.ratio:8.2f}{tape}")
    report.finish({**comparison.facts(), "rows": [row._asdict() for row in rows]})
    return 0
