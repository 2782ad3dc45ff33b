"""Which cells are lowered, on which backend; and how to keep them from it."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend import Backend, get_backend
from xprnn.cells import Cell, get_cell, has_layer_norm
from xprnn.formula.cupy_lowering import CuPyLoops
from xprnn.formula.numpy_lowering import NumPyLoops
from xprnn.formula.trace import Formulas, Untraceable, trace

Loops: TypeAlias = NumPyLoops | CuPyLoops

LOWERINGS: dict[str, Callable[[Formulas], Loops]] = {"numpy": NumPyLoops, "cupy": CuPyLoops}
"""By the name that a library gives its lowering."""

VARIABLE = "XPRNN_LOWERING"

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
    >>> with xprnn.formula.disable_lowering():
    ...     plain, _ = net(x)
    >>> bool(np.allclose(net(x)[0], plain, rtol=1e-13))
    True
    """
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def lowering_for(backend: Backend, cell: Cell) -> Loops | None:
    """Return the compiled time loops of a cell; None where it runs as plain array code.

    That is: the backend has no lowering, lowering is disabled, or the cell can't be traced (see
    `explain`).
    """
    name = f"{backend.library.lowering}"
    if name not in LOWERINGS or not lowering_enabled():
        return None
    traced = _known(cell).traced
    return None if traced is None else _loops(traced, name)


def lowering_enabled() -> bool:
    """Return whether cells are lowered where they can be.

    Raises
    ------
    ValueError
        If the environment variable ``XPRNN_LOWERING`` is neither ``on`` nor ``off``.
    """
    allowed = _allowed.get()
    if allowed is not None:
        return allowed
    word = os.environ.get(VARIABLE, "on")
    if word not in ("on", "off"):
        raise ValueError(f"{VARIABLE} is {word!r}: expected 'on' or 'off'")
    return word == "on"


def explain(cell: str | Cell, backend: str | Backend = "numpy") -> str:
    """Say how a cell runs on a backend, and if it is not lowered, why.

    On NumPy, batches with lengths run as plain array code, whatever the cell.

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend

    Examples
    --------
    >>> print(explain("elman"))
    Elman(activation='tanh') is lowered to NumPy calls: 2 operations forward, 3 backward
    """
    cell, backend = get_cell(cell), get_backend(backend)
    plain = f"{cell} runs as plain array code"
    if backend.library.lowering is None:
        return f"{plain}: the backend {backend.name!r} has no lowering"
    if not lowering_enabled():
        return f"{plain}: lowering is disabled"
    found = _known(cell)
    if found.traced is None:
        return f"{plain}: {found.reason}"
    if has_layer_norm(cell):
        # Mean and variance are no elementwise operations.
        return f"{plain}: it normalises its projections"
    loops = _loops(found.traced, backend.library.lowering)
    formulas = loops.formulas
    return (
        f"{cell} is {loops.describe()}: {formulas.forward.operations()} operations forward, "
        f"{formulas.backward.operations()} backward"
    )


class _Text(NamedTuple):
    text: str
    formulas: Formulas

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Found(NamedTuple):
    """A cell's formulas, or why there are none."""

    traced: _Text | None
    reason: str = ""


def _known(cell: Cell) -> _Found:
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
def _traced_once(cell: Cell, *methods: object) -> _Found:
    del methods
    return _traced(cell)


def _traced(cell: Cell) -> _Found:
    try:
        formulas = trace(cell)
    except Untraceable as error:
        _log.info("%s runs as plain array code: %s", cell, error)
        return _Found(None, f"{error}")
    # The text says all there is to a formula, and what is compiled for one is kept.
    return _Found(_Text(repr(formulas), formulas))


@lru_cache(maxsize=256)
def _loops(known: _Text, name: str) -> Loops:
    return LOWERINGS[name](known.formulas)
