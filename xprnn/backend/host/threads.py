"""How many threads computations on the host may use, and how they share products.

The threads of a BLAS spin while they wait for each other.  If another process needs one of the
cores, a thread waits for a whole time slice for another one that is not running: products of 0.4 ms
were seen to take 4 to 16 ms, and a layer of 10 ms took 160.  So BLAS is given one thread only:
small products are left to one thread, and large ones are cut into parts, a product each, which a
thread computes without waiting for another.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.limits import cores
from xprnn.backend.host.workers import WORKERS

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""The environment variables that limit the threads of a BLAS."""

_limit: ContextVar[int | None] = ContextVar("limit", default=None)


def compute_threads() -> int:
    """Return how many threads a computation on the host may use.

    Inside a ``with`` block of `blas_threads`, it is the number given there.  Otherwise it is the
    number of cores that this process may use (`xprnn.backend.host.limits.cores`), or less if one of
    `VARIABLES` says so; both are read once.
    """
    limit = _limit.get()
    return _allowed() if limit is None else limit


@cache
def _allowed() -> int:
    count = cores()
    for name in VARIABLES:
        # OpenMP takes a list, a number for each level of nesting: the first is meant.
        text = os.environ.get(name, "").partition(",")[0].strip()
        if text.isdecimal() and int(text):
            count = min(count, int(text))
    return count


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Limit BLAS and compiled code to ``count`` threads, inside a ``with`` block.

    The products of a small network are too short to be shared: OpenBLAS gains nothing from a second
    thread, and loses much if another process needs a core (see the module).  Limiting BLAS needs
    the package threadpoolctl, which the extra ``cli`` installs; without it, only compiled code is
    limited.
    """
    token = _limit.set(count)
    try:
        with _blas_limit(count):
            yield
    finally:
        _limit.reset(token)


def _blas_limit(count: int) -> AbstractContextManager[object]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=count, user_api="blas")
    return limits


class _Users:
    """Who needs BLAS with one thread.

    The number of a BLAS's threads is one for the whole process, and a product of another number of
    threads may be rounded differently.  So it is one as long as any Python thread needs that; each
    block costs about a microsecond.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.with_one: set[int] = set()
        self.lasting: set[int] = set()
        """Those that need it until the end of a block of products."""
        self.before: list[int] = []
        """The numbers of threads that the libraries get back, while somebody needs one."""

    def begin(self, me: int) -> None:
        with self.lock:
            if self.with_one:
                self.with_one.add(me)
                return
            libraries = _libraries()
            self.before = [blas.get() for blas in libraries]
            # Before it is set, so that it is set back whenever Ctrl-C comes.
            self.with_one.add(me)
            for blas in libraries:
                blas.set(1)

    def end(self, me: int) -> None:
        with self.lock:
            if me in self.with_one:
                self.with_one.discard(me)
                if not self.with_one:
                    self._set_back()

    def _set_back(self) -> None:
        for blas, count in zip(_libraries(), self.before, strict=True):
            blas.set(count)
        self.before = []

    def begin_anew(self) -> None:
        """Forget the threads that a child process doesn't have."""
        if self.with_one:
            self._set_back()
        self.lock = threading.Lock()
        self.with_one.clear()
        self.lasting.clear()


_users = _Users()


class _OneThread:
    """A ``with`` block in which BLAS has one thread."""

    def __enter__(self) -> None:
        me = threading.get_ident()
        if me not in _users.with_one:
            _users.begin(me)

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        if me not in _users.lasting:
            _users.end(me)


class _OneTurn:
    """A ``with`` block in which BLAS, once it has one thread, has it until the block ends.

    For a few products in a row.
    """

    def __enter__(self) -> None:
        _users.lasting.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        _users.lasting.discard(me)
        if me in _users.with_one:
            _users.end(me)


