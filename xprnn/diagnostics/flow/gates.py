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
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Cell, recurrent_blocks
from xprnn.engine.layer.projection import project
from xprnn.engine.layer.reaching import Reached, recurrent_projection
from xprnn.engine.layer.weights import Weights
from xprnn.engine.loop.evaluate import evaluate
from xprnn.engine.loop.program import CONSTANT, Program
from xprnn.engine.loop.traced import formulas_of

Slope = Callable[[Namespace, Array, Array], Array]

SLOPES: dict[str, Slope] = {
    "tanh": lambda xp, y, a: 1 - y * y,  # (1), (2)
    # Of 1 / (1 + exp(±a)), which is σ as well: 4 e / (1 + e)².
    "exp": lambda xp, y, a: 4 * (y / (1 + y)) / (1 + y),  # (2)
    "atan": lambda xp, y, a: 1 / (1 + a * a),
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
) -> tuple[Array, ...] | None:
    """Return how many entries of each gate have a slope of at most ``bound``, a scalar for each.

    None if the formula can't be traced.  Entries in the padding are not counted.

    Parameters
    ----------
    x : array
        The layer's input at the steps that were reached.
    """
    formulas = formulas_of(cell)
    if formulas is None:
        return None
    program, xp = formulas.forward, backend.xp
    activations, on_tape = _found_once(program, cell.gates)
    others = [a for a, there in zip(activations, on_tape, strict=True) if there is None]
    wanted = [function.y for activation in others for function in activation]
    values: dict[int, Any] = {}
    if wanted:
        values = evaluate(xp, program, wanted, _inputs(backend, cell, weights, x, reached))
    valid, counts = reached.recurrent.valid, []
    for activation, there in zip(activations, on_tape, strict=True):
        if not activation:
            counts.append(xp.zeros((), dtype=xp.float32, device=backend.device))
            continue
        if there is not None:
            # |tanh| is so large that 1 - tanh² is at most the bound.
            y = reached.saved.trajectory.saved[there.number]
            far = abs(there.scale) * math.sqrt(1 - bound)
            outside = there.shift - far, there.shift + far
            counts.append(backend.library.count_outside(y, *outside, valid))
            continue
        slopes = [SLOPES[program.nodes[y].op](xp, values[y], values[a]) for y, a in activation]
        slope = functools.reduce(xp.minimum, slopes)
        counts.append(_count(backend, slope <= bound, valid))
    return tuple(counts)


def _count(backend: Backend, flat: Array, valid: Array | None) -> Array:
    return backend.library.count_true(flat if valid is None else flat & valid)


class OnTape(NamedTuple):
    """A tanh that a cell saves, as scale · tanh + shift: which of the saved arrays it is."""

    number: int
    scale: float
    shift: float


Places = tuple[tuple[Activation, ...], tuple[OnTape | None, ...]]

_FOUND: dict[int, tuple[Program, Places]] = {}
"""By the identities of programs, which the values keep alive: to hash one takes long, too."""


def _found_once(program: Program, gates: int) -> Places:
    """Return the activation of each gate, and where the tape has it.

    Kept, since a search takes as long as a backward pass of a small network.
    """
    known = _FOUND.get(id(program))
    if known is None:
        activations = find_activations(program, gates)
        places = activations, tuple([_on_tape(program, activation) for activation in activations])
        if len(_FOUND) >= 256:
            _FOUND.clear()
        known = _FOUND[id(program)] = program, places
    return known[1]


def _on_tape(program: Program, activation: Activation) -> OnTape | None:
    """Return where the tape has an activation that is a tanh, or made of one as σ is."""
    if len(activation) != 1 or program.nodes[activation[0].y].op != "tanh":
        return None
    forms = {activation[0].y: (1.0, 0.0)}
    for index, node in enumerate(program.nodes):
        known = [a for a in node.args if a in forms]
        numbers = [program.nodes[a].value for a in node.args if program.nodes[a].op == CONSTANT]
        if len(known) == 1 and len(numbers) == 1 and node.op in ("multiply", "add"):
            (scale, shift), number = forms[known[0]], float(numbers[0] or 0.0)
            forms[index] = (
                (scale * number, shift * number)
                if node.op == "multiply"
                else (scale, shift + number)
            )
    for k, saved in enumerate(program.outputs["saved"]):
        if saved is not None and forms.get(saved, (0.0, 0.0))[0]:
            return OnTape(k, *forms[saved])
    return None


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


def _inputs(
    backend: Backend, cell: Cell, weights: Weights, x: Array, reached: Reached
) -> dict[str, Array]:
    """Return u, v, the per-unit parameters and the states before each step, by name."""
    recurrent, saved = reached.recurrent, reached.saved
    states = [part[:-1, ...] for part in saved.trajectory.states]
    gain = weights.gains[0] if weights.gains else None
    u, _ = project(backend, weights.W, weights.b, x, gain)
    v = recurrent_projection(backend, cell, recurrent, saved)
    arrays: dict[str, Array] = {}
    for name, whole, blocks in (("u", u, cell.gates), ("v", v, recurrent_blocks(cell))):
        hidden = states[0].shape[2]
        for k in range(blocks):
            arrays[f"{name}{k}"] = whole[..., k * hidden : (k + 1) * hidden]
    arrays |= {f"unit{k}": part for k, part in enumerate(recurrent.units)}
    return arrays | {f"state{k}": part for k, part in enumerate(states)}
