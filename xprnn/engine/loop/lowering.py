"""Which lowering runs a cell on a backend, how to switch lowering off, and how to ask about it.

A lowering makes the time loop of one library from a cell's traced formulas.  Such loops are cached
by the text of the formulas and the lowering's name, and keep what they compile; a frozen, hashable
cell is traced once, any other at every use, since it may have changed.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any, NamedTuple

from xprnn.backend import Backend, get_backend
from xprnn.backend.numba import VARIABLE, lowering_word, why_no_numba
from xprnn.cells import Cell, get_cell, has_layer_norm
from xprnn.engine.loop.cuda.choice import VARIABLE as CUDA_VARIABLE
from xprnn.engine.loop.cuda.choice import chosen
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.protocol import Keeping, Loops, Windowed, Work
from xprnn.engine.loop.trace import Formulas, trace
from xprnn.engine.loop.tracer import Untraceable

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
    names = _chosen(backend.library.lowering)
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


def _suitable(traced: "_Traced | str", names: tuple[str, ...], work: Work) -> Loops | str | None:
    """Return the first of these lowerings that suits the work, if any; or why a cell has none."""
    if isinstance(traced, str):
        return traced
    if traced.formulas.second:
        names = _with_second(names)
        if not names:
            return NO_SECOND
    for name in names:
        loops = _loops(traced, name)
        if loops.suits(work):
            return loops
    return None


def _with_second(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those lowerings that make a second product within a step."""
    return tuple([name for name in names if name in SECOND])


def _suitable_now(cell: Cell, names: tuple[str, ...], work: Work) -> Loops | str | None:
    """Do the same for a cell that may have changed."""
    return _suitable(_traced(cell), names, work)


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
    if _is_frozen(cell):
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.clear()
        _FOUND[key] = found, cell
    return found


def windowed_for(backend: Backend, cell: Cell, work: Work) -> Windowed | None:
    """Return what makes the sweeps of a windowed truncation; None: plain array code."""
    names = tuple([name for name in _chosen(backend.library.lowering) if name in WINDOWED])
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
    names = _chosen(backend.library.lowering)
    traced = _traced(cell) if names else ""
    if isinstance(traced, str):
        return ()
    if traced.formulas.second:
        names = _with_second(names)
    return tuple(_loops(traced, name) for name in names)


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


def _chosen(library: str | None) -> tuple[str, ...]:
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
    if not _is_frozen(cell):
        return "the cell is not a frozen, hashable dataclass, so it may change"
    traced = _traced(cell)
    return traced if isinstance(traced, str) else ""


def lowering_in_use() -> str:
    """Say what runs the time loops on NumPy, and why nothing faster does."""
    if not lowering_enabled():
        return f"plain array code ({VARIABLE} is 'off')"
    if lowering_word() == "numpy":
        return f"NumPy calls ({VARIABLE} is 'numpy')"
    missing = why_no_numba()
    if missing:
        return f"NumPy calls ({missing})"
    build = importlib.import_module("xprnn.backend.numba.build")
    return (
        f"Numba {build.numba.__version__}, compiled code in {build.cache_folder() or 'no folder'}"
    )


def explain_lowering(
    cell: str | Cell,
    backend: str | Backend = "numpy",
    *,
    hidden: int | None = None,
    batch: int = 1,
    steps: int = 100,
) -> str:
    """Say how a cell runs on a backend, and why if it is not lowered.

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend
    hidden, batch, steps : int
        H, B and T, for which it says which CUDA kernels run on the device, and why; without
        ``hidden``, it does not.

    Returns
    -------
    str
        A line for each lowering, the preferred one first, and with ``hidden`` on CuPy a line for
        each direction.

    Examples
    --------
    >>> print(explain_lowering("elman"))
    Elman(activation='tanh') is ...: 2 operations forward, 3 backward...
    """
    cell, backend = get_cell(cell), get_backend(backend)
    plain = f"{cell} runs as plain array code"
    if backend.library.compiles:
        reason = why_not_compiled(cell)
        if reason:
            return f"{plain}: {reason}"
        name = backend.library.name
        return f"{cell} is compiled by {name} with the pass around it, once for each shape"
    if backend.library.lowering is None:
        return f"{plain}: the backend {backend.name!r} has no lowering"
    if not lowering_enabled():
        return f"{plain}: lowering is disabled"
    traced = _traced(cell)
    if isinstance(traced, str):
        return f"{plain}: {traced}"
    found = lowerings_of(backend, cell)
    if not found:
        says = f"{CUDA_VARIABLE} (or cuda_loop) says 'plain'"
        return f"{plain}: {NO_SECOND if traced.formulas.second else says}"
    normalizes = has_layer_norm(cell)
    if normalizes:
        # Mean and variance are not elementwise.
        found = tuple(loops for loops in found if loops.normalizes)
        if not found and chosen().loop == "persistent" and backend.library.lowering == "cupy":
            return (
                f"{cell} can't run: {CUDA_VARIABLE} (or cuda_loop) says 'persistent', "
                "but it normalises its projections"
            )
        if not found:
            return f"{plain}: it normalises its projections"
    first, *others = (loops.describe() for loops in found)
    if normalizes:
        first += " and one that normalises"
    formulas = traced.formulas
    lines = [
        f"{cell} is {first}: {formulas.forward.operations()} operations forward, "
        f"{formulas.backward.operations()} backward"
    ]
    lines += [f"where that does not suit, it is {words}" for words in others]
    if backend.library.lowering == "cupy" and hidden is not None:
        lines += _by_size(backend, traced, (steps, batch, hidden), normalizes)
    if backend.library.lowering == "numpy" and not others:
        lines.append(_why_numpy_alone(formulas))
    return "\n".join(lines)


