"""Compiling a function with Numba, and caching the machine code on disk.

Numba caches a function beside the file of its source, and finds it again by that file, its time
stamp, the signature and the processor (name and features).  Sources here are generated, so each is
written to a file of its own in `cache_folder`, and the file's name holds a hash of everything else
that the machine code depends on; see `_digest`.  A change of any of it gives another file, so no
stale code is ever loaded.
"""

import gc
import hashlib
import inspect
import logging
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
from numba import types
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from xprnn._version import __version__
from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.locks import Lock
from xprnn.backend.host.private import check_files, home, make_private, temporary_home
from xprnn.backend.numba import ANNOUNCED, blocks, functions, intrinsics, packed, tiles
from xprnn.backend.numba.target import target

# With Numba's own names, because no other package imports it.
__all__ = ["Built", "NumbaError", "build", "cache_folder", "numba", "types"]

VARIABLE = "XPRNN_CACHE"
CONTRACT = ("contract",)
PATIENCE = 30.0
"""Seconds that a process waits for another one that compiles the same function.

Longer than any function takes; but a process that was stopped keeps its locks.
"""
_log = logging.getLogger("xprnn")
_warned = False
_unwritable: set[Path] = set()
"""Folders that a file could not be written to: they are not tried again."""
_NUMBERS = (bool, int, float, np.generic)


class Built(NamedTuple):
    """A compiled function.

    Attributes
    ----------
    call : callable
        The function; with ``by_address``, an object with the attribute ``address``.
    seconds : float
        The time to compile it, or to load it from the cache.
    cached : bool
        Whether it was loaded from the cache.
    """

    call: Any
    seconds: float
    cached: bool

    def describe(self) -> str:
        """Return in words whether it was compiled or loaded, and how long that took."""
        return f"{'loaded' if self.cached else 'compiled'} in {self.seconds:.2f} s"


def cache_folder() -> Path | None:
    """Return the folder that compiled code is cached in; None if it is not cached.

    The environment variable ``XPRNN_CACHE`` names the folder, or is ``off``; without it, the folder
    is ``xprnn`` in the user's folder for caches.  For a user without a folder, such as one that a
    container's system does not know, it is ``xprnn-UID`` among the temporary files.
    """
    given = os.environ.get(VARIABLE)
    if given == "off":
        return None
    if given:
        return Path(given).absolute()
    named, below = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    base = Path(os.environ.get(named, ""))
    # The XDG specification, too, says that a relative path is to be ignored.
    if base.is_absolute():
        return base / "xprnn"
    own = home()
    return temporary_home("xprnn") if own is None else own / below / "xprnn"


def build(
    source: str,
    names: Mapping[str, object],
    signature: Any,
    *,
    by_address: bool = False,
    fastmath: tuple[str, ...] = CONTRACT,
    dependencies: str = "",
    announced: str = "",
    meanwhile: Callable[[], None] | None = None,
) -> Built:
    """Compile a function for one signature, or load it from the cache.

    Parameters
    ----------
    source : str
        The source of one function.
    names : mapping
        The globals that it uses.
    signature : numba signature
    by_address : bool
        Whether other compiled code is to call it by its address.
    fastmath : tuple of str
        What LLVM may do to sums and products: by default round one of each once, as a fused
        multiplication.  Empty: each operation has the bits that it has in NumPy.
    dependencies : str
        Everything else that the machine code depends on, besides the modules of this package that
        `_digest` covers: part of the cache key.
    announced : str
        What is compiled, in words: logged before it is, unless it can be loaded.
    meanwhile : callable, optional
        Called before it is compiled, unless it can be loaded: to have another process compile what
        is needed next.  Without a cache it is not called, because what the other one compiles could
        not be loaded.

    Raises
    ------
    NumbaError
        If Numba can't compile it.

    Warns
    -----
    RuntimeWarning
        Once per process, if the cache can't be used.
    """
    started = time.perf_counter()
    kind = source[4 : source.index("(")]
    numbers = {key: value for key, value in names.items() if isinstance(value, _NUMBERS)}
    if fastmath != CONTRACT:
        dependencies = f"{dependencies}{fastmath}"
    name = f"{kind}_{_digest(source, f'{signature}', f'{numbers}', dependencies)}"
    # Numba names symbols by the function and a number, which every process counts from the start.
    # A name with a hash can't clash with that of another function, whose code is loaded from disk.
    source = source.replace(f"def {kind}(", f"def {name}(", 1)
    text = f"{source}# {signature}\n# {numbers}\n# for {made_for()}\n"
    namespace = {**names, "__name__": __name__}
    compiler: Any = numba.cfunc if by_address else partial(numba.njit, nogil=True)
    compiler = partial(compiler, signature, error_model="numpy", fastmath=set(fastmath))
    made = partial(_made, compiler, name, source, text, namespace)
    file = _place(name)
    # Numba writes the index first: the code may be missing if a process was killed.
    if file is not None and any(kept.suffix == ".nbc" for kept in compiled_files(file)):
        function = made(file)
    else:
        if announced:
            _log.info("compiling %s, once", announced, extra={ANNOUNCED: announced})
        if meanwhile is not None and file is not None:
            meanwhile()
        with _alone(file), _without_collection():
            function = made(file)
    cached = bool(function.cache_hits if by_address else function.stats.cache_hits)
    if file is not None and not cached:
        _protect(file)
    seconds = time.perf_counter() - started
    built = Built(function, seconds, cached)
    _log.info("the function %s was %s", kind, built.describe())
    return built


@contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """Let no other process compile the same function at the same time, for as long as is sensible.

    What the other one has compiled is loaded afterwards.
    """
    if file is None:
        yield
        return
    lock, until = Lock(file, "compiled code"), time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            lock.acquire()
            break
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:
            break
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Compile without searching for garbage, which takes a seventh of the time.

    Numba makes millions of objects, almost none of which become garbage before it is done.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _made(
    compiler: Callable[..., Any],
    name: str,
    source: str,
    text: str,
    names: dict[str, Any],
    file: Path | None,
) -> Any:
    """Compile a function, or load it; without the cache if that fails.

    ``text`` is what the file of the source gets.
    """
    if file is not None:
        try:
            if not file.exists():
                write_atomic(file, text.encode())
            return _compiled(compiler, name, source, names, file)
        except NumbaError:
            raise
        except OSError as error:
            _unwritable.add(file.parent)
            _warn_once(error)
        except Exception:
            # The cache is damaged, and Numba does not catch the errors of that.
            _discard(file)
            try:
                return _compiled(compiler, name, source, names, file)
            except Exception as error:
                _warn_once(error)
    return _compiled(compiler, name, source, names, None)


def _compiled(
    compiler: Callable[..., Any], name: str, source: str, names: dict[str, Any], file: Path | None
) -> Any:
    # A function loaded from disk has its module imported: ``__name__`` in ``names`` is ours.
    exec(compile(source, f"<xprnn {name}>" if file is None else str(file), "exec"), names)
    return compiler(cache=file is not None)(names[name])


def _discard(file: Path) -> None:
    """Remove the code that Numba has cached for a file, beside it or in ``NUMBA_CACHE_DIR``."""
    for kept in compiled_files(file):
        with suppress(OSError):
            kept.unlink()


def _protect(file: Path) -> None:
    """Let nobody else write to the code that Numba has cached for a file, whatever the umask."""
    for kept in compiled_files(file):
        with suppress(OSError):
            kept.chmod(kept.stat().st_mode & 0o755)


def made_for() -> str:
    """Return, in words, the processor that this process compiles for, and the versions."""
    _, processor, _ = cpu_target.target_context.codegen().magic_tuple()
    bits = 8 * target().vector_bytes
    return f"{processor} ({bits} bits), by xprnn {__version__} and Numba {numba.__version__}"


def compiled_files(file: Path) -> list[Path]:
    """Return the files in which Numba keeps what it compiled from a file of the cache."""
    folders = {file.parent, Path(numba.config.CACHE_DIR or file.parent)}
    return [kept for folder in folders for kept in folder.rglob(f"{file.stem}.*.nb[ci]")]


def build_closure(
    function: Callable[..., object],
    signature: Any,
    *,
    by_address: bool = False,
    fastmath: tuple[str, ...] = CONTRACT,
    key: object = None,
    announced: str = "",
    meanwhile: Callable[[], None] | None = None,
) -> Built:
    """Compile a function of this package, with the globals and closure variables that it uses.

    The cache key has the numbers among these, and the source of the whole module for the rest; and
    ``key``, where functions of the same source and numbers differ in another closure variable.
    """
    used, module = inspect.getclosurevars(function), sys.modules[function.__module__]
    source = textwrap.dedent(inspect.getsource(function))
    names = {**used.globals, **used.nonlocals}
    dependencies = f"{inspect.getsource(module)}{key}"
    return build(
        source,
        names,
        signature,
        by_address=by_address,
        fastmath=fastmath,
        dependencies=dependencies,
        announced=announced,
        meanwhile=meanwhile,
    )


def _digest(*parts: str) -> str:
    """Return a hash of everything that compiled code depends on: the parts given, the processor,
    the modules whose functions it calls, and the versions.
    """
    ours = map(inspect.getsource, (blocks, functions, intrinsics, packed, tiles))
    constants = [(name, value) for name, value in vars(tuning).items() if name.isupper()]
    processor = cpu_target.target_context.codegen().magic_tuple()
    text = repr((*parts, processor, target(), constants, numba.__version__, __version__, *ours))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _place(name: str) -> Path | None:
    """Return the file in the cache for a source; None, with a warning, if it can't be used.

    Numba unpickles what it finds in the cache, and so runs code from there: nobody but this user
    may have been able to write it.
    """
    folder = cache_folder()
    if folder is None:
        if os.environ.get(VARIABLE) != "off":
            _warn_once(FileNotFoundError("this user has no folder for it"))
        return None
    if folder in _unwritable:
        return None
    file = folder / f"{name}.py"
    try:
        make_private(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
        _check_compiled(file)
    except OSError as error:
        _warn_once(error)
        return None
    return file


def _check_compiled(file: Path) -> None:
    """Refuse code that another user could have put where Numba looks for this file's."""
    if numba.config.CACHE_DIR:
        # Numba makes a folder in it for every folder of sources.
        chosen = Path(numba.config.CACHE_DIR).absolute()
        make_private(chosen)
        for folder in chosen.iterdir():
            check_files(folder, file.stem)
        return
    compiled = file.parent / "__pycache__"
    compiled.mkdir(mode=0o700, exist_ok=True)
    check_files(compiled, file.stem)


def _warn_once(error: Exception) -> None:
    global _warned  # noqa: PLW0603 - once per process
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled code can't be cached, each process compiles its own: {error} "
            f"({VARIABLE} names another folder, or is 'off')",
            RuntimeWarning,
            stacklevel=2,
        )
