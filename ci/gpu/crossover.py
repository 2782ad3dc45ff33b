"""From which size on the device trains faster than this machine's CPU."""

import sys

from ci.gpu.record import TRIAL, Record, seconds_left
from xprnn.bench.crossover import crossovers, run_crossover
from xprnn.bench.process import available_cores
from xprnn.bench.timing import Setting


def main() -> str | None:
    """Time; return what is wrong, if anything is."""
    hidden = (3, 4) if TRIAL else (32, 64, 128, 256, 512)
    batches = (2,) if TRIAL else (1, 16, 64)
    setting = Setting(available_cores(), seconds=0.02 if TRIAL else 0.2)
    settings = {name: setting._replace(backend=name) for name in ("numpy", "cupy")}
    record = Record("crossover", cell="lstm", work="training", inputs=32, steps=50)
    rows = []
    for row in run_crossover(
        "training", "lstm", hidden, batches, settings, while_=lambda: seconds_left() > 4
    ):
        rows.append(row)
        times = {f"{name}_ms": 1e3 * seconds for name, seconds in row.seconds.items()}
        record.add(hidden=row.hidden, batch=row.batch, **times, ratio=row.ratio)
        record.note(crossover={str(B): H for B, H in crossovers(rows).items()})
    if len(rows) < len(hidden) * len(batches):
        print(record.out_of_time(f"{len(hidden) * len(batches) - len(rows)} shapes"))
    return record.finish()


if __name__ == "__main__":
    sys.exit(main())
