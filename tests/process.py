"""Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import xprnn


def run_python(code: str, *flags: str, **variables: str) -> str:
    """Run code, warnings being errors, and return what it prints; fail with its errors.

    ``variables`` are set in its environment.
    """
    root = str(Path(xprnn.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"} | variables
    environment.pop("JAX_ENABLE_X64", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
