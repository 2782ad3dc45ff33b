"""Whole training steps against torch: output, loss, gradients, clipping by norm, Adam."""

import contextlib
import sys
from typing import Any

from ci.gpu.record import TRIAL, Record, peer_places, seconds_left, torch_versions
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
    rounds = (("float32", "lstm"), ("float32", "gru"), ("tf32", "lstm"), ("float32", "elman"))
    for k, (precision, cell) in enumerate(rounds):
        setting = Setting(4, "cupy", seconds=SECONDS, precision=precision)
        with contextlib.ExitStack() as held:
            workers = [
                held.enter_context(Worker("training", library, setting, place))
                for library, place in peer_places().items()
            ]
            for name, case in cases.items():
                if seconds_left() < 6:
                    rest = ", ".join(" ".join(words) for words in rounds[k + 1 :])
                    print(record.out_of_time(f"{precision} {cell} from {name} on, {rest}"))
                    return record.finish(f"{wrong} timings failed" if wrong else "")
                row: dict[str, Any] = {"precision": precision, "cell": cell, "case": name}
                row |= case._asdict()
                try:
                    times = {worker.library: worker.seconds(cell, case) for worker in workers}
                    row |= {f"{library}_ms": 1e3 * each for library, each in times.items()}
                    if "torch" in times:
                        row["ratio"] = times["xprnn"] / times["torch"]
                except RuntimeError as error:
                    wrong += 1
                    row["error"] = f"{error}"
                record.add(**row)
        if TRIAL:
            break
    return record.finish(f"{wrong} timings failed" if wrong else "")


if __name__ == "__main__":
    sys.exit(main())
