"""A forward and a backward pass over one sequence, in which every step's gradients are kept.

They are the network's own passes: `xprnn.engine` computes, layer by layer, and what comes by is
kept.  Backward, the gradient dh(t) that reaches a state is the sum of two parts::

    dh(t) = r(t) + later(t)                                           (1)
    later(t) = what step t+1 passes back, through U and directly      (2)

where r(t) comes from outside the time loop: from this step's output, and so from its loss, or from
the layer above.  With a window of k steps, ``later`` holds the losses of steps t+1 ... t+k alone.
"""

from typing import NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell
from xprnn.diagnostics.inspection.watching import Call, WatchedCell
from xprnn.engine.layer.layer import (
    Tape,
    in_one_segment,
    sweep_gradient,
    sweep_input_gradient,
    sweep_layer,
)
from xprnn.engine.layer.projection import project
from xprnn.engine.layer.weights import LayerGradient
from xprnn.engine.layer.window import Sweep
from xprnn.engine.loop.plain import PlainLoops, step_back, step_forward
from xprnn.engine.loop.protocol import Recurrent, StepGradient, Trajectory
from xprnn.engine.normalization import Normalized
from xprnn.engine.results import NetworkTape
from xprnn.engine.stack import down_the_layers


class Forth(NamedTuple):
    """The forward pass of a layer in one direction, in the order in which it reads.

    Attributes
    ----------
    x : array, (T, 1, I), or of integers, (T, 1)
    u : array, (T, 1, G·H)
    call : Call
        Of the cell's `forward`, for all steps at once: ``(u, v, state)``, blocks and units.
    states : tuple of array, (T+1, 1, H) each
    normalized : Normalized or None
        Of W x, (T, G·H), if the layer normalises.
    operand : Call or None
        Of the cell's `operand`, if it has a second product: ``(u, v, state)``.
    """

    x: Array
    u: Array
    call: Call
    states: Arrays
    normalized: Normalized | None
    operand: Call | None


class Back(NamedTuple):
    """The backward pass of a layer in one direction, in the order in which it reads.

    Attributes
    ----------
    own : tuple of array, (T, 1, H) each
        r, per state variable: from outside the loop.
    later : tuple of array, (T, 1, H) each
        From the step after, or its losses within the window.
    step : StepGradient
        Of every step: what it passes on.
    call : Call
        Of the cell's `backward`, for all steps at once: ``(saved, previous, d_state)``.
    gradient : LayerGradient
        Of the layer's parameters, over all steps.
    operand : Call or None
        Of the cell's `operand_backward`, if it has a second product: ``(saved, previous,
        d_operand)``.
    projected : array, (T, 1, P), or None
        The gradient of P h, if the layer has a projection.
    """

    own: Arrays
    later: Arrays
    step: StepGradient
    call: Call
    gradient: LayerGradient
    operand: Call | None
    projected: Array | None


def forward_again(cell: Cell, tape: Tape) -> Forth:
    """Return every quantity of a layer's forward pass, from the tape that it has left.

    ``tape`` is of one segment.
    """
    xp, weights = tape.backend.xp, tape.weights
    gain = weights.gains[0] if weights.gains else None
    u, normalized = project(tape.backend, weights.W, weights.b, tape.x, gain)
    trajectory, watched = _trajectory(tape), WatchedCell(cell)
    previous = tuple(part[:-1, ...] for part in trajectory.states)
    step_forward(xp, watched, tape.recurrent, tape.recurrent.U.T, u, None, previous)
    return Forth(tape.x, u, watched.calls[0], trajectory.states, normalized, watched.operand_call())


