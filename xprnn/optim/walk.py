"""What the rules share: one elementwise formula, for every parameter and what is remembered of it.

A rule is ``rule(decay, g, p, *memory) -> (p, *memory)``: the parameter's own weight decay, its
gradient, its values, and one array of each kind that is remembered, None if that kind is not.
"""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from xprnn.backend import namespace_of
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import SparseGradient, elementwise
from xprnn.optim.protocol import Gradients, Parameters, Updated

Memory: TypeAlias = Mapping[str, Array]
"""One kind of what is remembered, by the parameters' names; empty if it is not."""


def update_each(
    rule: Rule,
    gradients: Gradients,
    parameters: Parameters,
    *memories: Memory,
    decay: Mapping[str, float],
    lazy: bool,
    into: tuple[Memory, ...] | None = None,
) -> tuple[dict[str, Array], ...]:
    """Return the new parameters and the new memories.

    Parameters
    ----------
    rule : callable
        See the module.
    gradients, parameters : mapping of str to array
    *memories : mapping of str to array
    decay : mapping of str to float
    lazy : bool
        Hand the rule of a sparse gradient the rows or columns that it holds, and leave the others
        alone.
    into : tuple of mapping, optional
        Parameters and memories whose arrays the caller gives up: see `places`.
    """
    new = {}
    for k, p in parameters.items():
        g, apply = gradients[k], partial(rule, decay[k])
        arrays = (p, *[memory.get(k) for memory in memories])
        if isinstance(g, SparseGradient) and not lazy:
            new[k] = apply(g, *arrays)
            continue
        given = None if into is None else [kind.get(k) for kind in into]
        new[k] = elementwise(apply, g, arrays, given)
    return tuple(
        {k: arrays[i] for k, arrays in new.items() if arrays[i] is not None}
        for i in range(1 + len(memories))
    )


def places(into: Updated | None, *names: str) -> tuple[Memory, ...] | None:
    """Return what `update_each` takes for ``into``, the memories being these of the state's."""
    if into is None:
        return None
    parameters, state = into
    return (parameters, *(getattr(state, name) for name in names))


def zeros_like(parameters: Parameters, *, when: bool = True) -> dict[str, Array]:
    """Return zeros of the parameters' names and shapes, or nothing."""
    if not when:
        return {}
    return {k: namespace_of(p).zeros_like(p) for k, p in parameters.items()}


def above_zero(epsilon: float, a: Array) -> float:
    """Return what keeps a division by a root from being one by zero, in the dtype of ``a``.

    Half precision has no 10⁻⁸: it would be 0, and a gradient of zero would make 0/0.
    """
    return max(epsilon, float(namespace_of(a).finfo(a.dtype).smallest_normal))
