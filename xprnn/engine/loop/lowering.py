"""Which cells are lowered, on which backend; and how to keep them from it."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

from xprnn.backend import Backend, get_backend
from xprnn.backend.numba import VARIABLE, lowering_word, numba_missing
from xprnn.cells import Cell, get_cell, has_layer_norm
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.protocol import Loops, Work
from xprnn.engine.loop.trace import Formulas, Untraceable, trace

LOWERINGS: dict[str, tuple[str, ...]] = {"numpy": ("numba", "numpy"), "cupy": ("cupy",)}
"""By the name that a library gives its lowering, those that there are, the fastest first."""

_allowed: ContextVar[bool | None] = ContextVar("allowed", default=None)
_log = logging.getLogger("xprnn")


@contextmanager
def disable_lowering() -> Iterator[None]:
    """Run cells as plain array code, inside a ``with`` block.

    In the thread (or task) that entered the block, and in no other.  For a whole process set the
    environment variable ``XPRNN_LOWERING=off``.

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
    """Return the time loops of a cell that do some work; None where it runs as plain array code.

    That is: the backend has no lowering that suits, lowering is disabled, or the cell can't be
    traced (see `explain_lowering`).
    """
    for loops in lowerings_of(backend, cell):
        if loops.suits(work):
            return loops
    return None


def lowerings_of(backend: Backend, cell: Cell) -> tuple[Loops, ...]:
    """Return all time loops that a cell has on a backend, the fastest first."""
    names = _chosen(backend.library.lowering or "")
    if not names:
        return ()
    known = _known(cell)
    if names not in known.loops and known.traced is not None:
        known.loops[names] = tuple(_loops(known.traced, name) for name in names)
    return known.loops.get(names, ())


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


def _chosen(library: str) -> tuple[str, ...]:
    """Return which lowerings are used."""
    names = LOWERINGS.get(library, ())
    allowed = _allowed.get()
    if not names or allowed is False:
        return ()
    word = lowering_word()
    if word == "off" and not allowed:
        return ()
    if "numba" not in names:
        return names
    missing = "" if word == "numpy" else numba_missing()
    if missing and word == "numba":
        raise ImportError(f"{VARIABLE} is 'numba', but {missing}")
    if missing or word == "numpy":
        return tuple(name for name in names if name != "numba")
    return names


def lowering_in_use() -> str:
    """Say what the time loops of NumPy are made by, and why by nothing faster."""
    if not lowering_enabled():
        return f"plain array code ({VARIABLE} is 'off')"
    if lowering_word() == "numpy":
        return f"NumPy calls ({VARIABLE} is 'numpy')"
    missing = numba_missing()
    if missing:
        return f"NumPy calls ({missing})"
    build = importlib.import_module("xprnn.backend.numba.build")
    return (
        f"Numba {build.numba.__version__}, compiled code in {build.cache_folder() or 'no folder'}"
    )


def explain_lowering(cell: str | Cell, backend: str | Backend = "numpy") -> str:
    """Say how a cell runs on a backend, and if it is not lowered, why.

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend

    Returns
    -------
    str
        A line for each lowering, the one that is used wherever it suits first.

    Examples
    --------
    >>> print(explain_lowering("elman"))
    Elman(activation='tanh') is ...: 2 operations forward, 3 backward...
    """
    cell, backend = get_cell(cell), get_backend(backend)
    plain = f"{cell} runs as plain array code"
    if backend.library.lowering is None:
        return f"{plain}: the backend {backend.name!r} has no lowering"
    if not lowering_enabled():
        return f"{plain}: lowering is disabled"
    known = _known(cell)
    if known.traced is None:
        return f"{plain}: {known.reason}"
    if has_layer_norm(cell):
        # Mean and variance are no elementwise operations.
        return f"{plain}: it normalises its projections"
    first, *others = (loops.describe() for loops in lowerings_of(backend, cell))
    formulas = known.traced.formulas
    lines = [
        f"{cell} is {first}: {formulas.forward.operations()} operations forward, "
        f"{formulas.backward.operations()} backward"
    ]
    lines += [f"where that does not suit, it is {words}" for words in others]
    if backend.library.lowering == "numpy" and not others:
        lines.append(numba_missing() or f"{VARIABLE} is 'numpy': Numba is not used")
    return "\n".join(lines)


class _Text(NamedTuple):
    """Formulas, and the text that says all there is to them."""

    text: str
    formulas: Formulas

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Known(NamedTuple):
    """A cell's formulas, or why there are none; and the loops made of them, by their names."""

    traced: _Text | None
    reason: str
    loops: dict[tuple[str, ...], tuple[Loops, ...]]


def _known(cell: Cell) -> _Known:
    """Return a cell's formulas, traced before if nothing of the cell can have changed since."""
    same: Any = cell
    kind: Any = type(cell)
    options = getattr(kind, "__dataclass_params__", None)
    if options is not None and options.frozen:
        try:
            return _traced_once(same, kind.forward, kind.backward)
        except TypeError:
            # A field that can't be hashed, and so may change.
            pass
    return _traced(cell)


@lru_cache(maxsize=256)
def _traced_once(cell: Cell, *methods: object) -> _Known:
    del methods
    return _traced(cell)


def _traced(cell: Cell) -> _Known:
    try:
        formulas = trace(cell)
    except Untraceable as error:
        _log.info("%s runs as plain array code: %s", cell, error)
        return _Known(None, f"{error}", {})
    return _Known(_Text(repr(formulas), formulas), "", {})


@lru_cache(maxsize=256)
def _loops(traced: _Text, name: str) -> Loops:
    """Return the loops of a formula, which keep what is compiled for it."""
    if name != "numba":
        return NumPyLoops(traced.formulas) if name == "numpy" else CuPyLoops(traced.formulas)
    loops: Loops = importlib.import_module("xprnn.engine.loop.numba.loops").NumbaLoops(
        traced.formulas
    )
    return loops
