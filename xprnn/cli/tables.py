"""Results as CSV files."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import write_atomic


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, whole or not at all; None and NaN are empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_atomic(path, stream.getvalue().encode())


def _cell(value: object) -> object:
    # Fewer digits than repr has: x is -0.1, not -0.0999999999999996; a float32 has nine.
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        return f"{value:.12g}" if isinstance(value, float) else f"{value:.9g}"
    return value
