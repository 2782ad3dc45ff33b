"""Running one side of a comparison in a new interpreter, with its threads and cores limited."""

import json
import os
import subprocess
import sys
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(threads: int | None, **variables: str) -> dict[str, str]:
    """Return this process's environment with other variables set.

    Parameters
    ----------
    threads : int or None
        The number of threads that thread pools are limited to; None: as in this process.
    variables : str
        What else is set.
    """
    pools = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    return os.environ | pools | variables


def result_of(
    module: str, *words: object, what: str, threads: int | None = None, **variables: str
) -> Any:
    """Run ``python -m module words``, and return the JSON that it prints.

    Parameters
    ----------
    module : str
    words : object
        The arguments; each is passed as text.
    what : str
        What the process does, for the message if it fails.
    threads : int, optional
        The number of threads that its thread pools are limited to.
    variables : str
        Further environment variables of the process.

    Raises
    ------
    RuntimeError
        If the process fails; the message has the last line that it wrote to stderr.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(
        command, env=environment(threads, **variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise failure(what, done.stderr, done.returncode)
    return json.loads(done.stdout)


def failure(what: str, stderr: str, status: int) -> RuntimeError:
    """Return the error for a process that failed; it has the last line of ``stderr``."""
    lines = stderr.strip().splitlines() or [f"no message, status {status}"]
    return RuntimeError(f"{what} failed: {lines[-1]}")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def hold_to(cores: int) -> None:
    """Limit this process to a number of cores, where the system supports that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
