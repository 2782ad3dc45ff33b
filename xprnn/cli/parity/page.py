"""What ``xprnn parity`` found, as one HTML page that needs nothing else.

Everything that comes from a library (names, versions, messages) is text of strangers: it reaches
the page through `escaped` alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from xprnn.backend import Backend
from xprnn.backend.host.quoting import printable
from xprnn.cli.parity.places import Place, names_of
from xprnn.cli.parity.plot import plot
from xprnn.cli.parity.table import COLUMNS, Found, found_in, functions_of, in_ulps
from xprnn.testing.parity.functions import FunctionReport
from xprnn.testing.parity.report import and_more
from xprnn.testing.parity.suite import Result

MOST = 200
"""The most entries in a list of disagreements."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c0392b; --good: #1e7d43; --wait: #96690a }
@media (prefers-color-scheme: dark) { :root { --bad: #ff7b6b; --good: #5fd38d; --wait: #e8b64c } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem }
h1 { font-size: 1.4rem } h3 { font-size: 1rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.disagrees { color: var(--bad) } .agrees { color: var(--good) }
.expected, .skipped { color: var(--wait) }
td.text { overflow-wrap: anywhere; min-width: 12rem }
li { overflow-wrap: anywhere; margin-bottom: .3rem }
pre { overflow-x: auto; font-size: .8rem }
svg { width: 100%; max-width: 46rem; height: auto }
"""


def escaped(text: object) -> str:
    """Return a text that a browser only displays."""
    return escape(printable(str(text)), quote=True)


def page(
    facts: Mapping[str, Any],
    results: Sequence[Result],
    places: Sequence[Place],
    functions: Mapping[Backend, FunctionReport],
    stale: Sequence[str] = (),
) -> bytes:
    """Return the page.

    Parameters
    ----------
    facts : mapping
        As `facts_of` returns it.
    results, places, functions
        What was found.
    stale : sequence of str
        What agrees, though it was expected not to.
    """
    found = found_in(results, places)
    good = facts["agrees"] and not stale
    words = "all backends agree" if good else "something disagrees"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>xprnn parity: {words}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f'<h1>xprnn parity: <span class="{"agrees" if good else "disagrees"}">{words}</span></h1>',
        f"<p>{escaped(_line(facts))}</p>",
        *_backends(places),
        *_functions(functions_of(places, functions)),
        *_stale(stale),
        *_table(found, facts),
        *_rows("Disagrees", [f for f in found if f.row.status == "disagrees"]),
        *_rows("Disagrees as expected", [f for f in found if f.row.status == "expected"]),
        *_rows("Skipped", [f for f in found if f.row.status == "skipped"]),
        *_plots(results, places),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts).encode("utf-8", "backslashreplace")


def _line(facts: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{name} = {size}" for name, size in facts["sizes"].items())
    return (
        f"{facts['date']}, xprnn {facts['xprnn']}, Python {facts['python']}, {facts['platform']}; "
        f"{sizes}; {facts['steps']} training steps; seed {facts['seed']}. Errors are relative to "
        f"the largest entry of each array, which {facts['reference']} computes in float64."
    )


def _backends(places: Sequence[Place]) -> Iterator[str]:
    yield from _head("Backends", "backend", "version, device")
    for place in places:
        yield f'<tr><td>{escaped(place.name)}</td><td class="text">{escaped(place)}</td></tr>'
    yield "</table></div>"


def _functions(functions: Mapping[tuple[str, str], FunctionReport]) -> Iterator[str]:
    exact = list(dict.fromkeys(name for report in functions.values() for name in report.ulps))
    titles = [f"{name}, ULP" for name in exact]
    yield from _head("Functions, each alone", "backend", "dtype", "compared", *titles, "notes")
    for (name, dtype), report in functions.items():
        skipped = [row.name for row in report.rows if row.skipped]
        wrong = [row.name for row in report.rows if not row.agrees]
        notes = [
            *([f"wrong: {', '.join(wrong)}"] if wrong else []),
            *([f"skipped: {', '.join(skipped)}"] if skipped else []),
            *report.notes,
        ]
        count = f"{len(report.rows) - len(skipped)} of {len(report.rows)}"
        ulps = (in_ulps(report.ulps[f]) if f in report.ulps else "" for f in exact)
        cells = "".join(f'<td class="number">{escaped(text)}</td>' for text in (count, *ulps))
        yield (
            f"<tr><td>{escaped(name)}</td><td>{escaped(dtype)}</td>{cells}"
            f'<td class="text{" disagrees" * bool(wrong)}">{escaped("; ".join(notes))}</td></tr>'
        )
    yield "</table></div>"


def _stale(stale: Sequence[str]) -> Iterator[str]:
    if stale:
        yield "<h2>Agrees, though it was expected not to</h2>\n<ul>"
        for words in stale:
            yield f'<li class="disagrees">{escaped(words)}</li>'
        yield "</ul>"


def _rows(title: str, found: Sequence[Found]) -> Iterator[str]:
    """Yield what is known of the worst row of each quantity of each case; nothing if none is."""
    if not found:
        return
    yield f"<h2>{escaped(title)}</h2>"
    sides: dict[tuple[str, str], dict[tuple[str, ...], list[Found]]] = {}
    for one in found:
        row = one.row
        key = ("", "", row.name) if row.quantity == "functions" else (one.cell, one.problem)
        side = sides.setdefault((one.backend, one.dtype), {})
        side.setdefault((*key, row.quantity), []).append(one)
    for (name, dtype), cases in sides.items():
        yield f"<h3>{escaped(name)} in {escaped(dtype)}</h3>\n<ul>"
        for mine in list(cases.values())[:MOST]:
            worst = max(mine, key=lambda one: one.row.used)
            row = worst.row
            reason = f" ({row.expected})" if row.expected else ""
            words = f"{worst}{and_more(len(mine) - 1)}{reason}"
            trace = f"<pre>{escaped_lines(row.trace)}</pre>" if row.trace else ""
            trace = f"<details><summary>traceback</summary>{trace}</details>" if trace else ""
            yield f'<li class="{row.status}">{escaped(words)}{trace}</li>'
        yield "</ul>"
        if len(cases) > MOST:
            yield f"<p>and {len(cases) - MOST} more; --json has everything</p>"


def escaped_lines(text: str) -> str:
    """Return text of several lines that a browser only displays."""
    return "\n".join(map(escaped, text.splitlines()))


def _table(found: Sequence[Found], facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table that the command prints, each entry with the place of its worst error."""
    yield from _head("Largest errors", "cell", "backend", "dtype", *COLUMNS, "ms/step")
    seconds = {(t["cell"], t["backend"], t["dtype"]): t["seconds"] for t in facts["times"]}
    cases: dict[tuple[str, str, str], list[Found]] = {}
    for one in found:
        cases.setdefault((one.cell, one.backend, one.dtype), []).append(one)
    for key, rows in cases.items():
        yield "<tr>" + "".join(f"<td>{escaped(text)}</td>" for text in key)
        for quantities in COLUMNS.values():
            yield _entry([f for f in rows if f.row.quantity in quantities])
        time = f"{1000 * seconds[key]:.2f}" if key in seconds else ""
        yield f'<td class="number">{time}</td></tr>'
    yield "</table></div>"


def _entry(found: Sequence[Found]) -> str:
    compared = [one for one in found if not one.row.skipped]
    if not compared:
        return '<td class="number">' + ("skipped</td>" if found else "</td>")
    worst = max(compared, key=lambda one: (not one.row.agrees, one.row.used))
    error = worst.row.error
    words = "0" if error == 0 else f"{error:.1e}" if math.isfinite(error) else "wrong"
    return f'<td class="number {worst.row.status}" title="{escaped(worst)}">{words}</td>'


def _plots(results: Sequence[Result], places: Sequence[Place]) -> Iterator[str]:
    """Yield a plot for each cell: the errors of the parameters over the steps of the training."""
    named, drawn = names_of(places), False
    for result in results:
        lines = {
            f"{named(side)} in {side.dtype}": side.course
            for side in result.report.sides
            if side.course
        }
        if lines:
            if not drawn:
                yield "<h2>Largest error of the parameters over the steps of the training</h2>"
            drawn = True
            yield f"<h3>{escaped(result.cell)}</h3>"
            yield plot(lines, escaped)


def _head(title: str, *columns: str) -> Iterator[str]:
    yield f'<h2>{escaped(title)}</h2>\n<div class="wide"><table>'
    yield "<tr>" + "".join(f"<th>{escaped(column)}</th>" for column in columns) + "</tr>"
