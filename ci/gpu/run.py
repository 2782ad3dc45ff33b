"""Run the parts one after the other within a budget of seconds: see ``ci/gpu.sh``."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

NO_DEVICE = 3
"""The exit status of a part that finds no device that works: then none of the others is started."""
ONE_DEVICE = 4
"""The exit status of a part that needs two devices, and finds one."""
GRACE = 4.0
"""Seconds before it is killed at which a part is told to end."""


class Part(NamedTuple):
    """A part of the run.

    Attributes
    ----------
    least : float
        It isn't started with fewer seconds than this.
    most : float
        It is cut after so many.
    needs : tuple of str
        Modules without which it is left out.
    """

    least: float
    most: float
    needs: tuple[str, ...] = ()


PARTS = {
    "smoke": Part(8, 60),
    "loops": Part(15, 90),
    "devices": Part(10, 30),
    "ranks": Part(10, 25),
    "parity": Part(15, 70),
    "layer": Part(25, 150),
    "train": Part(15, 60),
    "crossover": Part(12, 40),
    "tests": Part(15, 240, ("pytest",)),
}
"""In their order."""


def chosen(parts: str | None, skip: str | None) -> list[str]:
    """Return the names of the parts to run, in their order.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    wanted, unwanted = (parts or " ".join(PARTS)).split(), (skip or "").split()
    for name in (*wanted, *unwanted):
        if name not in PARTS:
            raise ValueError(f"unknown part {name!r}: known are {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted and name not in unwanted]


def run_part(name: str, seconds: float) -> str:
    """Run a part in a process of its own; return what became of it, "done" if all is well."""
    started = time.time()
    environment = os.environ | {"GPU_DEADLINE": str(started + seconds - GRACE)}
    process = subprocess.Popen(
        [sys.executable, "-m", f"ci.gpu.{name}"], env=environment, start_new_session=True
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"cut after {seconds:.0f} s"
    finally:
        _end(process)
    if status == NO_DEVICE:
        return "no device"
    if status == ONE_DEVICE:
        return "left out: there is one device"
    return "done" if status == 0 else f"failed with status {status}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a part with all the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def main(folder: str = "docs/records") -> str | None:
    """Run the parts; return what failed, if anything did."""
    started = time.monotonic()
    budget = float(os.environ.get("BUDGET", "480"))
    os.environ["GPU_RECORDS"] = str(Path(folder).resolve())
    names = chosen(os.environ.get("PARTS"), os.environ.get("SKIP"))
    fates: dict[str, str] = {}
    for name in names:
        part, left = PARTS[name], budget - (time.monotonic() - started)
        missing = [module for module in part.needs if importlib.util.find_spec(module) is None]
        print(f"\n== {name} ({left:.0f} s left)", flush=True)
        if missing:
            fates[name] = f"left out: {', '.join(missing)} is not installed"
        elif "no device" in fates.values():
            fates[name] = "left out: no device works"
        elif left < part.least:
            fates[name] = f"left out: it needs {part.least:g} s, and {max(left, 0):.0f} s are left"
        else:
            fates[name] = run_part(name, min(left, part.most))
        print(f"{name}: {fates[name]}", flush=True)
    seconds = time.monotonic() - started
    today = time.strftime("%Y-%m-%d", time.gmtime())
    path = Path(os.environ["GPU_RECORDS"], f"cuda-run-{today}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"budget": budget, "seconds": round(seconds, 1), "parts": fates}
    path.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"\n{seconds:.0f} s of {budget:g}; records are in {path.parent}")
    for name, fate in fates.items():
        print(f"  {name:<10}{fate}")
    bad = [name for name, fate in fates.items() if fate.startswith(("failed", "no device"))]
    return f"failed: {', '.join(bad)}" if bad else None


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"ci/gpu.sh: {error}")
