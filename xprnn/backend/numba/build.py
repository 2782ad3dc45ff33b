"""Compiling a loop, and keeping what was compiled on disk."""

import hashlib
import inspect
import logging
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
from numba.core.errors import NumbaError

from xprnn._version import __version__
from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import write_atomic
from xprnn.backend.numba import functions, intrinsics, tiles
from xprnn.backend.numba import packed as products

VARIABLE = "XPRNN_CACHE"
_log = logging.getLogger("xprnn")
_told = False
_NUMBERS = (bool, int, float, np.generic)


class Built(NamedTuple):
    """A compiled function.

    Attributes
    ----------
    call : callable
        Or, with ``bare``, what has its address.
    seconds : float
        What it took to compile it, or to load what was compiled before.
    cached : bool
        Whether it was compiled before.
    """

    call: Any
    seconds: float
    cached: bool

    def describe(self) -> str:
        """Say what it took."""
        return f"{'loaded' if self.cached else 'compiled'} in {self.seconds:.2f} s"


def cache_folder() -> Path | None:
    """Return where compiled code is kept: None for nowhere.

    The environment variable ``XPRNN_CACHE`` names the folder, or is ``off``; otherwise it is
    ``xprnn`` in the user's folder for caches.
    """
    given = os.environ.get(VARIABLE)
    if given == "off":
        return None
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "xprnn"


def build(
    source: str,
    names: Mapping[str, object],
    signature: Any,
    *,
    bare: bool = False,
    also: str = "",
) -> Built:
    """Compile a function for one signature.

    Parameters
    ----------
    source : str
        Of one function, whose text says all that it does but for ``names``.
    names : mapping
        The globals that it uses.
    signature : numba signature
    bare : bool
        Whether it is to be called by its address, from other compiled code.
    also : str
        What else the compiled code depends on, beside the modules here that all of it does.
    """
    started = time.perf_counter()
    kind = source[4 : source.index("(")]
    numbers = {key: value for key, value in names.items() if isinstance(value, _NUMBERS)}
    name = f"{kind}_{_digest(source, f'{signature}', f'{numbers}', also)}"
    # Numba tells functions from each other by name and number, and counts in every process anew:
    # what it reads from disk must not be called what another function here is called.
    source = source.replace(f"def {kind}(", f"def {name}(", 1)
    file = _kept(f"{source}# {signature}\n# {numbers}\n", name)
    namespace = {**names, "__name__": __name__}
    compiler: Any = numba.cfunc if bare else partial(numba.njit, nogil=True)
    compiler = partial(compiler, signature, error_model="numpy", fastmath={"contract"})
    try:
        function = _compiled(compiler, source, namespace, file)
    except NumbaError:
        raise
    except Exception as error:
        if file is None:
            raise
        # What was kept can't be read, or nothing can be kept: Numba lets through what it meets.
        _discard(file)
        try:
            function = _compiled(compiler, source, namespace, file)
        except Exception:
            _tell_once(error)
            function = _compiled(compiler, source, namespace, None)
    cached = bool(function.cache_hits if bare else function.stats.cache_hits)
    seconds = time.perf_counter() - started
    built = Built(function, seconds, cached)
    _log.info("the loop %s was %s", kind, built.describe())
    return built


def _compiled(
    compiler: Callable[..., Any], source: str, namespace: dict[str, Any], file: Path | None
) -> Any:
    name = source[4 : source.index("(")]
    # Numba imports the module of a function whose code it reads from disk: ``__name__`` is ours.
    exec(compile(source, f"<xprnn {name}>" if file is None else str(file), "exec"), namespace)
    return compiler(cache=file is not None)(namespace[name])


def _discard(file: Path) -> None:
    """Remove what Numba keeps beside a file, or in the folder that its own variable names."""
    for folder in {file.parent, Path(numba.config.CACHE_DIR or file.parent)}:
        for kept in folder.rglob(f"{file.stem}.*.nb[ci]"):
            with suppress(OSError):
                kept.unlink()


def build_closure(function: Callable[..., object], signature: Any, *, bare: bool = False) -> Built:
    """Compile a function of this package that says all it does with its text and its closure."""
    used, module = inspect.getclosurevars(function), sys.modules[function.__module__]
    source = textwrap.dedent(inspect.getsource(function))
    names = {**used.globals, **used.nonlocals}
    return build(source, names, signature, bare=bare, also=inspect.getsource(module))


@cache
def product_address(dtype: str) -> int:
    """Return where the compiled product (`products.product_for`) is: once per process."""
    built = build_closure(products.product_for(dtype), products.PRODUCT, bare=True)
    # What is compiled stays as long as the object that compiled it.
    _kept_alive.append(built)
    return int(built.call.address)


_kept_alive: list[Built] = []


def _digest(*parts: str) -> str:
    """Return a name for all that compiled code depends on, but for the processor.

    To that Numba sees.
    """
    ours = map(inspect.getsource, (functions, intrinsics, products, tiles))
    text = repr(
        (*parts, tiles.VECTOR_BYTES, tuning.BARRIER_SPINS, numba.__version__, __version__, *ours)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _kept(source: str, name: str) -> Path | None:
    """Return a file that holds the source, for Numba to keep compiled code beside it."""
    folder = cache_folder()
    if folder is None:
        return None
    file = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_atomic(file, source.encode())
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        _tell_once(error)
        return None
    return file


def _tell_once(error: Exception) -> None:
    global _told  # noqa: PLW0603 - once per process is what is meant
    if not _told:
        _told = True
        warnings.warn(
            f"compiled time loops can't be kept, each process compiles its own: {error} "
            f"({VARIABLE} names another folder, or is 'off')",
            RuntimeWarning,
            stacklevel=2,
        )
