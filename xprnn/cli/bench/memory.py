"""``xprnn bench memory``: peaks and bytes a time step, against torch."""

import argparse

from xprnn import checks
from xprnn.bench.case import CELLS
from xprnn.bench.memory import (
    LONG,
    LONG_LIMIT,
    WORKS,
    LongRow,
    MemoryRow,
    can_be_measured,
    can_recompute,
    run_long,
    run_memory,
)
from xprnn.bench.timing import ON_DEVICE, Setting
from xprnn.cli.bench.report import (
    Report,
    against_option,
    choice_options,
    json_option,
    lowering_option,
    lowering_wanted,
    peers_of,
    preface,
    tell_lowering,
    versions_of,
    words,
)

PEERS = ("torch",)
CASES = (*(case for cases in WORKS.values() for case in cases), "long")
HELP = "measure peak memory and bytes a time step, against torch"
DESCRIPTION = """\
Measure what one call adds at most to the memory that a process holds: of a layer, forward and
backward, or of a whole training step.  Data, weights and what a library loads at its first call
are there before; gradients, the optimizer's memory and the tape count.  Every measurement is in a
process of its own, at two lengths (--steps); bytes a step are the difference of both peaks over
that of the lengths, and the ratio is xprnn's over torch's: below 1 xprnn takes less.  The case
"long" trains one step on a sequence of 100,000 steps with 256 units, which is to fit into 1 GiB
with recompute=True.  Linux only, and for what computes on the CPU.  --dtype and --seed change
nothing; --out writes bench-memory.json."""
EXAMPLE = """\
examples:
  xprnn bench memory
  xprnn bench memory --cells lstm --cases medium,characters --steps 200,400
  xprnn bench memory --cases long --against none"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    against_option(parser, PEERS)
    choice_options(parser, CASES)
    parser.add_argument(
        "--steps", default="100,300", metavar="FEW,MANY", help="two lengths (default 100,300)"
    )
    parser.add_argument("--threads", type=int, default=1, help="cores to use (default 1)")
    lowering_option(parser)
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print."""
    lengths = _lengths(args.steps)
    setting = Setting(
        checks.positive_int("--threads", args.threads), args.backend, lowering_wanted(args)
    )
    cells = words("--cells", args.cells, CELLS)
    cases = words("--cases", args.cases, CASES)
    wanted, peers = peers_of(args.against, PEERS)
    if args.backend in ON_DEVICE:
        raise ValueError(f"--backend is {args.backend!r}: expected one that computes on the CPU")
    reason = can_be_measured()
    if reason:
        raise OSError(reason)
    report = Report("memory", args)
    report.tell(preface(setting.threads, setting.backend, peers))
    report.missing(wanted, peers)
    lowering = tell_lowering(report, cells, setting)
    rows: list[MemoryRow] = []
    for work, known in WORKS.items():
        chosen = [case for case in cases if case in known]
        if chosen:
            report.tell(_heads(work, peers, lengths[1]))
        for row in run_memory(work, cells, chosen, peers, lengths, setting):
            rows.append(row)
            report.tell(_line(row))
    long = _long(report, cells, peers, setting) if "long" in cases else []
    report.finish(
        {
            "versions": versions_of(peers),
            "missing": [peer for peer in wanted if peer not in peers],
            "backend": setting.backend,
            "lowering": lowering,
            "threads": setting.threads,
            "steps": lengths,
            "rows": [row._asdict() for row in rows],
            "long": [row._asdict() for row in long],
            "recompute": can_recompute(),
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
    title = {"layer": "layer, forward and backward", "training": "training step"}[work]
    columns = "".join(f"{f'{name}, peak':>14}{'a step':>12}" for name in ("xprnn", *peers))
    return (
        f"{title} (peak at {steps} steps)\n{'cell':<7}{'case':<12}{'I, H, B':<16}{columns}   ratio"
    )


def _line(row: MemoryRow) -> str:
    case = WORKS[row.work][row.case]
    shape = f"{case.inputs}, {case.hidden}, {case.batch}"
    columns = "".join(
        f"{row.peak[name] / 2**20:10.1f} MiB{row.per_step[name] / 2**10:8.1f} KiB"
        for name in row.peak
    )
    ratio = "" if row.ratio is None else f"{row.ratio:8.2f}"
    return f"{row.cell:<7}{row.case:<12}{shape:<16}{columns}{ratio}"


def _long(report: Report, cells: list[str], peers: list[str], setting: Setting) -> list[LongRow]:
    report.tell(
        f"training step on {LONG.steps} time steps, {LONG.hidden} units, one sequence; "
        f"wanted with recompute: at most {LONG_LIMIT / 2**20:g} MiB"
    )
    if not can_recompute():
        report.tell("this xprnn has no recompute=: no row with it")
    rows = []
    for row in run_long(cells, peers, setting):
        rows.append(row)
        found = ", ".join(
            f"{name} {row.peak[name] / 2**20:.1f} MiB in {row.seconds[name]:.1f} s"
            for name in row.peak
        )
        report.tell(f"{row.cell:<7}{'recompute' if row.recompute else '':<12}{found}")
    return rows
