"""What ``xprnn parity`` found, as JUnit XML for dashboards.

A test case is a function, or one quantity of a problem of a cell, on one backend in one dtype.  As
in pytest's files, what disagrees as expected is skipped, with the type ``pytest.xfail``.
"""

from collections.abc import Sequence
from xml.etree import ElementTree

from xprnn.backend.host.quoting import printable
from xprnn.cli.parity.places import Place
from xprnn.cli.parity.table import Found, found_in
from xprnn.testing.parity.suite import Result


def junit(results: Sequence[Result], places: Sequence[Place], stale: Sequence[str] = ()) -> bytes:
    """Return the XML of all results.

    Parameters
    ----------
    results, places : sequence
    stale : sequence of str
        What agrees, though it was expected not to: each is a failure.
    """
    cases: dict[tuple[str, str, str], list[Found]] = {}
    for found in found_in(results, places):
        side = f"{found.backend} in {found.dtype}"
        if found.row.quantity == "functions":
            key = side, "functions", found.row.name
        else:
            key = side, f"{found.cell}.{found.problem}", found.row.quantity
        cases.setdefault(key, []).append(found)
    root = ElementTree.Element("testsuites", name="xprnn parity")
    suites: dict[str, list[ElementTree.Element]] = {}
    for (side, group, name), rows in cases.items():
        suites.setdefault(side, []).append(_case(f"{side}.{group}", name, rows))
    if stale:
        suites["--xfail"] = [_stale(words) for words in stale]
    for side, elements in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", name=printable(side))
        suite.extend(elements)
        _count(suite)
    _count(root)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode("utf-8", "backslashreplace")


def _case(group: str, name: str, rows: Sequence[Found]) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=printable(group), name=printable(name))
    wrong = [found.row for found in rows if found.row.status == "disagrees"]
    expected = [found.row for found in rows if found.row.status == "expected"]
    skipped = [found.row for found in rows if found.row.status == "skipped"]
    if wrong:
        worst = max(wrong, key=lambda row: row.used)
        failure = ElementTree.SubElement(case, "failure", message=printable(str(worst)))
        failure.text = printable("\n".join(f"{row}\n{row.trace}".rstrip() for row in wrong))
    elif expected:
        _skip(case, "pytest.xfail", expected[0].expected)
    elif len(skipped) == len(rows):
        _skip(case, "pytest.skip", skipped[0].skipped)
    return case


def _skip(case: ElementTree.Element, kind: str, reason: str) -> None:
    ElementTree.SubElement(case, "skipped", type=kind, message=printable(reason))


def _stale(words: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname="--xfail", name=printable(words))
    ElementTree.SubElement(case, "failure", message=f"[XPASS(strict)] {printable(words)}")
    return case


def _count(suite: ElementTree.Element) -> None:
    cases = list(suite.iter("testcase"))
    suite.set("tests", str(len(cases)))
    suite.set("errors", "0")
    for name, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
