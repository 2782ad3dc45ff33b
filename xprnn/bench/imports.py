"""What importing a library takes, and how much of a disk it is."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.bench.process import environment

HEAVY = (
    "scipy",
    "pandas",
    "matplotlib",
    "numba",
    "llvmlite",
    "torch",
    "jax",
    "jaxlib",
    "cupy",
    "array_api_strict",
    "safetensors",
    "threadpoolctl",
    "tqdm",
)
"""What importing xprnn must not load."""
LIMIT = 0.15
"""The seconds beyond NumPy's own that an import of xprnn may take."""
SCRIPT = """
import json, sys, time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
before = set(sys.modules)
begun = time.perf_counter()
import {library}
end = time.perf_counter()
found = dict(numpy=middle - start, beyond=end - begun, modules=sorted(set(sys.modules) - before))
print(json.dumps(found))
"""


class ImportRow(NamedTuple):
    """One library's import.

    Attributes
    ----------
    library : str
    numpy, beyond : float
        Seconds of importing NumPy first, then the library.
    modules : int
        How many modules the second import loads.
    heavy : list of str
        Those of `HEAVY` among them, the library itself left out.
    """

    library: str
    numpy: float
    beyond: float
    modules: int
    heavy: list[str]


class SizeRow(NamedTuple):
    """What is installed.

    Attributes
    ----------
    library : str
    own, needed : int
        Bytes of its own files, and of those of all distributions that it needs.
    needs : list of str
        Their names.
    """

    library: str
    own: int
    needed: int
    needs: list[str]

    @property
    def whole(self) -> int:
        """Bytes of both."""
        return self.own + self.needed


def run_imports(libraries: Sequence[str], repeats: int) -> list[ImportRow]:
    """Import every library in fresh interpreters, which take turns; return the medians.

    Compiled bytecode is kept in a folder of its own, filled by a first import that does not count,
    so that a library installed without any is not at a disadvantage.
    """
    found: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            for library in libraries:
                result = _imported(library, folder)
                if turn:
                    found[library].append(result)
    return [_row(library, results) for library, results in found.items()]


def _row(library: str, results: Sequence[dict[str, Any]]) -> ImportRow:
    modules: list[str] = results[0]["modules"]
    loaded = {name.partition(".")[0] for name in modules}
    own = {library, f"{library}lib"}
    return ImportRow(
        library,
        float(np.median([result["numpy"] for result in results])),
        float(np.median([result["beyond"] for result in results])),
        len(modules),
        sorted(loaded & set(HEAVY) - own),
    )


def _imported(library: str, folder: str) -> dict[str, Any]:
    variables = environment(None, PYTHONPYCACHEPREFIX=folder)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(library=library)],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"importing {library} failed: {words[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def size_of(library: str) -> SizeRow:
    """Return what a library and everything that it needs take on the disk, without bytecode.

    What a distribution needs is what it names and is installed, its extras left out.

    Raises
    ------
    ModuleNotFoundError
        If the library is no distribution that is installed.
    """
    needed = sorted(_needed(library, set()) - {_plain(library)})
    return SizeRow(
        library, _bytes(library), sum(_bytes(distribution) for distribution in needed), needed
    )


def _needed(name: str, found: set[str]) -> set[str]:
    found.add(_plain(name))
    for other in _requirements(name):
        if _plain(other) in found:
            continue
        try:
            metadata.distribution(other)
        except metadata.PackageNotFoundError:
            continue  # for another system or Python
        _needed(other, found)
    return found


def _requirements(name: str) -> Iterator[str]:
    for line in metadata.requires(name) or ():
        words, _, marker = line.partition(";")
        if re.search(r"\bextra\s*[=!<>]", marker):
            continue
        yield re.split(r"[\s\[<>=!~;(@]", words.strip(), maxsplit=1)[0]


def _plain(name: str) -> str:
    """Return a distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(name: str) -> int:
    paths = {Path(str(file.locate())).resolve() for file in metadata.files(name) or ()}
    spec = find_spec(name.replace("-", "_"))
    if spec is not None and spec.origin is not None and spec.submodule_search_locations:
        init = Path(spec.origin).resolve()
        if init not in paths:
            # An editable installation lists none of the library's own files.
            paths |= set(init.parent.rglob("*"))
    files = (path for path in paths if path.suffix != ".pyc" and path.is_file())
    return sum(path.stat().st_size for path in files)
