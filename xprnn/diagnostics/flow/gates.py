"""How saturated gates are: the slope of each gate's activation, found in the cell's formula.

A gate's activation is the first function in `SLOPES` that its block of u reaches in the traced
formula of the cell's `forward`.  Its slope is scaled to be at most one::

    tanh(a)         1 - tanh²(a)                                      (1)
    σ(a)            4 σ(a) (1 - σ(a)) = 1 - tanh²(a/2)                (2)
    max(a, 0)       1 where a > 0, else 0                             (3)

(2) needs no rule of its own where σ is written with tanh.  A gate without such a function is
linear, and never saturated.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Cell
from xprnn.engine.layer.projection import project
from xprnn.engine.layer.reaching import Reached, recurrent_projection
from xprnn.engine.layer.weights import Weights
from xprnn.engine.loop.program import CONSTANT, INPUT, Program
from xprnn.engine.loop.trace import trace_forward
from xprnn.engine.loop.tracer import Untraceable

Slope = Callable[[Namespace, Array, Array], Array]

SLOPES: dict[str, Slope] = {
    "tanh": lambda xp, y, a: 1 - y * y,  # (1), (2)
    # Of 1 / (1 + exp(±a)), which is σ as well: 4 e / (1 + e)².
    "exp": lambda xp, y, a: 4 * (y / (1 + y)) / (1 + y),  # (2)
    "atan": lambda xp, y, a: 1 / (1 + a * a),
    "sin": lambda xp, y, a: xp.abs(xp.cos(a)),
    "maximum": lambda xp, y, a: xp.astype(y == a, y.dtype),  # (3)
    "minimum": lambda xp, y, a: xp.astype(y == a, y.dtype),
}
"""``slope(xp, y, a)``, from 0 to 1, of the function y of a; of two operands a is the gate's."""

CLIPS = ("maximum", "minimum")


class Function(NamedTuple):
    """A function in a program: the nodes of y and of a."""

    y: int
    a: int


Activation = tuple[Function, ...]
"""Of a gate: one function, or a maximum and a minimum of it, which clip; empty if it is linear."""


def saturated(
    backend: Backend, cell: Cell, weights: Weights, x: Array, reached: Reached, bound: float
) -> Array | None:
    """Return how many entries of each gate have a slope of at most ``bound``, (G,).

    None if the formula can't be traced.  Entries in the padding are not counted.

    Parameters
    ----------
    x : array
        The layer's input at the steps that were reached.
    """
    found = _known(cell)
    if found is None:
        return None
    program, activations = found
    xp = backend.xp
    values = _values(backend, program, activations, cell, weights, x, reached)
    valid, counts = reached.recurrent.valid, []
    for activation in activations:
        if not activation:
            counts.append(xp.zeros((), dtype=xp.float32, device=backend.device))
            continue
        slopes = [SLOPES[program.nodes[y].op](xp, values[y], values[a]) for y, a in activation]
        slope = functools.reduce(xp.minimum, slopes)
        flat = slope <= bound
        if valid is not None:
            flat = flat & valid
        counts.append(xp.sum(xp.astype(flat, xp.float32)))
    return xp.stack(counts)


def find_activations(program: Program, gates: int) -> tuple[Activation, ...]:
    """Return the activation of each gate."""
    found: list[Activation] = [()] * gates
    depends: list[set[int]] = []
    blocks = {node: k for k, node in program.inputs("u").items()}
    for index, node in enumerate(program.nodes):
        before: set[int] = {blocks[index]} if index in blocks else set()
        for argument in node.args:
            before = before | depends[argument]
        if node.op in SLOPES:
            for k in before:
                (operand, *_) = (a for a in node.args if k in depends[a])
                found[k] = found[k] or (Function(index, operand),)
            before = set()
        if node.op in CLIPS:
            for k, activation in enumerate(found):
                if activation and activation[-1].y in node.args:
                    found[k] = (*activation, Function(index, activation[-1].y))
        depends.append(before)
    return tuple(found)


def _known(cell: Cell) -> tuple[Program, tuple[Activation, ...]] | None:
    # A cell that can't be hashed may change, so it is traced again.
    return _cached(cell) if isinstance(cell, Hashable) else _traced(cell)


def _traced(cell: Cell) -> tuple[Program, tuple[Activation, ...]] | None:
    try:
        program = trace_forward(cell)
    except Untraceable:
        return None
    return program, find_activations(program, cell.gates)


_cached = functools.lru_cache(maxsize=64)(_traced)


def _values(
    backend: Backend,
    program: Program,
    activations: tuple[Activation, ...],
    cell: Cell,
    weights: Weights,
    x: Array,
    reached: Reached,
) -> dict[int, Array]:
    """Return the values of the nodes that the activations need, of all steps."""
    needed: set[int] = set()
    wanted = [function.y for activation in activations for function in activation]
    while wanted:
        index = wanted.pop()
        if index not in needed:
            needed.add(index)
            wanted.extend(program.nodes[index].args)
    inputs = _inputs(backend, cell, weights, x, reached)
    values: dict[int, Array] = {}
    for index in sorted(needed):
        node = program.nodes[index]
        if node.op == INPUT:
            values[index] = inputs[f"{node.value}"]
        elif node.op == CONSTANT:
            values[index] = node.value
        else:
            operands = [values[a] for a in node.args]
            values[index] = _apply(backend.xp, node.op, operands)
    return values


def _apply(xp: Namespace, op: str, operands: list[Array]) -> Array:
    if op in _OPERATORS:
        return _OPERATORS[op](*operands)
    if op == "astype":
        return xp.astype(operands[0], operands[0].dtype)
    return getattr(xp, op)(*operands)


# An operator takes numbers in any place, which the standard's functions don't all do.
_OPERATORS: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
}


def _inputs(
    backend: Backend, cell: Cell, weights: Weights, x: Array, reached: Reached
) -> dict[str, Array]:
    """Return u, v, the per-unit parameters and the states before each step, by name."""
    recurrent, saved = reached.recurrent, reached.saved
    states = [part[:-1, ...] for part in saved.trajectory.states]
    gain = weights.gains[0] if weights.gains else None
    u, _ = project(backend, weights.W, weights.b, x, gain)
    v = recurrent_projection(backend, recurrent, saved)
    arrays: dict[str, Array] = {}
    for name, whole in (("u", u), ("v", v)):
        hidden = states[0].shape[2]
        for k in range(cell.gates):
            arrays[f"{name}{k}"] = whole[..., k * hidden : (k + 1) * hidden]
    arrays |= {f"unit{k}": part for k, part in enumerate(recurrent.units)}
    return arrays | {f"state{k}": part for k, part in enumerate(states)}
