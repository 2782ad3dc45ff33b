"""The time of an import, and the size of an installation.

Every import is timed by a new interpreter that runs `SCRIPT`.
"""

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
from xprnn.bench.process import environment, failure

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
"""Modules that importing xprnn must not load."""
LIMIT = 0.15
"""The seconds that an import of xprnn may take after NumPy has been imported."""
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
    """The import of one library.

    Attributes
    ----------
    library : str
    numpy, beyond : float
        Seconds of importing NumPy, and of importing the library after it.
    modules : int
        The number of modules that the second import loads.
    heavy : list of str
        The modules in `HEAVY` that it loads, without the library itself.
    """

    library: str
    numpy: float
    beyond: float
    modules: int
    heavy: list[str]


class SizeRow(NamedTuple):
    """The size of one library's installation.

    Attributes
    ----------
    library : str
    own, needed : int
        Bytes of its own files, and of the files of all distributions that it needs.
    needs : list of str
        The names of these distributions.
    """

    library: str
    own: int
    needed: int
    needs: list[str]

    @property
    def whole(self) -> int:
        """Bytes of the library and of what it needs."""
        return self.own + self.needed


def run_imports(libraries: Sequence[str], repeats: int) -> list[ImportRow]:
    """Import every library in new interpreters, which take turns; return the medians.

    Bytecode is compiled into a temporary folder by a first import that does not count, so that a
    library that was installed without bytecode is not at a disadvantage.
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
        raise failure(f"importing {library}", done.stderr, done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def size_of(library: str) -> SizeRow:
    """Return the size of a library and of everything that it needs, without bytecode.

    A distribution needs those that its metadata names, without extras, if they are installed.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If the library is not installed as a distribution.
    """
    needed = sorted(_needed(library, set()) - {_normalized(library)})
    return SizeRow(
        library, _bytes(library), sum(_bytes(distribution) for distribution in needed), needed
    )


def _needed(name: str, found: set[str]) -> set[str]:
    found.add(_normalized(name))
    for other in _requirements(name):
        if _normalized(other) in found:
            continue
        try:
            metadata.distribution(other)
        except metadata.PackageNotFoundError:
            continue  # needed on another system or Python only
        _needed(other, found)
    return found


def _requirements(name: str) -> Iterator[str]:
    for line in metadata.requires(name) or ():
        words, _, marker = line.partition(";")
        if re.search(r"\bextra\s*[=!<>]", marker):
            continue
        yield re.split(r"[\s\[<>=!~;(@]", words.strip(), maxsplit=1)[0]


def _normalized(name: str) -> str:
    """Return a distribution's normalized name, as package indexes compare it."""
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
