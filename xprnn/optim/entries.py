"""What the rules share: one elementwise formula, for every parameter and what is remembered of it.

A rule is ``rule(decay, g, p, *memory) -> (p, *memory)``: the parameter's own weight decay, its
gradient, its values, and one array of each kind that is remembered, None if that kind is not.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.optim.protocol import Gradients, Parameters
from xprnn.sparse import lazily

Rule: TypeAlias = Callable[..., tuple[Array | None, ...]]
Memory: TypeAlias = Mapping[str, Array]
"""One kind of what is remembered, by the parameters' names; empty if it is not."""


def update_each(
    rule: Rule,
    gradients: Gradients,
    parameters: Parameters,
    *memories: Memory,
    decay: Mapping[str, float],
    lazy: bool,
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
    """
    new = {}
    for k, p in parameters.items():
        apply = partial(lazily, partial(rule, decay[k])) if lazy else partial(rule, decay[k])
        new[k] = apply(gradients[k], p, *(memory.get(k) for memory in memories))
    return tuple(
        {k: arrays[i] for k, arrays in new.items() if arrays[i] is not None}
        for i in range(1 + len(memories))
    )


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
