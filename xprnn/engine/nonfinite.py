"""Where the first NaN or infinity arises, in a forward pass or on the way back.

A loop, lowered or plain, leaves the same tape, and that is where it is looked for.  Nothing here
runs before a loss or a gradient is known not to be finite.
"""

from collections.abc import Mapping
from typing import NamedTuple

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.engine.architecture import Direction
from xprnn.engine.gradients import entries
from xprnn.engine.layer.layer import Steps, Tape, saved_segments
from xprnn.engine.layer.projection import project
from xprnn.engine.layer.reaching import Reached, recurrent_projection
from xprnn.engine.results import NetworkTape, Run
from xprnn.engine.stack import backward, zero_padding


class _Place(NamedTuple):
    """An entry that is not finite: of which array, at which step of those looked at."""

    array: str
    step: int
    sequence: int
    entry: int
    value: object


def first_in_forward(parameters: Mapping[str, Array], run: Run) -> str:
    """Return in words which number of a forward pass is the first that is not finite.

    Layers come before those above them, and in a layer u(t), v(t) = U h(t-1) and the state of each
    step, in the order in which the direction reads them.  Empty if every number is finite.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(1, 1, cell=xprnn.cells.Elman("identity"), bias=False, rng=0)
    >>> net.parameters["weight_hh_l0"][:] = 1e12
    >>> with np.errstate(over="ignore"):
    ...     run = net.forward(np.ones((9, 2, 1), "float32"))
    >>> first_in_forward(net.parameters, run)
    'v at step 4, unit 0, layer 0, sequence 0 (inf)'
    """
    with run.tape.backend.library.quiet():
        return _in_forward(parameters, run)


def first_on_the_way_back(
    parameters: Mapping[str, Array],
    run: Run,
    d_output: Array,
    d_state: Arrays,
    window: int | None = None,
) -> str:
    """Return in words which number of a backward pass is the first that is not finite.

    The gradient of the output comes first, then the top layer's dh(t), from the step that the
    direction reads last, and so on down.  Empty if every number is finite.
    """
    tape = run.tape
    architecture, backend = tape.architecture, tape.backend
    d_output = zero_padding(tape, d_output)
    if not backend.library.all_finite(d_output):
        return _entry(backend, "the gradient of the output", d_output)
    found: list[str] = []

    def watch(k: int, reached: Reached) -> None:
        place = _earliest(backend, {"dh": backend.xp.flip(reached.dh, axis=0)})
        if place is not None and not found:
            step = reached.steps.stop - 1 - place.step
            found.append(_in_words(tape, architecture.stack[k], place._replace(step=step)))

    gradient = backward(parameters, tape, d_output, d_state, window, watch=watch)
    if found:
        return found[0]
    for name, g in gradient.parameters.items():
        if not backend.library.all_finite(entries(g)):
            return f"the gradient of {name} (every dh is finite)"
    return ""


def _in_forward(parameters: Mapping[str, Array], run: Run) -> str:
    tape = run.tape
    architecture, backend = tape.architecture, tape.backend
    for name, array in parameters.items():
        if not backend.library.all_finite(array):
            return _entry(backend, name, array)
    for direction, layer in zip(architecture.stack, tape.layers, strict=True):
        for steps in saved_segments(architecture.cell, layer):
            place = _earliest(backend, _computed(backend, architecture.cell, layer, steps))
            if place is not None:
                step = steps.steps.start + place.step
                return _in_words(tape, direction, place._replace(step=step))
    if not backend.library.all_finite(run.output):
        return _entry(backend, "the output", run.output)
    return ""


def _computed(backend: Backend, cell: Cell, layer: Tape, at: Steps) -> dict[str, Array]:
    """Return what a layer computes in some steps, in its order."""
    gain = layer.weights.gains[0] if layer.weights.gains else None
    u, _ = project(backend, layer.weights.W, layer.weights.b, layer.x[at.steps, ...], gain)
    v = recurrent_projection(backend, cell, at.recurrent, at.saved)
    states = zip(cell.state, at.saved.trajectory.states, strict=True)
    return {"u": u, "v": v} | {name: part[1:, ...] for name, part in states}


def _earliest(backend: Backend, arrays: Mapping[str, Array]) -> _Place | None:
    """Return the first entry, by steps and then by arrays, that is not finite."""
    places = []
    for name, array in arrays.items():
        if not backend.library.all_finite(array):
            (step, sequence, entry), value = checks.first_not_finite(array, backend)
            places.append(_Place(name, step, sequence, entry, value))
    # `min` returns the first of those of the same step.
    return min(places, key=lambda place: place.step, default=None)


def _in_words(tape: NetworkTape, direction: Direction, place: _Place) -> str:
    """Return a place as a user counts: steps in time, units of a gate."""
    architecture, steps = tape.architecture, tape.x.shape[0]
    gate, unit = divmod(place.entry, direction.hidden_size)
    gates = place.array in ("u", "v") and architecture.cell.gates > 1
    step = steps - 1 - place.step if direction.reverse else place.step
    return (
        f"{place.array} at step {step}, unit {unit}{f' of gate {gate}' * gates}, "
        f"layer {direction.layer}{' reversed' * direction.reverse}, "
        f"sequence {place.sequence} ({place.value})"
    )


def _entry(backend: Backend, name: str, array: Array) -> str:
    at, value = checks.first_not_finite(array, backend)
    return f"{name}, at {at} ({value})"
