"""NVIDIA's assembler, which needs no device: the package ``nvidia-cuda-nvcc``."""

import functools
import re
import stat
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple


class Resources(NamedTuple):
    """What a kernel needs.

    Attributes
    ----------
    registers : int
        Of a thread.
    spilled : int
        Bytes that are written to and read from memory because there are too few registers.
    stack : int
        Bytes of local memory.
    """

    registers: int
    spilled: int
    stack: int


@functools.cache
def assembler() -> Path | None:
    """Return the program; None if it is not installed."""
    try:
        (path,) = (f for f in files("nvidia-cuda-nvcc") if f.name == "ptxas")
    except (PackageNotFoundError, ValueError):
        return None
    program = Path(path.locate())
    return program if program.stat().st_mode & stat.S_IXUSR else None


def resources(ptx: str, capability: int) -> dict[str, Resources]:
    """Return what each kernel of an assembly text needs on a device of this compute capability."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "x.ptx")
        source.write_text(ptx)
        command = [assembler(), "-v", f"-arch=sm_{capability}", "-o", Path(folder, "x.cubin")]
        done = subprocess.run([*command, source], check=True, capture_output=True, text=True)
    found = {}
    for part in re.split(r"Compiling entry function '", done.stderr)[1:]:
        stack, *spills = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        registers = re.search(r"Used (\d+) registers", part)[1]
        spilled = sum(map(int, spills))
        found[part.partition("'")[0]] = Resources(int(registers), spilled, int(stack))
    assert found, done.stderr
    return found
