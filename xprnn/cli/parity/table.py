"""What ``xprnn parity`` found, as a table and as JSON."""

import math
import platform
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from xprnn._version import __version__
from xprnn.backend import NEEDED_FOR, Backend
from xprnn.backend.host.threads import blas
from xprnn.cli.parity.places import Place, names_of
from xprnn.testing import Row
from xprnn.testing.parity.functions import FunctionReport
from xprnn.testing.parity.report import and_more, worst_of_each
from xprnn.testing.parity.suite import Result, Sizes

COLUMNS = {
    "functions": ("functions",),
    "output": ("structure", "output", "state", "loss", "run"),
    "gradients": ("gradients",),
    "update": ("update",),
    "training": ("training",),
}
"""The columns of the table; each shows the worst error of some quantities."""

WIDTH = 100
"""Longer lines are wrapped."""
WIDEST = 20
"""The most characters of a backend's name in the table."""
MOST = 12
"""The most disagreements that are printed for one backend in one dtype."""


class Found(NamedTuple):
    """A row of a report, with its cell, problem, backend and dtype."""

    cell: str
    problem: str
    backend: str
    device: str
    dtype: str
    row: Row

    def __str__(self) -> str:
        # Functions are compared without a cell.
        case = "" if self.row.quantity == "functions" else f"{self.cell}, {self.problem}, "
        return f"{case}{self.row}"


def found_in(results: Sequence[Result], places: Sequence[Place]) -> list[Found]:
    """Return the rows of all reports; those of functions once for every backend and dtype."""
    named, seen = names_of(places), set[tuple[str, str, str]]()
    found = []
    for result in results:
        for side in result.report.sides:
            place = named(side), side.device, side.dtype
            found += [
                Found(result.cell, result.problem, *place, row)
                for row in side.rows
                if row.quantity != "functions" or place not in seen
            ]
            seen.add(place)
    return found


def head(places: Sequence[Place], dtypes: Sequence[str] = ()) -> Iterator[str]:
    """Yield the first lines: the versions, and every backend with the dtypes that it lacks."""
    width = max(len(place.name) for place in places)
    yield f"xprnn {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield "backends:"
    for place in places:
        lacks = place.lacks(dtypes)
        words = f"{place}; no {', no '.join(lacks)}: skipped" if lacks else f"{place}"
        yield from _wrapped(f"  {place.name:<{width}}  {words}", width + 4)


def functions_lines(
    places: Sequence[Place], functions: Mapping[Backend, FunctionReport]
) -> Iterator[str]:
    """Yield what was found of the functions alone, for each backend in each dtype."""
    names = {
        f"{_short(name, WIDEST)} in {dtype}": report
        for (name, dtype), report in functions_of(places, functions).items()
    }
    width = max(map(len, names), default=0)
    yield "functions, each alone, and errors of some in units in the last place:"
    for name, report in names.items():
        yield from _wrapped(f"  {name:<{width}}  {summary(report)}", width + 4)


def functions_of(
    places: Sequence[Place], functions: Mapping[Backend, FunctionReport]
) -> dict[tuple[str, str], FunctionReport]:
    """Return the reports by the backend's name in the list and by dtype."""
    found = {}
    for backend, report in functions.items():
        name = next(p.name for p in places if p.backend and _same_place(p.backend, backend))
        found[name, backend.dtype_name] = report
    return found


def summary(report: FunctionReport) -> str:
    """Return in words how many functions were compared, what was skipped, and how exact some are.

    Examples
    --------
    >>> summary(FunctionReport((Row("functions", 0.0, 1.0, "", name="exp"),), (), {"exp": 0.52}))
    '1 of 1; exp 0.5'
    """
    skipped = [row for row in report.rows if row.skipped]
    parts = [f"{len(report.rows) - len(skipped)} of {len(report.rows)}"]
    for row in skipped:
        why = f"no {row.name} ({NEEDED_FOR[row.name]})" if row.name in NEEDED_FOR else ""
        parts.append(f"skipped: {why or f'{row.name} ({row.skipped})'}")
    wrong = [row.name for row in report.rows if not row.agrees]
    parts += [f"wrong: {', '.join(wrong)}"] if wrong else []
    if report.ulps:
        parts.append(", ".join(f"{name} {in_ulps(ulps)}" for name, ulps in report.ulps.items()))
    return "; ".join((*parts, *report.notes))


def in_ulps(ulps: float) -> str:
    """Return an error in units in the last place as text."""
    return f"{ulps:.1f}" if ulps < 1000 else f"{ulps:.0e}"


def _same_place(one: Backend, other: Backend) -> bool:
    return (one.name, one.device) == (other.name, other.device)


class Table:
    """The table; its lines can be made as results arrive.

    Parameters
    ----------
    places : sequence of Place
    cells : sequence of str
    dtypes : sequence of str
    steps : int
        The number of training steps.
    """

    def __init__(
        self,
        places: Sequence[Place],
        cells: Sequence[str],
        dtypes: Sequence[str],
        steps: int,
    ) -> None:
        self.steps, self.places = steps, places
        self.dtype = max(map(len, dtypes))
        self.cell = max(map(len, ("cell", *cells)))
        self.name = min(WIDEST, max(map(len, ("backend", *(place.name for place in places)))))

    def head(self) -> str:
        """Return the line with the titles of the columns."""
        training = f"{self.steps} step" + "s" * (self.steps != 1)
        titles = "".join(f"{title:>10}" for title in [*list(COLUMNS)[:-1], training])
        return f"{self._first('cell', 'backend', 'dtype')}{titles} ms/step"

    def _first(self, cell: str, name: str, dtype: str) -> str:
        """Return the first three columns of a line."""
        return f"{cell:<{self.cell}} {name:<{self.name}} {dtype:<{self.dtype}}"

    def lines(self, results: Sequence[Result]) -> Iterator[str]:
        """Yield the lines of one cell, given its results on all problems."""
        named = names_of(self.places)
        seconds = {
            (named(side), side.dtype): side.seconds
            for result in results
            for side in result.report.sides
            if side.seconds is not None
        }
        for (name, dtype), rows in _by_side(found_in(results, self.places)).items():
            parts = [[f.row for f in rows if f.row.quantity in kinds] for kinds in COLUMNS.values()]
            time = seconds.get((name, dtype))
            yield (
                f"{self._first(results[0].cell, _short(name, self.name), dtype)}"
                f"{''.join(map(_part, parts))}{'-' if time is None else f'{1000 * time:.2f}':>8}"
            )


