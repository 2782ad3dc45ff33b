"""Which lowering runs a cell on a backend, and how to switch lowering off.

A lowering makes the time loop of one library from a cell's traced formulas.  Such loops are cached
by the text of the formulas and the lowering's name, and keep what they compile.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any

from xprnn.backend import Backend
from xprnn.backend.numba import VARIABLE, lowering_word, why_no_numba
from xprnn.cells import Cell
from xprnn.engine.loop.cuda.choice import chosen
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.protocol import Keeping, Loops, Windowed, Work
from xprnn.engine.loop.traced import Traced, is_frozen, traced_formulas

LOWERINGS: dict[str, tuple[str, ...]] = {
    "numpy": ("numba", "numpy"),
    "cupy": ("persistent", "cupy"),
}
"""By the name in `Library.lowering`, the lowerings for that library, the fastest first."""

NORMALIZING = ("cupy",)
"""By the same name, the libraries that have a lowering of layers that normalise."""

WINDOWED = ("numba", "numpy")
"""The lowerings that make the sweeps of a windowed truncation, too."""

KEEPING = "numba"
"""The lowering whose backward loop can keep the gradient of every state."""

CUDA_NAMES = {
    "auto": ("persistent", "cupy"),
    "persistent": ("persistent",),
    "step": ("cupy",),
    "plain": (),
}
"""By the word of ``XPRNN_CUDA_LOOP``, those for CuPy."""

SECOND = ("numpy",)
"""The lowerings that make a second product within a step, too."""

NO_SECOND = "it has a second product within the step, which no lowering to this library makes"

_allowed: ContextVar[bool | None] = ContextVar("allowed", default=None)
_log = logging.getLogger("xprnn")
_FOUND: dict[Any, tuple[Loops | str | None, Cell]] = {}
_MOST_FOUND = 1024


@contextmanager
def disable_lowering() -> Iterator[None]:
    """Run cells as plain array code inside a ``with`` block.

    It applies to the thread (or asyncio task) that enters the block, and to no other.  For a whole
    process set the environment variable ``XPRNN_LOWERING=off``.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(1, 4, dtype="float64", rng=0)
    >>> x = np.ones((3, 1, 1))
    >>> with xprnn.disable_lowering():
    ...     plain, _ = net(x)
    >>> bool(np.allclose(net(x)[0], plain, rtol=1e-13))
    True
    """
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def lowering_for(backend: Backend, cell: Cell, work: Work) -> Loops | None:
    """Return the fastest lowered time loops of a cell that suit the work.

    None, and the cell runs as plain array code: if the backend has no lowering that suits, if
    lowering is disabled, or if the cell can't be traced (see `explain_lowering`).
    """
    names = chosen_names(backend.library.lowering)
    # Before anything is traced, which for some cells happens at every use.
    if not names or (work.normalizes and backend.library.lowering not in NORMALIZING):
        return None
    # On the host nothing else than the work counts.
    found = _found(cell, names, work) if work.limits is None else _suitable_now(cell, names, work)
    if isinstance(found, str):
        if backend.library.fused is not None:
            # A step of plain array code is a launch for every operation.
            _warn_once(type(cell).__name__, found)
        return None
    return found


def _suitable(traced: Traced | str, names: tuple[str, ...], work: Work) -> Loops | str | None:
    """Return the first of these lowerings that suits the work, if any; or why a cell has none."""
    if isinstance(traced, str):
        return traced
    if traced.formulas.second:
        names = _with_second(names)
        if not names:
            return NO_SECOND
    for name in names:
        loops = loops_of(traced, name)
        if loops.suits(work):
            return loops
    return None


def _with_second(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those lowerings that make a second product within a step."""
    return tuple([name for name in names if name in SECOND])


def _suitable_now(cell: Cell, names: tuple[str, ...], work: Work) -> Loops | str | None:
    """Do the same for a cell that may have changed."""
    return _suitable(traced_formulas(cell), names, work)


def _found(cell: Cell, names: tuple[str, ...], work: Work) -> Loops | str | None:
    """Do the same, looked up if it was found before for a frozen cell with the same methods.

    At every pass, of a small network too, so that a dict is asked before the cell is.
    """
    kind: Any = type(cell)
    # By its identity, which is no other cell's while the entry refers to it: a dataclass computes
    # its hash anew for every question.
    key = id(cell), kind.forward, kind.backward, names, work
    entry = _FOUND.get(key)
    if entry is not None:
        return entry[0]
    found = _suitable_now(cell, names, work)
    if is_frozen(cell):
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.clear()
        _FOUND[key] = found, cell
    return found


