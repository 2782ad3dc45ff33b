"""``xprnn bench import``: import time and installed size, against torch and JAX."""

import argparse
from importlib import metadata

from xprnn import checks
from xprnn._version import __version__
from xprnn.bench.imports import LIMIT, ImportRow, SizeRow, run_imports, size_of
from xprnn.bench.timing import PEERS
from xprnn.cli.bench.report import (
    Report,
    against_option,
    json_option,
    machine,
    peers_of,
    versions_of,
)

HELP = "time the import and measure the installed size, against torch and JAX"
DESCRIPTION = """\
Import xprnn and other libraries in fresh interpreters that take turns, NumPy first: medians of what
each takes beyond NumPy, how many modules it loads, and whether heavy ones (scipy, matplotlib,
numba, torch ...) are among them.  For xprnn at most 0.15 s and no heavy module are wanted.  Then
the bytes of the installed files of each, and of all distributions that it needs, without compiled
bytecode.  --backend, --dtype and --seed change nothing; --out writes bench-import.json."""
EXAMPLE = """\
examples:
  xprnn bench import
  xprnn bench import --against none --repeats 21"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    against_option(parser, PEERS)
    parser.add_argument(
        "--repeats", type=int, default=7, help="imports of each that count (default 7)"
    )
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Import, measure, print."""
    repeats = checks.positive_int("--repeats", args.repeats)
    wanted, peers = peers_of(args.against, PEERS)
    report = Report("import", args)
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(peers).items())
    facts = machine()
    report.tell(f"{facts['platform']}, Python {facts['python']}, xprnn {__version__}, {versions}")
    report.missing(wanted, peers)
    report.tell(f"{'import of':<10}{'NumPy':>10}{'beyond it':>12}{'modules':>9}   heavy among them")
    rows = run_imports(("xprnn", *peers), repeats)
    for row in rows:
        report.tell(
            f"{row.library:<10}{row.numpy:8.3f} s{row.beyond:10.3f} s{row.modules:9d}   "
            f"{', '.join(row.heavy) or 'none'}"
        )
    report.tell(_verdict(rows[0]))
    report.tell(f"{'size of':<10}{'own':>14}{'with needs':>14}   needs")
    sizes = []
    for library in ("xprnn", *peers):
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
            "versions": versions_of(peers),
            "missing": [peer for peer in wanted if peer not in peers],
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