def backward_kept(
    tape: NetworkTape, tapes: list[Tape], dh: Array, d_state: Arrays, window: int | None
) -> tuple[list[Back], Array | None]:
    """Go back through all layers.

    Parameters
    ----------
    tape : NetworkTape
    tapes : list of Tape
        Its layers', each of one segment.
    dh : array
        The gradient of what the readout reads.
    d_state : tuple of array, (layers·D, 1, H) each
        Of the final state.
    window : int or None

    Returns
    -------
    list of Back
        In the order of the layers and directions.
    d_input : array, (T, 1, I), or None
    """
    cell = tape.architecture.cell
    steps = tape.x.shape[0]
    longest = (steps - 1) * (tape.architecture.layers if tape.architecture.bidirectional else 1)
    sweeps: list[Sweep | None] = [None] * len(tapes)
    before: list[Sweep | None] = [None] * len(tapes)
    # With a window the last round has the whole gradient.
    projected: dict[int, Array] = {}

    def whole(k: int, dh_k: Array | None, d_final: Arrays) -> Array | None:
        sweeps[k] = _all_the_way(cell, tapes[k], dh_k, d_final)
        return sweep_input_gradient(tapes[k].weights, tapes[k], _known(sweeps[k]))

    def once(k: int, dh_k: Array | None, d_final: Arrays) -> Array | None:
        before[k] = sweeps[k]
        sweeps[k] = sweep_layer(
            cell, tapes[k].weights, tapes[k], dh_k, d_final, before[k], watched=True
        )
        return sweep_input_gradient(tapes[k].weights, tapes[k], _known(sweeps[k]))

    if window is None or window >= longest:
        d_input = down_the_layers(tape, dh, d_state, whole, projected.__setitem__)
        before = list(sweeps)
    else:
        for _ in range(window + 1):
            d_input = down_the_layers(tape, dh, d_state, once, projected.__setitem__)
    return [
        _kept(cell, layer, _known(last), first, _of_every_step(layer, projected.get(k)))
        for k, (layer, last, first) in enumerate(zip(tapes, sweeps, before, strict=True))
    ], d_input


def one_segment(tape: NetworkTape) -> list[Tape]:
    """Return the layers' tapes, each of one segment."""
    return [in_one_segment(layer) for layer in tape.layers]


def _all_the_way(cell: Cell, tape: Tape, dh: Array | None, d_final: Arrays) -> Sweep:
    """Return the gradients of all steps without a window, in the form of a sweep."""
    xp, trajectory = tape.backend.xp, _trajectory(tape)
    watched = WatchedCell(cell, inside=False)
    PlainLoops(xp, watched).backward(tape.recurrent, trajectory, dh, d_final)
    arrived = [call.arguments[-1] for call in reversed(watched.calls)]
    G = tuple(xp.stack(parts) for parts in zip(*arrived, strict=True))
    direct = sweep_layer(cell, tape.weights, tape, dh, d_final, None, watched=True).direct
    return Sweep(
        _stepped(xp, cell, tape.recurrent, trajectory, G), None, direct, G, dh, d_final, None
    )


def _of_every_step(tape: Tape, dh: Array | None) -> Array | None:
    """Return a gradient of what a layer puts out, (T, 1, P); (1, P) is of the last step alone."""
    if dh is None or dh.ndim == 3:
        return dh
    xp, steps = tape.backend.xp, tape.x.shape[0]
    return xp.concat([*[xp.zeros_like(dh[None, ...])] * (steps - 1), dh[None, ...]])


def _kept(
    cell: Cell, tape: Tape, last: Sweep, before: Sweep | None, projected: Array | None
) -> Back:
    """Return what a layer's last sweep says of every step.

    ``before`` is the sweep whose gradients arrive at the step before; None: none do.
    """
    xp, trajectory = tape.backend.xp, _trajectory(tape)
    later = tuple(
        xp.zeros_like(part)
        if before is None
        else xp.concat((before.step.state[k][1:, ...], xp.zeros_like(part[:1, ...])))
        for k, part in enumerate(last.direct)
    )
    G = tuple(r + part for r, part in zip(last.direct, later, strict=True))  # (1)
    watched = WatchedCell(cell)
    step = _stepped(xp, watched, tape.recurrent, trajectory, G)
    gradient = sweep_gradient(tape.weights, tape, last)
    operand = watched.operand_call()
    return Back(last.direct, later, step, watched.calls[0], gradient, operand, projected)


def _stepped(
    xp: Namespace, cell: Cell, recurrent: Recurrent, trajectory: Trajectory, G: Arrays
) -> StepGradient:
    previous = tuple(part[:-1, ...] for part in trajectory.states)
    saved, normalized = trajectory.saved, trajectory.normalized
    return step_back(xp, cell, recurrent, saved, previous, normalized, None, G)


def _trajectory(tape: Tape) -> Trajectory:
    (segment,) = tape.segments
    assert segment.tape is not None
    return segment.tape.trajectory


def _known(swept: Sweep | None) -> Sweep:
    assert swept is not None
    return swept
