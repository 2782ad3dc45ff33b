"""Every cell on CuPy and NumPy, as ``xprnn parity`` compares them."""

import sys

from ci.gpu.record import TRIAL, Record, seconds_left
from xprnn import get_backend
from xprnn.cells import CELLS, get_cell
from xprnn.testing.parity.suite import Sizes, run_suite

EACH = 12.0
"""Seconds that a cell may take, most of which are for compiling; no cell is begun with fewer."""


def main() -> str | None:
    """Compare; return what is wrong, if anything is."""
    sizes, steps = (Sizes(2, 2, 2, 3, 2), 1) if TRIAL else (Sizes(), 100)
    cells = ["elman"] if TRIAL else sorted(CELLS, key=lambda name: name not in {"lstm", "gru"})
    dtypes = ("float64",) if TRIAL else ("float32", "float64")
    record, wrong = Record("parity", sizes=sizes._asdict(), steps=steps), 0
    backends = [get_backend("numpy"), get_backend("cupy")]
    for k, name in enumerate(cells):
        if seconds_left() < EACH:
            print(record.out_of_time(", ".join(cells[k:])))
            break
        suite = run_suite({name: get_cell(name)}, backends, sizes, dtypes=dtypes, steps=steps)
        for result in suite:
            for side in result.report.sides:
                worst = max(side.rows, key=lambda row: row.used)
                bad = [f"{row}" for row in side.rows if not row.agrees]
                wrong += len(bad)
                record.add(
                    cell=name,
                    problem=result.problem,
                    dtype=side.dtype,
                    compared=len(side.rows),
                    worst=f"{worst}",
                    of_tolerance=worst.used,
                    disagree=bad,
                )
    return record.finish(f"{wrong} results disagree with NumPy's" if wrong else "")


if __name__ == "__main__":
    sys.exit(main())