def _why_numpy_alone(formulas: Formulas) -> str:
    """Say why a cell is not lowered to Numba on NumPy."""
    if formulas.second:
        return "it has a second product within the step, which only NumPy calls make so far"
    return why_no_numba() or f"{VARIABLE} is 'numpy': Numba is not used"


def _by_size(
    backend: Backend, traced: "_Traced", shape: tuple[int, int, int], normalizes: bool
) -> Iterator[str]:
    """Yield, for each direction, which CUDA kernels run and why."""
    steps, batch, hidden = shape
    loops = _loops(traced, "persistent")
    for direction in ("forward", "backward"):
        limits = backend.library.limits(backend.device)
        work = Work(direction, backend.dtype_name, steps, batch, lengths=False)
        work = work._replace(hidden=hidden, limits=limits, normalizes=normalizes)
        if "persistent" not in _chosen("cupy"):
            yield f"{direction}: step kernels, because {CUDA_VARIABLE} (or cuda_loop) says 'step'"
        elif isinstance(loops, PersistentLoops):
            yield loops.explain(work)


class _Traced(NamedTuple):
    """A cell's formulas, and their text, which determines them: equal text, equal formulas.

    ``cell`` is the name of the class that they were traced from, one of perhaps several.
    """

    text: str
    formulas: Formulas
    cell: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Traced) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=256)
def _loops(traced: _Traced, name: str) -> Loops:
    """Return the loops that a lowering makes from formulas."""
    formulas = traced.formulas
    if name == "numba":  # which is optional, and slow to import
        module = importlib.import_module("xprnn.engine.loop.numba.loops")
        loops: Loops = module.NumbaLoops(formulas, traced.cell)
        return loops
    if name == "persistent":
        return PersistentLoops(formulas)
    return NumPyLoops(formulas) if name == "numpy" else CuPyLoops(formulas)


def formulas_of(cell: Cell) -> Formulas | None:
    """Return a cell's traced formulas; None if it can't be traced."""
    traced = _traced(cell)
    return None if isinstance(traced, str) else traced.formulas


def _traced(cell: Cell) -> _Traced | str:
    """Return a cell's formulas, or the reason why it can't be traced."""
    kind: Any = type(cell)
    hashable: Any = cell
    if _is_frozen(cell):
        # By its methods, too, since those of a class can be replaced.
        return _traced_once(hashable, kind.forward, kind.backward)
    return _trace(cell)


def _is_frozen(cell: Cell) -> bool:
    """Whether a cell is known not to change: a frozen dataclass of fields that can be hashed."""
    options = getattr(type(cell), "__dataclass_params__", None)
    if options is None or not options.frozen:
        return False
    try:
        hash(cell)
    except TypeError:
        # A field that can't be hashed can change.
        return False
    return True


@lru_cache(maxsize=256)
def _traced_once(cell: Cell, *methods: object) -> _Traced | str:
    del methods
    return _trace(cell)


def _trace(cell: Cell) -> _Traced | str:
    try:
        formulas = trace(cell)
    except Untraceable as error:
        _log.info("%s runs as plain array code: %s", cell, error)
        return f"{error}"
    return _Traced(repr(formulas), formulas, type(cell).__name__)
