"""How a cell runs on a backend, and why, in words."""

import importlib
from collections.abc import Iterator

from xprnn.backend import Backend, get_backend
from xprnn.backend.numba import VARIABLE, lowering_word, why_no_numba
from xprnn.cells import Cell, get_cell, has_layer_norm
from xprnn.engine.loop.cuda.choice import VARIABLE as CUDA_VARIABLE
from xprnn.engine.loop.cuda.choice import chosen
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.lowering import (
    NO_SECOND,
    chosen_names,
    loops_of,
    lowering_enabled,
    lowerings_of,
    why_not_compiled,
)
from xprnn.engine.loop.protocol import Work
from xprnn.engine.loop.trace import Formulas
from xprnn.engine.loop.traced import Traced, traced_formulas


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


def compiled_code() -> list[str]:
    """Say what the cache of compiled code holds, and for which processors; nothing without it."""
    if not lowering_enabled() or lowering_word() == "numpy" or why_no_numba():
        return []
    build = importlib.import_module("xprnn.backend.numba.build")
    if build.cache_folder() is None:
        return []
    lines = []
    for what in importlib.import_module("xprnn.backend.numba.inventory").kept():
        functions = f"{what.functions} function{'s' * (what.functions != 1)}"
        if what.in_use and not what.functions:
            lines.append(f"none for {what.made_for} yet: the first use compiles, for some seconds")
        elif what.in_use:
            lines.append(f"{functions} for {what.made_for}, used here")
        else:
            lines.append(f"{functions} for {what.made_for or 'an older version'}, not used here")
    return lines


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
    traced = traced_formulas(cell)
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
    backend: Backend, traced: Traced, shape: tuple[int, int, int], normalizes: bool
) -> Iterator[str]:
    """Yield, for each direction, which CUDA kernels run and why."""
    steps, batch, hidden = shape
    loops = loops_of(traced, "persistent")
    for direction in ("forward", "backward"):
        limits = backend.library.limits(backend.device)
        work = Work(direction, backend.dtype_name, steps, batch, lengths=False)
        work = work._replace(hidden=hidden, limits=limits, normalizes=normalizes)
        if "persistent" not in chosen_names("cupy"):
            yield f"{direction}: step kernels, because {CUDA_VARIABLE} (or cuda_loop) says 'step'"
        elif isinstance(loops, PersistentLoops):
            yield loops.explain(work)
