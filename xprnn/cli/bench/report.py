"""What the benchmark commands share: options, the description of the machine, tables, JSON."""

import argparse
import importlib.util
import json
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from textwrap import indent
from typing import Any

from xprnn import checks
from xprnn._version import __version__
from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.backend.host.threads import blas
from xprnn.bench.case import CELLS
from xprnn.bench.process import available_cores
from xprnn.bench.timing import LOWERINGS, Setting, TimeRow, lowering_of


class Report:
    """Lines for people or JSON for machines, and a file of the facts if there is to be one.

    Made before the work, so that a folder that can't be written to is found out.

    Parameters
    ----------
    name : str
        Of the file: ``bench-NAME.json``.
    args : argparse.Namespace
        With ``json`` and ``out``.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.file = f"bench-{name}.json"
        self.json: bool = args.json
        self.folder = None if args.out is None else output_folder(args.out)

    def tell(self, line: str) -> None:
        """Print a line, unless JSON is wanted."""
        if not self.json:
            print(line, flush=True)

    def missing(self, wanted: Iterable[str], there: Sequence[str]) -> list[str]:
        """Name the peers that are not installed, and return them."""
        absent = [peer for peer in wanted if peer not in there]
        for peer in absent:
            self.tell(f"{peer} is not installed: nothing for it")
        return absent

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Add the machine to the facts; print them or write them."""
        text = json.dumps({**machine(), **facts}, indent=2)
        if self.json:
            print(text)
        if self.folder is not None:
            write_atomic(self.folder / self.file, f"{text}\n".encode())
            self.tell(f"written to {self.folder}: {self.file}")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "xprnn": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "blas": blas(),
    }


def threads_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--threads``."""
    cores = available_cores()
    parser.add_argument("--threads", type=int, default=cores, help=f"{what} (default here {cores})")


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON, no lines")


def against_option(parser: argparse.ArgumentParser, peers: Sequence[str]) -> None:
    """Add ``--against``."""
    names = ",".join(peers)
    parser.add_argument(
        "--against", default=names, metavar="LIBRARIES", help=f"default {names}; or none"
    )


def choice_options(parser: argparse.ArgumentParser, cases: Iterable[str]) -> None:
    """Add ``--cells`` and ``--cases``."""
    names = ",".join(cases)
    parser.add_argument("--cells", default=",".join(CELLS), help=f"default {','.join(CELLS)}")
    parser.add_argument("--cases", default=names, help=f"of {names} (default: all)")


def lowering_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--lowering``."""
    parser.add_argument(
        "--lowering",
        metavar="NAME",
        help=f"of xprnn's cells: {', '.join(LOWERINGS)} (default: as XPRNN_LOWERING says)",
    )


def lowering_wanted(args: argparse.Namespace) -> str | None:
    """Return the lowering that is asked for, if one is."""
    wanted = args.lowering
    return None if wanted is None else checks.choice("--lowering", wanted, LOWERINGS)


def timing_options(
    parser: argparse.ArgumentParser, cases: Iterable[str], peers: Sequence[str]
) -> None:
    """Add what the commands have that time one work in several libraries."""
    against_option(parser, peers)
    choice_options(parser, cases)
    threads_option(parser, "cores to use")
    lowering_option(parser)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="measured in a process (default 1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of every library; its best counts (default 2)"
    )
    json_option(parser)


def setting_of(args: argparse.Namespace) -> Setting:
    """Return how to time, in the options' words where they make no sense."""
    return Setting(
        checks.positive_int("--threads", args.threads),
        args.backend,
        lowering_wanted(args),
        checks.number("--seconds", args.seconds, open_=True),
        checks.positive_int("--rounds", args.rounds),
    )


def words(option: str, given: str, known: Iterable[str]) -> list[str]:
    """Split a list at its commas."""
    names = tuple(known)
    return [checks.choice(option, word.strip(), names) for word in given.split(",")]


def peers_of(given: str, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the peers that are wanted, and those of them that are installed."""
    wanted = [] if given == "none" else words("--against", given, known)
    return wanted, [peer for peer in wanted if importlib.util.find_spec(peer) is not None]


def preface(threads: int, backend: str, peers: Sequence[str]) -> str:
    """Return a line on the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(peers).items())
    where = f"{platform.platform()}, {threads} threads"
    return f"{where}, xprnn {__version__} on {backend}, {versions}"


def versions_of(peers: Sequence[str]) -> dict[str, str]:
    """Return the versions of NumPy and of peers."""
    return {name: metadata.version(name) for name in ("numpy", *peers)}


def tell_lowering(report: Report, cells: Sequence[str], setting: Setting) -> dict[str, str]:
    """Say how xprnn runs each cell, and return it; not for a lowering that can't be had."""
    found = lowering_of(cells, setting)
    said = "" if setting.lowering is None else f" ({setting.lowering} asked for)"
    report.tell(f"lowering{said}:")
    for lines in found.values():
        report.tell(indent(lines, "  "))
    return found


def summary(rows: Sequence[TimeRow], bound: float = 0.9) -> str:
    """Return the mean of the ratios as a line; empty if there are none."""
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if not ratios:
        return ""
    under = sum(ratio <= bound for ratio in ratios)
    return (
        f"geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}; "
        f"{under} of {len(ratios)} are at most {bound:g}"
    )


def facts_of(
    setting: Setting,
    wanted: Sequence[str],
    peers: Sequence[str],
    lowering: Mapping[str, str],
    rows: Iterable[TimeRow],
) -> dict[str, Any]:
    """Return the facts of the commands that time."""
    return {
        "versions": versions_of(peers),
        "missing": [peer for peer in wanted if peer not in peers],
        "backend": setting.backend,
        "lowering": dict(lowering),
        "threads": setting.threads,
        "seconds": setting.seconds,
        "rounds": setting.rounds,
        "rows": [row._asdict() for row in rows],
    }
