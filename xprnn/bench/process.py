"""Timing a job in a process of its own, because thread pools of two libraries fight in one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from xprnn.backend.host import np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def seconds_of(job: str, options: dict[str, int | str], threads: int) -> float:
    """Return what a job of `xprnn.bench.jobs` measures, run by a new interpreter.

    Raises
    ------
    RuntimeError
        If the job fails; the message has its last words.
    """
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    command = [sys.executable, "-m", "xprnn.bench.jobs", job, json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"the benchmark {job} failed: {words[-1]}")
    return float(json.loads(done.stdout))


def median_seconds(work: Callable[[], object], *, repeats: int, warm_up: int) -> float:
    """Return the median time of a call."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))
