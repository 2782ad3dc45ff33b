"""Work in a process of its own, because thread pools of two libraries fight in one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from xprnn.backend.host.arrays import np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MINIMUM_CALLS = 9


def environment(threads: int | None, **variables: str) -> dict[str, str]:
    """Return this process's environment for one whose thread pools have so many threads."""
    pools = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    return os.environ | pools | variables


def result_of(
    module: str, *words: object, what: str, threads: int | None = None, **variables: str
) -> Any:
    """Return what ``python -m module words`` prints, as JSON.

    Parameters
    ----------
    module : str
    words : object
        Its arguments, as text.
    what : str
        What it does, for the message if it fails.
    threads : int, optional
        What its thread pools are limited to.
    variables : str
        Of its environment.

    Raises
    ------
    RuntimeError
        If the process fails; the message has its last words.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(
        command, env=environment(threads, **variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines() or [f"no message, status {done.returncode}"]
        raise RuntimeError(f"{what} failed: {last[-1]}")
    return json.loads(done.stdout)


def seconds_of(job: str, options: dict[str, int | str], threads: int) -> float:
    """Return what a job of `xprnn.bench.origins.jobs` measures, run by a new interpreter."""
    what, words = f"the benchmark {job}", json.dumps(options)
    return float(result_of("xprnn.bench.origins.jobs", job, words, what=what, threads=threads))


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def hold_to(cores: int) -> None:
    """Let this process use so many cores and no more, where the system can promise that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


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


def measure(work: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call, as many as fit into some seconds, after warm-up."""
    started = time.perf_counter()
    calls = 0
    while calls < 3 or (time.perf_counter() - started < 0.3 * seconds and calls < 1000):
        work()
        calls += 1
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MINIMUM_CALLS or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
