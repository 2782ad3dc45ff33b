"""``xprnn bench distributed``: what training on several processes gains and costs."""

import argparse
import platform
from typing import Any

from xprnn import checks
from xprnn._version import __version__
from xprnn.bench.distributed import (
    DEEP,
    MEGABYTES,
    Shape,
    added_seconds,
    launched,
    weights_of,
)
from xprnn.bench.process import available_cores
from xprnn.cli.bench.options import against_option, json_option, peers_of
from xprnn.cli.bench.report import Report

HELP = "time training on several processes"
DESCRIPTION = """\
Train an LSTM with a readout on several processes of one thread each, which mpiexec starts, and on
one: ½ squared error, clipping by norm, Adam, in float32, B sequences on each (weak scaling).
Printed are seconds of an update and sequences a second, for xprnn and for torch's
DistributedDataParallel over gloo; what a communicator of one rank costs; the time to add up 4 MB
next to mpi4py's own Allreduce; what it gains to add up the gradients of upper layers while those of
lower ones are computed; and, from the measured times of messages, the efficiency that follows for
up to 1,024 ranks.  --out writes bench-distributed.json."""
LARGE = Shape(512, 8, 25)
"""A network whose gradients are large for its work."""
SIMULATED = 2, 16, 128, 1024
EXAMPLE = """\
examples:
  xprnn bench distributed
  xprnn bench distributed --ranks 4 --hidden 128 --against none"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("--ranks", type=int, default=2, metavar="N", help="processes (default 2)")
    add("--hidden", type=int, default=256, metavar="N", help="hidden units (default 256)")
    add("--batch", type=int, default=64, metavar="N", help="sequences of each (default 64)")
    add("--steps", type=int, default=100, metavar="N", help="time steps (default 100)")
    add(
        "--seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="how long each figure is measured (default 3)",
    )
    against_option(parser, ("torch",))
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Time and print."""
    ranks = checks.positive_int("--ranks", args.ranks)
    shape = Shape(
        checks.positive_int("--hidden", args.hidden),
        checks.positive_int("--batch", args.batch),
        checks.positive_int("--steps", args.steps),
    )
    seconds = checks.number("--seconds", args.seconds, open_=True)
    peers = peers_of(args.against, ("torch",))
    report = Report("distributed", args)
    report.tell(
        f"{platform.platform()}, {available_cores()} cores, xprnn {__version__}; LSTM, H = "
        f"{shape.hidden}, B = {shape.batch} a rank, T = {shape.steps}, one thread a rank"
    )
    report.tell_missing(peers)
    report.tell(f"{'':<8}{'ranks':>6}{'update':>13}{'sequences/s':>14}{'scaling':>10}")
    rows: list[dict[str, Any]] = []
    for name, work in [("xprnn", "training"), *((peer, peer) for peer in peers.installed)]:
        alone = 0.0
        for count in dict.fromkeys((1, ranks)):
            update = launched(work, count, seconds, shape)["update"]
            speed = count * shape.batch / update
            alone = alone or speed
            rows.append({"library": name, "ranks": count, "update": update, "speed": speed})
            report.tell(
                f"{name:<8}{count:>6}{1000 * update:>10.2f} ms{speed:>14.0f}{speed / alone:>10.2f}"
            )
    one = launched("overhead", 1, seconds, shape)
    added = launched("reduction", ranks, seconds, shape)
    one_message = launched("messages", ranks, seconds, shape)
    deep = launched("layers", ranks, seconds, LARGE)
    report.tell(f"a communicator of one rank: {100 * (one['with'] / one['without'] - 1):+.1f} %")
    report.tell(
        f"adding up {MEGABYTES} MB on {ranks} ranks: {1000 * added['xprnn']:.2f} ms, mpi4py's "
        f"Allreduce {1000 * added['mpi4py']:.2f} ms, ratio {added['xprnn'] / added['mpi4py']:.2f}"
    )
    megabytes = 4 * weights_of(LARGE, DEEP) / 1e6
    report.tell(
        f"{DEEP} layers, H = {LARGE.hidden}, B = {LARGE.batch} a rank, T = {LARGE.steps}, "
        f"{megabytes:.0f} MB of gradients: {1000 * deep['at the end']:.2f} ms an update, "
        f"{1000 * deep['meanwhile']:.2f} ms where they are added up while others are computed"
    )
    simulated = []
    if ranks > 1:
        latency, bandwidth = one_message["latency"], one_message["bandwidth"]
        step, size = rows[0]["update"], 4.0 * weights_of(shape)
        simulated = [
            {"ranks": n, "efficiency": step / (step + added_seconds(n, size, latency, bandwidth))}
            for n in SIMULATED
        ]
        report.tell(
            f"a message takes {1e6 * latency:.1f} us and {bandwidth / 1e9:.2f} GB/s are moved; "
            "simulated from that and the update on 1 rank, the share of n-fold speed: "
            + ", ".join(f"{each['efficiency']:.3f} on {each['ranks']}" for each in simulated)
        )
    report.finish(
        {
            **peers.facts(),
            "shape": shape._asdict(),
            "rows": rows,
            "one rank": one,
            "reduction": added,
            "layers": deep,
            "messages": one_message,
            "simulated": simulated,
        }
    )
    return 0
