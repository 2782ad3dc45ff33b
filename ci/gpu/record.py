"""A record of a part: date, device, versions, and rows that are written as they are found."""

import datetime
import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import xprnn
from xprnn.bench.timing import Setting
from xprnn.bench.worker import Worker

TRIAL = bool(os.environ.get("TRIAL"))
"""Whether only the script is tried out: everything is tiny."""


def seconds_left() -> float:
    """Return how long this part may still run; `ci.gpu.run` sets the time at which it is killed."""
    deadline = os.environ.get("GPU_DEADLINE")
    return 1e9 if deadline is None else float(deadline) - time.time()


def surroundings() -> dict[str, Any]:
    """Return date, device and versions."""
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": properties["name"].decode(),
        "devices": runtime.getDeviceCount(),
        "multiprocessors": properties["multiProcessorCount"],
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "versions": {
            "xprnn": xprnn.__version__,
            "cupy": cupy.__version__,
            "cuda": runtime.runtimeGetVersion(),
            "driver": runtime.driverGetVersion(),
            "python": sys.version.split()[0],
        },
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith("XPRNN_")},
    }
    if TRIAL:
        facts["trial"] = True
    return facts


def torch_versions() -> dict[str, Any]:
    """Return the versions of torch and cuDNN; empty without torch."""
    if importlib.util.find_spec("torch") is None:
        return {}
    torch = importlib.import_module("torch")
    return {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}


def peer_workers(module: str, seconds: float) -> list[Worker]:
    """Return the process of torch, if it is there, on the device (in a trial, on the CPU).

    It ends with this process, which `ci.gpu.run` ends with all that it has started.
    """
    if importlib.util.find_spec("torch") is None:
        return []
    setting = Setting(4, "cupy", seconds=seconds)
    return [Worker(module, "torch", setting, "cpu" if TRIAL else None)]


class Record:
    """The record of one part; every change is on disk at once.

    Parameters
    ----------
    name : str
        The file is ``cuda-NAME-DATE.json``, in the folder that ``GPU_RECORDS`` names.
    facts
        What all rows have in common.
    """

    def __init__(self, name: str, **facts: Any) -> None:
        folder = Path(os.environ.get("GPU_RECORDS", "docs/records"))
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"cuda-{name}-{datetime.datetime.now(datetime.UTC).date()}.json"
        self.facts = {**surroundings(), **facts, "complete": False, "rows": []}
        self.write()

    def add(self, **row: Any) -> None:
        """Add a row, and print it."""
        self.facts["rows"].append(row)
        self.write()
        print(", ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)

    def note(self, **facts: Any) -> None:
        """Add or change facts."""
        self.facts |= facts
        self.write()

    def finish(self, wrong: str = "") -> str | None:
        """Note that all was done, and what is wrong; return that, for `sys.exit`."""
        self.note(complete=True, wrong=wrong)
        return wrong or None

    def out_of_time(self, rest: str) -> str:
        """Note what was left out for lack of time; return a line about it."""
        self.note(left_out=rest)
        return f"out of time: left out {rest}"

    def write(self) -> None:
        """Write the file, whole or not at all."""
        whole = self.path.with_suffix(".new")
        whole.write_text(json.dumps(self.facts, indent=1) + "\n")
        whole.replace(self.path)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
