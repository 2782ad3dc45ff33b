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
        text = os.environ.get(name, "")
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


class _Turns:
    """Who uses BLAS with one thread, and who with several.

    The number of a BLAS's threads is one for the whole process, and a product of another number of
    threads may be rounded differently.  So that a Python thread gets the bits that it would get
    alone, those that need one thread and those that need several take turns.  A Python thread that
    is alone waits for nobody; each turn costs it about a microsecond.
    """

    def __init__(self) -> None:
        self._begin()
        self.with_one: set[int] = set()
        self.with_several: set[int] = set()
        self.lasting: set[int] = set()
        """Those whose turn with one thread lasts until the end of a block of products."""
        self._before: list[int] = []

    def _begin(self) -> None:
        # The lock by itself is entered in half the time of a condition, and nobody needs to be
        # told of a change as long as nobody waits.
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._waiting = 0

    def _wait(self) -> None:
        self._waiting += 1
        try:
            self._changed.wait()
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    def begin_one(self) -> None:
        me = threading.get_ident()
        with self.lock:
            if me in self.with_several:
                return
            while self.with_several:
                self._wait()
            if not self.with_one:
                self.set_to_one(me)
            else:
                self.with_one.add(me)

    def set_to_one(self, me: int) -> None:
        """Begin, where no thread has begun; the lock is held."""
        libraries = _libraries()
        self._before = [blas.get() for blas in libraries]
        # Before it is set, so that it is set back whenever Ctrl-C comes.
        self.with_one.add(me)
        for blas in libraries:
            blas.set(1)

    def end_one(self, me: int) -> None:
        if me in self.with_one:
            self.with_one.discard(me)
            if not self.with_one:
                self._set_back()
                self._tell()

    def begin_several(self) -> None:
        me = threading.get_ident()
        with self.lock:
            # Left over if Ctrl-C came between the beginning of a block and its body.
            self.lasting.discard(me)
            self.end_one(me)
            while self.with_one:
                self._wait()
            self.with_several.add(me)

    def end_several(self, me: int) -> None:
        self.with_several.discard(me)
        if not self.with_several:
            self._tell()

    def _set_back(self) -> None:
        for blas, count in zip(_libraries(), self._before, strict=True):
            blas.set(count)

    def begin_anew(self) -> None:
        """Forget the threads that a child process doesn't have."""
        if self.with_one:
            self._set_back()
        self._begin()
        self.with_one.clear()
        self.with_several.clear()
        self.lasting.clear()


_turns = _Turns()


class _OneThread:
    """A ``with`` block in which BLAS has one thread."""

    def __enter__(self) -> None:
        turns, me = _turns, threading.get_ident()
        if me in turns.with_one:
            return
        with turns.lock:
            alone = not (turns.with_one or turns.with_several)
            if alone:
                turns.set_to_one(me)
        if not alone:
            turns.begin_one()

    def __exit__(self, *_: object) -> None:
        turns, me = _turns, threading.get_ident()
        if me not in turns.lasting:
            with turns.lock:
                turns.end_one(me)


class _OneTurn:
    """A ``with`` block in which a turn with one thread, once begun, lasts until the block ends.

    For a few products in a row.  Nobody waits as long as none of them needs a turn.
    """

    def __enter__(self) -> None:
        _turns.lasting.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        turns, me = _turns, threading.get_ident()
        turns.lasting.discard(me)
        if me in turns.with_one:
            with turns.lock:
                turns.end_one(me)


class _SeveralThreads:
    """A ``with`` block in which BLAS has the threads that it has outside of `one_blas_thread`."""

    def __enter__(self) -> None:
        _turns.begin_several()

    def __exit__(self, *_: object) -> None:
        with _turns.lock:
            _turns.end_several(threading.get_ident())


one_blas_thread = _OneThread()
one_turn = _OneTurn()
_several_blas_threads = _SeveralThreads()
_NOTHING: AbstractContextManager[None] = nullcontext()


def step_products(batch: int, entries: int) -> AbstractContextManager[None]:
    """Return a ``with`` block for a time loop whose steps multiply by BLAS.

    Parameters
    ----------
    batch : int
        Rows of the state.
    entries : int
        Of the recurrent weights.
    """
    alone = tuning.BLAS_ALONE if batch > 1 else tuning.BLAS_ALONE_VECTOR
    if batch * entries < alone or compute_threads() == 1:
        return _NOTHING
    return _several_blas_threads


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
    be had: see `xprnn.backend.host.workers`.
    """
    if not WORKERS.run([partial(work, part) for part in parts]):
        for part in parts:
            work(part)


if hasattr(os, "register_at_fork"):
    # A child process has none of the threads.
    os.register_at_fork(after_in_child=_turns.begin_anew)


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
