"""What the comparisons print and write: lines or JSON, the machine, a file of the facts."""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from xprnn._version import __version__
from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.backend.host.kernels import narrower_blas
from xprnn.backend.host.threads import blas
from xprnn.bench.isa import isa_variables
from xprnn.bench.lowering import lowering_of
from xprnn.bench.timing import CELLS, Setting, TimeRow, compare
from xprnn.cli.bench.options import Peers, names_of, peers_of


class Report:
    """Lines for people or JSON for machines, and a file of the facts if there is a folder for it.

    It is made before the work, so that a folder that can't be written to is found out in time.

    Parameters
    ----------
    name : str
        The comparison; the file is ``bench-NAME.json``.
    args : argparse.Namespace
        With ``json`` and ``out``.
    folder : path, optional
        Where to write, instead of ``out``.
    """

    def __init__(self, name: str, args: argparse.Namespace, folder: Path | None = None) -> None:
        self.file = f"bench-{name}.json"
        self.json: bool = args.json
        self.folder = folder
        if folder is None and args.out is not None:
            self.folder = output_folder(args.out)

    def tell(self, line: str) -> None:
        """Print a line, unless JSON is wanted."""
        if not self.json:
            print(line, flush=True)

    def tell_missing(self, peers: Peers) -> None:
        """Name the libraries that are not installed."""
        for peer in peers.missing:
            self.tell(f"{peer} is not installed and is left out")

    def finish(self, facts: Mapping[str, Any], *written: str) -> None:
        """Add the machine to the facts; print them as JSON or write them, as wanted.

        Parameters
        ----------
        facts : mapping
        written : str
            Files that are in the folder already.
        """
        text = json.dumps({**machine(), **facts}, indent=2)
        if self.json:
            print(text)
        if self.folder is not None:
            write_atomic(self.folder / self.file, f"{text}\n".encode())
            self.tell(f"written to {self.folder}: {', '.join((*written, self.file))}")


@dataclass(frozen=True)
class Comparison:
    """A comparison of cells at some shapes in several libraries, with its report."""

    report: Report
    setting: Setting
    cells: list[str]
    cases: list[str]
    peers: Peers
    lowering: dict[str, str]

    @classmethod
    def begin(
        cls,
        name: str,
        args: argparse.Namespace,
        setting: Setting,
        cases: Iterable[str],
        peers: Sequence[str],
    ) -> "Comparison":
        """Check the options, and print the machine, the versions and the lowering of every cell."""
        wanted_cells = names_of("--cells", args.cells, CELLS)
        wanted_cases = names_of("--cases", args.cases, cases)
        wanted_peers = peers_of(args.against, peers)
        report = Report(name, args)
        versions = ", ".join(f"{name} {v}" for name, v in wanted_peers.versions().items())
        report.tell(
            f"{platform.platform()}, {setting.threads} threads, xprnn {__version__} on "
            f"{setting.backend}, {versions}"
        )
        tell_isa(report, setting)
        report.tell_missing(wanted_peers)
        lowering = lowering_of(wanted_cells, setting)
        asked_for = "" if setting.lowering is None else f" ({setting.lowering} asked for)"
        report.tell(f"lowering{asked_for}:")
        for lines in lowering.values():
            report.tell(indent(lines, "  "))
        return cls(report, setting, wanted_cells, wanted_cases, wanted_peers, lowering)

    def time(self, module: str, line: Callable[[TimeRow], str]) -> list[TimeRow]:
        """Time the work of a module of `xprnn.bench`; print a line for each row, and a summary."""
        rows = []
        for row in compare(module, self.cells, self.cases, self.peers.installed, self.setting):
            rows.append(row)
            self.report.tell(line(row))
        if self.peers.installed:
            self.report.tell(summary(rows))
        return rows

    def facts(self) -> dict[str, Any]:
        """Return what all rows have in common, as plain data."""
        return {
            **self.peers.facts(),
            "backend": self.setting.backend,
            "lowering": self.lowering,
            "threads": self.setting.threads,
            "isa": self.setting.isa,
        }

    def timing_facts(self, rows: Iterable[TimeRow]) -> dict[str, Any]:
        """Return the facts of a comparison that times, its rows included."""
        return {
            **self.facts(),
            "seconds": self.setting.seconds,
            "rounds": self.setting.rounds,
            "precision": self.setting.precision,
            "rows": [row._asdict() for row in rows],
        }


def tell_isa(report: Report, setting: Setting) -> None:
    """Print the instructions that all libraries are kept to, and by which variables.

    Without any, say it if NumPy's BLAS leaves the processor's widest vectors unused.
    """
    if setting.isa is not None:
        variables = isa_variables(setting.isa)
        words = " ".join(f"{name}={value}" for name, value in variables.items())
        report.tell(f"every library is kept to the instructions {setting.isa}: {words}")
    elif setting.backend == "numpy" and (narrower := narrower_blas()):
        report.tell(f"NumPy's BLAS: {narrower}")


def machine() -> dict[str, Any]:
    """Return the machine and the versions that all figures depend on."""
    return {
        "xprnn": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "blas": blas(),
    }


def ratio_text(ratio: float | None) -> str:
    """Return a ratio as the last column of a table; empty without other libraries."""
    return "" if ratio is None else f"{ratio:8.2f}"


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
