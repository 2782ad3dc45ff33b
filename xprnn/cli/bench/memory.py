"""``xprnn bench memory``: peak memory and bytes per time step, against torch."""

import argparse

from xprnn.bench.memory import (
    LONG,
    LONG_LIMIT,
    WORKS,
    LongRow,
    MemoryRow,
    can_be_measured,
    run_long,
    run_memory,
)
from xprnn.bench.timing import ON_DEVICE
from xprnn.cli.bench.options import (
    against_option,
    cell_and_case_options,
    json_option,
    lowering_option,
    setting_of,
    threads_option,
)
from xprnn.cli.bench.report import Comparison, ratio_text

PEERS = ("torch",)
CASES = (*(case for cases in WORKS.values() for case in cases), "long")
TITLES = {"layer": "layer, forward and backward", "training": "training step"}
HELP = "measure peak memory and bytes per time step, against torch"
DESCRIPTION = """\
Measure the peak of the memory that one call adds to a process: of a layer, forward and backward, or
of a whole training step.  Data, weights and what a library loads at its first call don't count; the
tape, the gradients and the optimizer's state do, and so does the memory that xprnn keeps afterwards
for its next arrays, which has a column.  Every measurement is made in a process of its own, at two
lengths (--steps).  Bytes per step are the difference of the two peaks over that of the lengths; the
ratio is that of xprnn over that of torch: below 1 xprnn takes less.  The case "long" trains one
step on a sequence of 100,000 steps with 256 units, without and with recompute=True; with it the
peak should stay below 1 GiB.  Linux only, and only backends that compute on the CPU.  --dtype and
--seed change nothing; --out writes bench-memory.json."""
EXAMPLE = """\
examples:
  xprnn bench memory
  xprnn bench memory --cells lstm --cases medium,characters --steps 200,400
  xprnn bench memory --cases long --against none"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    against_option(parser, PEERS)
    cell_and_case_options(parser, CASES)
    parser.add_argument(
        "--steps",
        default="100,300",
        metavar="FEW,MANY",
        help="the two lengths in time steps (default 100,300)",
    )
    threads_option(parser, "cores that each process may use", default=1)
    lowering_option(parser)
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    lengths = _lengths(args.steps)
    setting = setting_of(args)
    if args.backend in ON_DEVICE:
        raise ValueError(f"--backend is {args.backend!r}: expected one that computes on the CPU")
    reason = can_be_measured()
    if reason:
        raise OSError(reason)
    comparison = Comparison.begin("memory", args, setting, CASES, PEERS)
    report = comparison.report
    rows: list[MemoryRow] = []
    for work, shapes in WORKS.items():
        cases = [case for case in comparison.cases if case in shapes]
        if cases:
            report.tell(_heads(work, comparison.peers.installed, lengths[1]))
        for row in run_memory(
            work, comparison.cells, cases, comparison.peers.installed, lengths, setting
        ):
            rows.append(row)
            report.tell(_line(row))
    long = _long(comparison) if "long" in comparison.cases else []
    report.finish(
        {
            **comparison.facts(),
            "steps": lengths,
            "rows": [row._asdict() for row in rows],
            "long": [row._asdict() for row in long],
        }
    )
    return 0


def _lengths(given: str) -> tuple[int, int]:
    parts = given.split(",")
    if len(parts) == 2 and all(part.strip().isdecimal() for part in parts):
        few, many = map(int, parts)
        if 0 < few < many:
            return few, many
    raise ValueError(f"--steps is {given!r}: expected two lengths, the smaller one first: 100,300")


def _heads(work: str, peers: list[str], steps: int) -> str:
    columns = "".join(f"{f'{name}, peak':>14}{'a step':>12}" for name in ("xprnn", *peers))
    return (
        f"{TITLES[work]} (peak at {steps} steps)\n"
        f"{'cell':<7}{'case':<12}{'I, H, B':<16}{columns}{'xprnn keeps':>14}   ratio"
    )


def _line(row: MemoryRow) -> str:
    case = WORKS[row.work][row.case]
    shape = f"{case.inputs}, {case.hidden}, {case.batch}"
    columns = "".join(
        f"{row.peak[name] / 2**20:10.1f} MiB{row.per_step[name] / 2**10:8.1f} KiB"
        for name in row.peak
    )
    kept = f"{row.kept / 2**20:10.1f} MiB"
    return f"{row.cell:<7}{row.case:<12}{shape:<16}{columns}{kept}{ratio_text(row.ratio)}"


def _long(comparison: Comparison) -> list[LongRow]:
    """Measure and print the rows of the long sequence."""
    report = comparison.report
    report.tell(
        f"training step on {LONG.steps} time steps, {LONG.hidden} units, one sequence; "
        f"wanted with recompute: at most {LONG_LIMIT / 2**20:g} MiB"
    )
    rows = []
    for row in run_long(comparison.cells, comparison.peers.installed, comparison.setting):
        rows.append(row)
        found = ", ".join(
            f"{name} {row.peak[name] / 2**20:.1f} MiB in {row.seconds[name]:.1f} s"
            for name in row.peak
        )
        report.tell(f"{row.cell:<7}{'recompute' if row.recompute else '':<12}{found}")
    return rows
