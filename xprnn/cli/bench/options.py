"""The options that the comparisons share, and what they stand for."""

import argparse
import importlib.util
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend.numba import WORDS
from xprnn.bench.isa import ISAS, isa_variables
from xprnn.bench.process import available_cores
from xprnn.bench.timing import CELLS, ON_DEVICE, PRECISIONS, Setting


class Peers(NamedTuple):
    """The other libraries of a comparison: those that are installed, and those that are missing."""

    installed: list[str]
    missing: list[str]

    def versions(self) -> dict[str, str]:
        """Return the versions of NumPy and of the installed libraries."""
        return {name: metadata.version(name) for name in ("numpy", *self.installed)}

    def facts(self) -> dict[str, Any]:
        """Return both as plain data."""
        return {"versions": self.versions(), "missing": self.missing}


def against_option(parser: argparse.ArgumentParser, peers: Sequence[str]) -> None:
    """Add ``--against``."""
    names = ",".join(peers)
    parser.add_argument(
        "--against",
        default=names,
        metavar="LIBRARIES",
        help=f"the other libraries, separated by commas, or none (default {names})",
    )


def cell_and_case_options(parser: argparse.ArgumentParser, cases: Iterable[str]) -> None:
    """Add ``--cells`` and ``--cases``."""
    add = parser.add_argument
    cells = ",".join(CELLS)
    add("--cells", default=cells, metavar="NAMES", help=f"separated by commas (default {cells})")
    known = tuple(cases)
    add(
        "--cases",
        default=",".join(known),
        metavar="NAMES",
        help=f"separated by commas; known are {', '.join(known)} (default: all)",
    )


def threads_option(parser: argparse.ArgumentParser, what: str, default: int | None = None) -> None:
    """Add ``--threads``; the default is the number of cores."""
    cores = available_cores() if default is None else default
    here = " here" if default is None else ""
    parser.add_argument(
        "--threads", type=int, default=cores, metavar="N", help=f"{what} (default{here} {cores})"
    )


def lowering_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--lowering``."""
    parser.add_argument(
        "--lowering",
        metavar="NAME",
        help=f"how xprnn runs its cells: {', '.join(WORDS)} (default: as XPRNN_LOWERING says)",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON only")


def precision_option(parser: argparse.ArgumentParser, known: Sequence[str] = PRECISIONS) -> None:
    """Add ``--precision``."""
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help=f"of products, on every side: {', '.join(known)} (default float32); tf32 is float32 "
        "arrays with products in TF32, on a GPU",
    )
    parser.set_defaults(precisions=tuple(known))


def timing_options(
    parser: argparse.ArgumentParser,
    cases: Iterable[str],
    peers: Sequence[str],
    precisions: Sequence[str] = PRECISIONS,
) -> None:
    """Add the options of the comparisons that time work in several libraries."""
    against_option(parser, peers)
    cell_and_case_options(parser, cases)
    threads_option(parser, "cores that each process may use")
    lowering_option(parser)
    precision_option(parser, precisions)
    isa_option(parser)
    add = parser.add_argument
    add(
        "--seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="how long a process measures (default 1)",
    )
    rounds_option(parser, "every library", default=2)
    json_option(parser)


def rounds_option(parser: argparse.ArgumentParser, whose: str, *, default: int) -> None:
    """Add ``--rounds``."""
    parser.add_argument(
        "--rounds",
        type=int,
        default=default,
        metavar="N",
        help=f"turns of {whose}, of which the best one counts (default {default})",
    )


def setting_of(args: argparse.Namespace) -> Setting:
    """Return how to measure, from the options that the command has."""
    setting = Setting(checks.positive_int("--threads", args.threads), args.backend)
    if args.lowering is not None:
        lowering = checks.choice("--lowering", args.lowering, WORDS)
        setting = setting._replace(lowering=lowering)
    if hasattr(args, "rounds"):
        setting = setting._replace(
            seconds=checks.number("--seconds", args.seconds, open_=True),
            rounds=checks.positive_int("--rounds", args.rounds),
            precision=checks.choice("--precision", args.precision, args.precisions),
            isa=checked_isa(args),
        )
        if setting.precision == "tf32" and setting.backend not in ON_DEVICE:
            raise ValueError("--precision is 'tf32', which only a GPU has: expected --backend cupy")
    return setting


def isa_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--isa``."""
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help=f"keep all libraries to these instructions of x86: {', '.join(ISAS)} (default: all "
        "that the processor has)",
    )


def checked_isa(args: argparse.Namespace) -> str | None:
    """Return the instructions that ``--isa`` names, which the processor must have."""
    isa: str | None = args.isa
    isa_variables(isa)
    return isa


def names_of(option: str, given: str, known: Iterable[str]) -> list[str]:
    """Return the names in an option's value, all of which must be known."""
    names = tuple(known)
    return [checks.choice(option, word.strip(), names) for word in given.split(",")]


def peers_of(given: str, known: Sequence[str]) -> Peers:
    """Return the libraries that ``--against`` names."""
    wanted = [] if given == "none" else names_of("--against", given, known)
    there = {peer: importlib.util.find_spec(peer) is not None for peer in wanted}
    return Peers([p for p in wanted if there[p]], [p for p in wanted if not there[p]])
