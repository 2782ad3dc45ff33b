"""Whole training steps against torch: output, loss, gradients, clipping by norm, Adam."""

import contextlib
import sys
from typing import Any

from ci.gpu.record import TRIAL, Record, peer_workers, seconds_left, torch_versions
from xprnn.bench.timing import Setting
from xprnn.bench.training import CASES, TrainingCase
from xprnn.bench.worker import Worker

LARGE = {"series-512": TrainingCase(512, 512, 512, 64, 100)}
SECONDS = 0.02 if TRIAL else 0.3


def main() -> str | None:
    """Time; return what is wrong, if anything is."""
    wrong = 0
    record = Record("train", peers=torch_versions())
    cases = {"tiny": TrainingCase(2, 3, 2, 2, 3)} if TRIAL else LARGE | CASES
    rounds = (("float32", "lstm"), ("float32", "gru"), ("float32", "elman"), ("tf32", "lstm"))
    work = [
        (precision, cell, name)
        for precision, cell in rounds[: 1 if TRIAL else None]
        for name in cases
    ]
    peers = peer_workers("training", SECONDS)
    with contextlib.ExitStack() as held:
        workers: list[Worker] = []
        for k, (precision, cell, name) in enumerate(work):
            if seconds_left() < 6:
                print(
                    record.out_of_time(f"{len(work) - k} rows, from {precision} {cell} {name} on")
                )
                break
            if k == 0 or work[k - 1][0] != precision:
                held.close()
                setting = Setting(4, "cupy", seconds=SECONDS, precision=precision)
                workers = [held.enter_context(Worker("training", "xprnn", setting)), *peers]
            case = cases[name]
            row: dict[str, Any] = {"precision": precision, "cell": cell, "case": name}
            row |= case._asdict()
            try:
                times = {w.library: w.seconds(cell, case, precision) for w in workers}
                row |= {f"{library}_ms": 1e3 * each for library, each in times.items()}
                if "torch" in times:
                    row["ratio"] = times["xprnn"] / times["torch"]
            except RuntimeError as error:
                wrong += 1
                row["error"] = f"{error}"
            record.add(**row)
    return record.finish(f"{wrong} timings failed" if wrong else "")


if __name__ == "__main__":
    sys.exit(main())
