"""The walk over the parameters: an elementwise formula, applied to each with its own memory.

A formula is ``formula(g, p, *memory) -> (p, *memory)``.  It takes a parameter's gradient, its
values, and its array from every dict of the state (its momentum, for example), or None if that dict
is empty; it returns the new values and arrays.
"""

import importlib
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from xprnn.backend import library_of, namespace_of
from xprnn.backend.host import tuning
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import SparseGradient, dense, elementwise
from xprnn.engine.loop.lowering import chosen_names
from xprnn.optim.fused import fused_update
from xprnn.optim.protocol import Gradients, Parameters, Updated

Memory: TypeAlias = Mapping[str, Array]
"""One dict of a state: an array for each parameter's name, or empty."""


def update_each(
    formulas: Mapping[str, Rule],
    gradients: Gradients,
    parameters: Parameters,
    *memories: Memory,
    lazy: bool,
    into: tuple[Memory, ...] | None = None,
) -> tuple[dict[str, Array], ...]:
    """Return the new parameters and the new memories.

    Parameters
    ----------
    formulas : mapping of str to callable
        Each parameter's formula; see the module.
    gradients, parameters : mapping of str to array
    *memories : mapping of str to array
    lazy : bool
        With a sparse gradient, apply the formula only to the rows or columns that the gradient
        holds, and leave the others alone.
    into : tuple of mapping, optional
        Parameters and memories whose arrays the caller gives up: see `places`.
    """
    new = None
    if parameters and library_of(next(iter(parameters.values()))).fused is not None:
        new = fused_update(formulas, gradients, parameters, memories, lazy=lazy)
    if new is None:
        new = _one_by_one(formulas, gradients, parameters, memories, lazy=lazy, into=into)
    return tuple(
        [
            {k: arrays[i] for k, arrays in new.items() if arrays[i] is not None}
            for i in range(1 + len(memories))
        ]
    )


def _one_by_one(
    formulas: Mapping[str, Rule],
    gradients: Gradients,
    parameters: Parameters,
    memories: tuple[Memory, ...],
    *,
    lazy: bool,
    into: tuple[Memory, ...] | None,
) -> dict[str, tuple[Array | None, ...]]:
    """Return each parameter's new arrays, the parameter first."""
    if not lazy:
        gradients = {
            k: dense(g) if isinstance(g, SparseGradient) else g for k, g in gradients.items()
        }
    compiled = _compiled_module(parameters)
    known: dict[str, tuple[Array | None, ...]] = {}
    if compiled is not None:
        known = compiled.compiled_update(formulas, gradients, parameters, memories, into)
    new: dict[str, tuple[Array | None, ...]] = {}
    for k, p in parameters.items():
        if k in known:
            new[k] = known[k]
            continue
        g, formula = gradients[k], formulas[k]
        arrays = (p, *[memory.get(k) for memory in memories])
        given = None if into is None else [kind.get(k) for kind in into]
        new[k] = elementwise(formula, g, arrays, given)
    return new


def _compiled_module(parameters: Parameters) -> Any:
    """Return `xprnn.optim.compiled`; None where it can't be used, or there is too little to do."""
    if not parameters:
        return None
    library = library_of(next(iter(parameters.values())))
    # Of libraries without a lowering nothing else is asked: torch may be compiling this.
    if library.lowering is None or "numba" not in chosen_names(library.lowering):
        return None
    if sum([math.prod(p.shape) for p in parameters.values()]) < tuning.UPDATE_ENTRIES:
        return None
    return _module()


@cache
def _module() -> Any:
    return importlib.import_module("xprnn.optim.compiled")  # with Numba, which is optional


def places(into: Updated | None, names: tuple[str, ...]) -> tuple[Memory, ...] | None:
    """Return the ``into`` of `update_each`, from that of an update and the memories' names."""
    if into is None:
        return None
    parameters, state = into
    return (parameters, *(getattr(state, name) for name in names))


def zeros_like(parameters: Parameters, *, when: bool = True) -> dict[str, Array]:
    """Return zeros of the parameters' names and shapes; an empty dict unless ``when``."""
    if not when:
        return {}
    return {k: namespace_of(p).zeros_like(p) for k, p in parameters.items()}


def usable_epsilon(epsilon: float | Array, a: Array) -> float | Array:
    """Return ε, raised to the smallest normal number of the dtype of ``a``.

    In half precision 10⁻⁸ is 0, and a gradient of zero would be divided by zero.
    """
    xp = namespace_of(a)
    least = float(xp.finfo(a.dtype).smallest_normal)
    return max(epsilon, least) if isinstance(epsilon, float) else xp.maximum(epsilon, least)