def tail(
    results: Sequence[Result], places: Sequence[Place], *, traces: bool = False
) -> Iterator[str]:
    """Yield the lines below the table: where the worst errors are, and what disagrees.

    With ``traces`` the tracebacks of exceptions follow.
    """
    sides = _by_side(found_in(results, places))
    yield "nearest to its tolerance, or furthest beyond:"
    for (name, dtype), rows in sides.items():
        worst = max(rows, key=lambda found: found.row.used)
        yield from _wrapped(f"  {name} in {dtype}: {worst}", 6)
    for (name, dtype), rows in sides.items():
        yield from _aside(f"{name} in {dtype}", rows)
    if all(found.row.agrees for rows in sides.values() for found in rows):
        some = any(found.row.expected for rows in sides.values() for found in rows)
        yield "all of them agree, except where it is expected" if some else "all of them agree"
        return
    for (name, dtype), rows in sides.items():
        # A function that is wrong in every case is printed once.
        wrong = list(dict.fromkeys(_disagreements(rows)))
        if wrong:
            yield f"DISAGREES: {name} in {dtype}"
            for words in wrong[:MOST]:
                yield from _wrapped(f"  {words}", 6)
            if len(wrong) > MOST:
                yield f"  and {len(wrong) - MOST} more lines; --json has everything"
    if traces:
        # The same exception in every problem is printed once.
        for trace in dict.fromkeys(found.row.trace for rows in sides.values() for found in rows):
            yield from trace.rstrip().splitlines()


def _aside(name: str, rows: Sequence[Found]) -> Iterator[str]:
    """Yield what was skipped, and what disagrees as expected."""
    for status, words in (("skipped", "skipped"), ("expected", "disagrees as expected")):
        # Functions that are skipped are above the table.
        mine = [
            found
            for found in rows
            if found.row.status == status
            and not (status == "skipped" and found.row.quantity == "functions")
        ]
        for line in dict.fromkeys(_short_of(found) for found in mine):
            yield from _wrapped(f"{words}: {name}: {line}", 4)


def _short_of(found: Found) -> str:
    row = found.row
    case = "" if row.quantity == "functions" else f"{found.cell}, {found.problem}, "
    reason = row.skipped or row.expected
    return f"{case}{row.quantity}{f' {row.name}' * bool(row.name)}: {reason}"


def facts_of(
    places: Sequence[Place], results: Sequence[Result], sizes: Sizes, steps: int, seed: int
) -> dict[str, Any]:
    """Return all results as plain data, with None for numbers that are not finite."""
    named = names_of(places)
    return {
        "date": date.today().isoformat(),
        "xprnn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "blas": blas(),
        "backends": [place.facts() for place in places],
        "reference": results[0].report.reference,
        "sizes": sizes._asdict(),
        "steps": steps,
        "seed": seed,
        "agrees": all(result.report.agrees for result in results),
        "rows": [
            {
                "cell": found.cell,
                "problem": found.problem,
                "backend": found.backend,
                "device": found.device,
                "dtype": found.dtype,
                "quantity": found.row.quantity,
                "error": _finite(found.row.error),
                "tolerance": _finite(found.row.tolerance),
                "name": found.row.name,
                "where": found.row.where,
                "detail": found.row.detail,
                "at": found.row.at,
                "status": found.row.status,
                "reason": found.row.skipped or found.row.expected,
                "agrees": found.row.agrees,
            }
            for found in found_in(results, places)
        ],
        "times": [
            {
                "cell": result.cell,
                "backend": named(side),
                "device": side.device,
                "dtype": side.dtype,
                "seconds": side.seconds,
            }
            for result in results
            for side in result.report.sides
            if side.seconds is not None
        ],
    }


def _by_side(rows: Sequence[Found]) -> dict[tuple[str, str], list[Found]]:
    sides: dict[tuple[str, str], list[Found]] = {}
    for found in rows:
        sides.setdefault((found.backend, found.dtype), []).append(found)
    return sides


def _disagreements(found: Sequence[Found]) -> Iterator[str]:
    """Yield the worst error of every quantity in every case, in words."""
    cases: dict[tuple[str, str], list[Row]] = {}
    for one in found:
        if not one.row.agrees:
            cases.setdefault((one.cell, one.problem), []).append(one.row)
    for (cell, problem), rows in cases.items():
        for row, more in worst_of_each(rows):
            yield f"{Found(cell, problem, '', '', '', row)}{and_more(more)}"


def _part(rows: Sequence[Row]) -> str:
    """Return one entry of the table, ten characters: the worst error of some rows."""
    if not rows:
        return f"{'-':>9} "
    worst = max(rows, key=lambda row: row.used)
    words = f"{worst.error:.1e}" if math.isfinite(worst.error) else "wrong"
    return f"{'0' if worst.error == 0 else words:>9}{' ' if worst.agrees else '!'}"


def _short(name: str, width: int) -> str:
    # The end of module:namespace says more than its beginning.
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, drop_whitespace=True)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
