"""``xprnn bench import``: import time and installed size, against torch and JAX."""

import argparse
from importlib import metadata

from xprnn import checks
from xprnn._version import __version__
from xprnn.bench.imports import LIMIT, ImportRow, SizeRow, run_imports, size_of
from xprnn.bench.timing import PEERS
from xprnn.cli.bench.options import against_option, json_option, peers_of
from xprnn.cli.bench.report import Report, machine

HELP = "time the import and measure the installed size, against torch and JAX"
DESCRIPTION = """\
Import xprnn and other libraries in new interpreters that take turns, NumPy first.  Printed are the
medians of the time that each takes after NumPy, the number of modules that it loads, and the heavy
ones among them (scipy, matplotlib, numba, torch ...).  xprnn should take at most 0.15 s and load no
heavy module.  Below are the sizes of the installed files of each library, and of all distributions
that it needs, without bytecode.  --backend, --dtype and --seed change nothing; --out writes
bench-import.json."""
EXAMPLE = """\
examples:
  xprnn bench import
  xprnn bench import --against none --repeats 21"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    against_option(parser, PEERS)
    parser.add_argument(
        "--repeats",
        type=int,
        default=7,
        metavar="N",
        help="imports of each library, of which the median counts (default 7)",
    )
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Import, measure and print."""
    repeats = checks.positive_int("--repeats", args.repeats)
    peers = peers_of(args.against, PEERS)
    libraries = ("xprnn", *peers.installed)
    report = Report("import", args)
    versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
    facts = machine()
    report.tell(f"{facts['platform']}, Python {facts['python']}, xprnn {__version__}, {versions}")
    report.tell_missing(peers)
    report.tell(f"{'import of':<10}{'NumPy':>10}{'beyond it':>12}{'modules':>9}   heavy among them")
    rows = run_imports(libraries, repeats)
    for row in rows:
        report.tell(
            f"{row.library:<10}{row.numpy:8.3f} s{row.beyond:10.3f} s{row.modules:9d}   "
            f"{', '.join(row.heavy) or 'none'}"
        )
    report.tell(_verdict(rows[0]))
    report.tell(f"{'size of':<10}{'own':>14}{'with needs':>14}   needs")
    sizes = []
    for library in libraries:
        size = _size(library)
        if size is None:
            report.tell(f"{library:<10}is not installed as a distribution: no size")
            continue
        sizes.append(size)
        report.tell(
            f"{library:<10}{size.own / 2**20:10.1f} MiB{size.whole / 2**20:10.1f} MiB   "
            f"{', '.join(size.needs) or 'nothing'}"
        )
    report.finish(
        {
            **peers.facts(),
            "repeats": repeats,
            "imports": [row._asdict() for row in rows],
            "sizes": [size._asdict() for size in sizes],
        }
    )
    return 0


def _verdict(row: ImportRow) -> str:
    time = "within" if row.beyond <= LIMIT else "NOT within"
    heavy = "no heavy module" if not row.heavy else f"HEAVY: {', '.join(row.heavy)}"
    return f"xprnn: {time} {LIMIT:g} s beyond NumPy, {heavy}"


def _size(library: str) -> SizeRow | None:
    try:
        return size_of(library)
    except metadata.PackageNotFoundError:
        return None