class _OneThreadThroughout(_OneTurn):
    """A ``with`` block in which BLAS has one thread from its beginning to its end."""

    def __enter__(self) -> None:
        super().__enter__()
        one_blas_thread.__enter__()


one_blas_thread = _OneThread()
one_turn = _OneTurn()
_one_thread_throughout = _OneThreadThroughout()
_NOTHING: AbstractContextManager[None] = nullcontext()


def step_products(batch: int, entries: int) -> AbstractContextManager[None]:
    """Return a ``with`` block for a time loop whose steps multiply by BLAS.

    BLAS has one thread in it, unless the products are so small that it takes one by itself.

    Parameters
    ----------
    batch : int
        Rows of the state.
    entries : int
        Of the recurrent weights.
    """
    alone = tuning.BLAS_ALONE if batch > 1 else tuning.BLAS_ALONE_VECTOR
    if batch * entries < alone or blas_has_one_thread():
        return _NOTHING
    return _one_thread_throughout


def blas_has_one_thread() -> bool:
    """Whether BLAS has one thread already, so that `one_blas_thread` need not give it one.

    One core is not enough: in a container whose quota is one core, OpenBLAS has as many threads as
    the machine has cores.
    """
    if compute_threads() != 1:
        return False
    return _limit.get() is not None or _began_with_one()


@cache
def _began_with_one() -> bool:
    with _users.lock:
        counts = _users.before or [blas.get() for blas in _libraries()]
    return all(count == 1 for count in counts)


class _Blas(NamedTuple):
    """The functions that get and set the number of threads of one BLAS library."""

    get: Callable[[], int]
    set: Callable[[int], object]


@cache
def _libraries() -> list[_Blas]:
    """Return NumPy's BLAS, as far as it is known, at the first call; none without threadpoolctl.

    A wheel of NumPy has a BLAS in a folder of its own.  Otherwise it may be any that is loaded.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [found for found in loaded if _of_numpy(Path(found.filepath))]
    return [_blas(found) for found in own or loaded]


def _of_numpy(file: Path) -> bool:
    """Whether a library is in a folder of NumPy's wheel: ``numpy.libs`` or ``numpy/.dylibs``."""
    return any(part in ("numpy", "numpy.libs") for part in file.parts[-3:-1])


def _blas(found: Any) -> _Blas:
    if found.internal_api == "openblas" and found.threading_layer == "pthreads":
        # Calling the library's functions takes a tenth of the time that threadpoolctl's take.
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            name = f"{prefix}openblas_{{}}_num_threads{suffix}"
            if hasattr(found.dynlib, name.format("set")):
                return _Blas(*(getattr(found.dynlib, name.format(word)) for word in _Blas._fields))
    return _Blas(found.get_num_threads, found.set_num_threads)


def can_limit_blas() -> bool:
    """Whether `one_blas_thread` has an effect."""
    return bool(_libraries())


def share(work: Callable[[int], object], parts: Sequence[int]) -> None:
    """Call ``work(part)`` for every part, each in its own thread, and wait for all.

    The first part is done by the calling thread, and so are all others if there are no threads to
    be had, or if they have been slower lately: see `xprnn.backend.host.workers`.
    """
    if not WORKERS.run_if_faster([partial(work, part) for part in parts]):
        for part in parts:
            work(part)


if hasattr(os, "register_at_fork"):
    # A child process has none of the threads.
    os.register_at_fork(after_in_child=_users.begin_anew)


def blas() -> list[dict[str, Any]]:
    """Return the name, version and threads of every BLAS library that is loaded.

    Without threadpoolctl, which finds them, it is the one that NumPy was built with, and the number
    of threads is "unknown".
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        built: Any = np.show_config(mode="dicts")
        library = built["Build Dependencies"]["blas"]
        return [{"name": library["name"], "version": library.get("version"), "threads": "unknown"}]
    return [
        {
            "name": library["internal_api"],
            "version": library.get("version"),
            "threads": library["num_threads"],
        }
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
