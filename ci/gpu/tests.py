"""The tests that need a device, each in a row of the record as soon as it is done.

They can be imported without what a machine with a device may lack.  A test that uses it is skipped,
and so is a file that can't do without: the record says which, and why.
"""

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ci.gpu.record import TRIAL, Record, seconds_left
from tests.test_device_machine import LEFT_OUT, RUN_THERE

TESTS = Path(__file__).parents[2] / "tests"


class Recorder:
    """A plugin that writes down each test that runs, and ends the run in time."""

    def __init__(self, record: Record) -> None:
        self.record, self.counts, self.reasons = record, Counter[str](), Counter[str]()
        self.reported = set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a result; write down what is no success."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
            if report.outcome == "failed":
                lines = report.longreprtext.strip().splitlines()
                self.record.add(test=report.nodeid, outcome="failed", why=lines[-1:])
            if isinstance(report.longrepr, tuple):
                self.reasons[_reason(report.longrepr)] += 1
            self.record.note(counts=dict(self.counts), skipped=dict(self.reasons))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write down a file that is skipped, or can't be imported."""
        if report.nodeid in self.reported:
            # pytest reports what it could not collect twice.
            return
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reported.add(report.nodeid)
            self.counts["left out"] += 1
            self.record.add(test=report.nodeid, outcome="left out", why=[_reason(report.longrepr)])
        if report.failed:
            self.reported.add(report.nodeid)
            why = report.longreprtext.strip().splitlines()[-1:]
            lacking = self.record.facts["lacking"]
            lacked = any(f"'{name}" in line for name in lacking for line in why)
            outcome = "left out" if lacked else "not imported"
            self.counts[outcome] += 1
            self.record.add(test=report.nodeid, outcome=outcome, why=why)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: Any) -> None:
        """End the run while there is time to write the record."""
        if seconds_left() < 8:
            item.session.shouldstop = "out of time"
            self.record.out_of_time(f"the tests after {item.nodeid}")


def _reason(where_and_why: tuple[str, int, str]) -> str:
    return where_and_why[2].removeprefix("Skipped: ")


def lacking() -> list[str]:
    """Return what modules of the tests can't be imported without."""
    found = []
    for name in (
        *("torch", "jax", "array_api_strict", "hypothesis", "safetensors", "matplotlib"),
        *("jupytext", "onnx", "numba"),
    ):
        try:
            importlib.import_module(name)
        except Exception:
            found.append(name)
    return found


def main() -> str | None:
    """Run; return what is wrong, if anything is."""
    record = Record("tests", lacking=lacking())
    print(f"not here: {', '.join(record.facts['lacking']) or 'nothing'}")
    recorder = Recorder(record)
    # First the kernels: if they are wrong, little else matters.
    names = (*RUN_THERE[: 1 if TRIAL else None], *LEFT_OUT)
    files = [f"{TESTS / f'test_{name}'}.py" for name in names]
    which = "test_every_function_on_cupy and float64" if TRIAL else "cupy or test_determinism"
    # Its libraries may be of other versions than those that the tests are written with.
    options = ["--quiet", "-W", "default", "-p", "no:cacheprovider", "-k", which]
    options += ["--continue-on-collection-errors"]
    status = pytest.main([*options, *files], plugins=[recorder])
    for reason, count in recorder.reasons.most_common():
        print(f"skipped {count}: {reason}")
    ran = recorder.counts["passed"] + recorder.counts["failed"]
    if not ran:
        return record.finish(f"no test ran (pytest's status is {status})")
    bad = recorder.counts["failed"] + recorder.counts["not imported"]
    return record.finish(f"{bad} failed or could not be imported" if bad else "")


if __name__ == "__main__":
    sys.exit(main())