def windowed_for(backend: Backend, cell: Cell, work: Work) -> Windowed | None:
    """Return what makes the sweeps of a windowed truncation; None: plain array code."""
    names = tuple([name for name in chosen_names(backend.library.lowering) if name in WINDOWED])
    if not names:
        return None
    found: Any = _found(cell, names, work)
    return None if isinstance(found, str) else found


def keeping_for(backend: Backend, cell: Cell, work: Work) -> Keeping | None:
    """Return the loops of `lowering_for`, if they can keep the gradient of every state."""
    found: Any = lowering_for(backend, cell, work)
    return found if found is not None and found.name == KEEPING else None


@cache
def _warn_once(kind: str, reason: str) -> None:
    """Say that a cell is slow on a device, once for each kind and reason."""
    _log.warning("%s runs as plain array code, slowly on a device: %s", kind, reason)


def lowerings_of(backend: Backend, cell: Cell) -> tuple[Loops, ...]:
    """Return all lowered time loops that a cell has on a backend, the fastest first."""
    names = chosen_names(backend.library.lowering)
    traced = traced_formulas(cell) if names else ""
    if isinstance(traced, str):
        return ()
    if traced.formulas.second:
        names = _with_second(names)
    return tuple(loops_of(traced, name) for name in names)


def lowering_enabled() -> bool:
    """Return whether cells are lowered where they can be.

    Raises
    ------
    ValueError
        If the environment variable ``XPRNN_LOWERING`` is none of ``on``, ``off``, ``numpy`` and
        ``numba``.
    """
    allowed = _allowed.get()
    return lowering_word() != "off" if allowed is None else allowed


def chosen_names(library: str | None) -> tuple[str, ...]:
    """Return the names of the lowerings in use for a library, the fastest first."""
    names = LOWERINGS.get(library or "", ())
    allowed = _allowed.get()
    if not names or allowed is False:
        return ()
    word = lowering_word()
    if word == "off" and not allowed:
        return ()
    if "persistent" in names:
        return CUDA_NAMES[chosen().loop or "auto"]
    missing = "" if word == "numpy" else why_no_numba()
    if missing and word == "numba":
        raise ImportError(f"{VARIABLE} is 'numba', but {missing}")
    if missing or word == "numpy":
        return tuple(name for name in names if name != "numba")
    return names


def compiled(
    backend: Backend, cell: Cell, function: Callable[..., Any], *fixed: str
) -> Callable[..., Any]:
    """Return a function of whole passes, compiled if the library can compile it.

    It is not compiled if lowering is disabled, if ``XPRNN_LOWERING`` is ``numpy``, or if the cell
    can't be traced, or is not frozen and so may change.

    Parameters
    ----------
    backend : Backend
    cell : Cell
        Which the function calls.
    function : callable
    *fixed : str
        The names of its arguments that hold no arrays.
    """
    library = backend.library
    if not library.compiles or why_not_compiled(cell):
        return function
    kind: Any = type(cell)
    return library.compiled(function, fixed, kind.forward, kind.backward)


def why_not_compiled(cell: Cell) -> str:
    """Return why passes with a cell are not compiled by a library that could; else empty."""
    if not lowering_enabled():
        return "lowering is disabled"
    if lowering_word() == "numpy" and not _allowed.get():
        return f"{VARIABLE} is 'numpy'"
    if not is_frozen(cell):
        return "the cell is not a frozen, hashable dataclass, so it may change"
    traced = traced_formulas(cell)
    return traced if isinstance(traced, str) else ""


@lru_cache(maxsize=256)
def loops_of(traced: Traced, name: str) -> Loops:
    """Return the loops that a lowering makes from formulas."""
    formulas = traced.formulas
    if name == "numba":  # which is optional, and slow to import
        module = importlib.import_module("xprnn.engine.loop.numba.loops")
        loops: Loops = module.NumbaLoops(formulas, traced.cell)
        return loops
    if name == "persistent":
        return PersistentLoops(formulas)
    return NumPyLoops(formulas) if name == "numpy" else CuPyLoops(formulas)
